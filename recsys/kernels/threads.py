"""The thread pool of all compiled code, and the number of threads of torch and numpy.

The kernels let go of the interpreter's lock, so Python's own threads will do. numba's are not
used: starting them resets torch's number of threads, and with it the bits of every later sum.

Threads do not live on in a forked process, as of a server that loads a bundle, searches once and
then forks its workers: each forked process makes a pool of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Any

Part = tuple[int, int]


def parts_of(count: int, threads: int, unit: int = 1) -> list[Part]:
    """At most `threads` ranges that cover `0..count-1`, all but the last multiples of `unit`."""
    units = -(-count // unit)
    pieces = min(threads, units)
    edges = [min(i * units // pieces * unit, count) for i in range(pieces)] + [count]
    return list(pairwise(edges)) if pieces else []


def shares(num_parts: int) -> list[Part]:
    """`[first, last)` of the parts for each thread: as many as torch uses; one at least."""
    import torch  # searches share this pool, and need no torch

    return parts_of(num_parts, max(1, torch.get_num_threads())) or [(0, 0)]


@contextmanager
def limited(number: int | None) -> Iterator[None]:
    """Threads of torch and of numpy's products meanwhile; None: as many as torch has, for both.

    numpy's BLAS has threads of its own, which torch's number does not reach, and its sums round
    otherwise with more of them. (Accelerate, of macOS, cannot be told.)
    """
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        with threadpool_limits(number or before, "blas"):
            yield
    finally:
        torch.set_num_threads(before)


def run_shares(task: Callable[[int, Part], None], parts: list[Part]) -> None:
    """Calls `task(number, part)` for every part, at once; an error of one is raised here."""
    if not parts:
        return
    others = [_pool().submit(task, i, part) for i, part in enumerate(parts) if i]
    task(0, parts[0])
    for other in others:
        other.result()


def in_parts(
    task: Callable[..., None], count: int, threads: int, *arguments: Any, unit: int = 1
) -> None:
    """Calls `task((lo, hi), *arguments)` for parts of `0..count-1`, at once."""
    if count and (threads == 1 or count <= unit):  # a single user must not wait for more
        task((0, count), *arguments)
        return
    run_shares(lambda _, part: task(part, *arguments), parts_of(count, threads, unit))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="recsys")


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_pool.cache_clear)
