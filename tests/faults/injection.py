"""One fault of the system in this process: the n-th thing done to files under a folder fails.

Python's audit hooks see files opened and names changed before it happens; what libraries in C, C++
and Rust write is met by a limit on the size of files.
"""

import errno
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

KINDS = ("full", "short", "denied", "read-only", "killed", "file")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = {"os.mkdir", "os.rename", "os.symlink", "os.truncate"}
_REMOVALS = {"os.remove", "os.rmdir"}


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and when."""

    kind: str
    after: int
    """So many things are done before; short: bytes a file may have."""

    @classmethod
    def random(cls, rng: Random) -> "Fault":
        kind = rng.choice(KINDS)
        return cls(kind, int(2 ** rng.uniform(0, 16)) if kind == "short" else rng.randrange(40))

    def arm(self, folder: Path) -> None:
        """From now on; in this process, and for good."""
        if self.kind == "short":
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.after, self.after))
        elif self.kind != "file":
            sys.addaudithook(_Hook(self, folder))


class _Hook:
    def __init__(self, fault: Fault, folder: Path) -> None:
        self._fault, self._folder, self._left = fault, str(folder), fault.after

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self._is_meant(event, arguments):
            return
        self._left -= 1
        if self._left >= 0:
            return
        if self._fault.kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        numbers = {"full": errno.ENOSPC, "denied": errno.EACCES, "read-only": errno.EROFS}
        number = numbers[self._fault.kind]
        raise OSError(number, os.strerror(number), str(arguments[0]))

    def _is_meant(self, event: str, arguments: tuple) -> bool:
        known = {"open", *_CHANGES, *_REMOVALS}
        if event not in known or not isinstance(arguments[0], str | bytes | Path):
            return False
        if not str(Path(os.fsdecode(arguments[0])).absolute()).startswith(self._folder):
            return False
        if event == "open":
            mode, flags = arguments[1] or "", arguments[2] or 0
            written = bool(flags & _WRITING) or any(letter in mode for letter in "wax+")
            return written or self._fault.kind == "denied"
        return event in _CHANGES or self._fault.kind != "full"
