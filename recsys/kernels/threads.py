"""Runs a compiled kernel on several threads, each with its own part of the work.

The kernels let go of the interpreter's lock, so Python's own threads will do. numba's are not
used: starting them resets torch's number of threads, and with it the bits of every later sum.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def shares(num_parts: int) -> list[tuple[int, int]]:
    """`[first, last)` of the parts for each thread: as many as torch uses, none of them empty."""
    count = max(1, min(torch.get_num_threads(), num_parts))
    return [(i * num_parts // count, (i + 1) * num_parts // count) for i in range(count)]


def run_shares(task: Callable[[int, tuple[int, int]], None], parts: list[tuple[int, int]]) -> None:
    """Calls `task(number, part)` for every part, at once; an error of one is raised here."""
    if len(parts) == 1:
        task(0, parts[0])
        return
    others = [_pool(len(parts) - 1).submit(task, i, part) for i, part in enumerate(parts) if i]
    task(0, parts[0])
    for other in others:
        other.result()


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    # Threads do not live on in a forked process: it makes a pool of its own.
    os.register_at_fork(after_in_child=_pool.cache_clear)
    return ThreadPoolExecutor(size, thread_name_prefix="recsys")
