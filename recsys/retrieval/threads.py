"""Compiled work on several threads, each with rows of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any


def parts_of(count: int, threads: int, unit: int = 1) -> list[tuple[int, int]]:
    """At most `threads` ranges that cover `0..count-1`, all but the last multiples of `unit`."""
    units = -(-count // unit)
    pieces = min(threads, units)
    edges = [min(i * units // pieces * unit, count) for i in range(pieces)] + [count]
    return list(pairwise(edges)) if pieces else []


def in_parts(
    task: Callable[..., None], count: int, threads: int, *arguments: Any, unit: int = 1
) -> None:
    """Calls `task((lo, hi), *arguments)` for parts of `0..count-1`, at once."""
    parts = parts_of(count, threads, unit)
    if len(parts) < 2:
        for part in parts:
            task(part, *arguments)
        return
    for done in [_pool(threads).submit(task, part, *arguments) for part in parts]:
        done.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="recsys-search")
