"""How the interpreter of a worker shares its time and keeps its memory."""

from __future__ import annotations

import ctypes
import gc
import sys

_SWITCH = 0.001


def settle() -> None:
    """Sets up a process that does nothing but serve, once everything is open.

    What is alive stays alive, so the garbage collector need not walk over it again. A thread keeps
    others from running Python for a millisecond at most: the usual five are long beside an answer.
    """
    sys.setswitchinterval(_SWITCH)
    gc.collect()
    gc.freeze()


def give_back() -> None:
    """Frees what only cycles hold, and returns what the allocator keeps for later.

    A version that is opened while another one serves needs memory twice; without this, glibc keeps
    the second half for good. Other C libraries have no such call, and nothing is done there.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
