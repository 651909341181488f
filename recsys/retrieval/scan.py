"""The first stage without an index: every item is scored, in chunks that stay in the cache.

Shape legend: B users, N items, C items of a chunk, d coordinates of the prefix.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.retrieval.encoding import Encoded, Float32
from recsys.retrieval.filters import Filters, Int64
from recsys.retrieval.tiers import Tiers

_CHUNK = 4096
_FLOAT_CHUNK = 2048
_ROOM = 256
_USERS_AT_ONCE = 4
_ITEMS_AT_ONCE = 64
_SUM_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Lists:
    """Running lists of the best items of each row; `kernel` fills them."""

    scores: Float32
    """`[B, L]`."""
    items: Int64
    """`[B, L]`."""
    counts: Int64
    """`[B]` how many there are."""
    floors: Float32
    """`[B rounded up to 4]` what a score must exceed to enter; inf behind B."""
    keep: int

    def taken(self) -> Int64:
        """`[B, <= keep]` the best of each row in no order, -1 behind the end of a list."""
        places = np.arange(self.scores.shape[1])
        scores = np.where(places < self.counts[:, None], self.scores, -np.inf)
        # Stable, so that of equal scores the lower items are taken, which stand first.
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self.keep]
        listed = np.take_along_axis(self.items, order, axis=1)
        return np.where(order < self.counts[:, None], listed, -1)


def make_lists(num_users: int, keep: int) -> Lists:
    """Empty lists."""
    floors = np.full(-(-num_users // _USERS_AT_ONCE) * _USERS_AT_ONCE, np.inf, np.float32)
    floors[:num_users] = -np.inf
    shape = (num_users, keep + max(_ROOM, keep // 2))
    return Lists(
        np.empty(shape, np.float32),
        np.empty(shape, np.int64),
        np.zeros(num_users, np.int64),
        floors,
        keep,
    )


class Scan:
    """Scores the prefix of every item."""

    def __init__(self, tiers: Tiers, size: int, norms: Float32 | None, threads: int | None) -> None:
        """Prepares the items' factors.

        Args:
            tiers: of the items.
            size: d.
            norms: `[N]` of the prefixes, where scores are cosines.
            threads: None: all cores.
        """
        self.tiers, self.size = tiers, size
        self.threads = threads or os.cpu_count() or 1
        first = tiers.parts[0].vectors
        self.codes = first if _is_int8(first) and size <= first.dim else None
        factors = None if self.codes is None else self.codes.rows.get("scales")
        if norms is not None:
            factors = np.float32(1) / norms if factors is None else factors / norms
        self.factors: Float32 | None = None if factors is None else np.asarray(factors)

    @property
    def extra_bytes(self) -> int:
        """Bytes in memory beside the tiers."""
        borrowed = self.codes is not None and self.factors is self.codes.rows.get("scales")
        return 0 if self.factors is None or borrowed else self.factors.nbytes

    @property
    def multiply_adds(self) -> int:
        """For one user."""
        return len(self.tiers) * self.size

    def find(self, users: Float32, keep: int, filters: Filters) -> Int64:
        """`[B, <= keep]` the best items, in no order, -1 behind the end of a list.

        Args:
            users: `[B, d]`.
            keep: how many.
            filters: of these users.
        """
        lists = make_lists(len(users), keep)
        if self.codes is None:
            self._scan_floats(users, lists, filters)
        else:
            self._scan_codes(users, lists, filters, self.codes)
        return lists.taken()

    def _factors(self, rows: slice, room: int) -> Float32:
        """The factors of a chunk, padded to `room`."""
        factors = np.zeros(room, np.float32)
        count = rows.stop - rows.start
        factors[:count] = 1 if self.factors is None else self.factors[rows]
        return factors

    def _scan_codes(self, users: Float32, lists: Lists, filters: Filters, codes: Encoded) -> None:
        from recsys.retrieval.kernel import pack, scan_codes

        if "scales" in codes.shared:
            users = users * codes.shared["scales"][: self.size]
        pairs = (self.size + 1) // 2
        wide = np.zeros((len(lists.floors), 2 * pairs), np.int16)
        wide[: len(users), : self.size] = _rounded(users)
        for rows in _chunks(len(self.tiers), _CHUNK):
            count = rows.stop - rows.start
            blocks = -(-count // _ITEMS_AT_ONCE)
            packed = np.empty((blocks, pairs, _ITEMS_AT_ONCE, 2), np.int16)
            pack(np.asarray(codes.rows["codes"][rows]), self.size, packed)
            factors = self._factors(rows, blocks * _ITEMS_AT_ONCE)

            def task(part: tuple[int, int], *chunk: Any) -> None:
                scan_codes(part, *chunk, *_listed(lists, filters))

            chunk = (rows.start, count, packed.ravel(), pairs, wide.ravel(), factors)
            _in_parts(task, chunk, len(users), self.threads)

    def _scan_floats(self, users: Float32, lists: Lists, filters: Filters) -> None:
        from recsys.retrieval.kernel import scan_scores

        def task(part: tuple[int, int], *chunk: Any) -> None:
            scan_scores(part, *chunk, *_listed(lists, filters))

        for rows in _chunks(len(self.tiers), _FLOAT_CHUNK):
            scores = users @ self.tiers.decode(rows, 0, self.size).T
            factors = self._factors(rows, rows.stop - rows.start)
            _in_parts(task, (rows.start, scores, factors), len(users), self.threads)


def _is_int8(vectors: Encoded) -> bool:
    return vectors.codec.name in ("int8", "int8-coordinate")


def _rounded(users: Float32) -> npt.NDArray[np.int16]:
    """Each row as int16 of its own step, small enough that no sum of products overflows."""
    levels = min(32_767, _SUM_LIMIT // (128 * users.shape[1]))
    peaks = np.abs(users).max(axis=1, keepdims=True).clip(np.finfo(np.float32).tiny)
    rounded: npt.NDArray[np.int16] = np.rint(users / peaks * levels).astype(np.int16)
    return rounded


def _listed(lists: Lists, filters: Filters) -> tuple[Any, ...]:
    return (
        *(filters.hidden, filters.seen, filters.offsets, lists.keep),
        *(lists.scores, lists.items, lists.counts, lists.floors),
    )


def _chunks(num_rows: int, size: int) -> list[slice]:
    return [slice(lo, min(lo + size, num_rows)) for lo in range(0, num_rows, size)]


def _in_parts(
    task: Callable[..., None], chunk: tuple[Any, ...], num_users: int, threads: int
) -> None:
    """Calls `task(part, *chunk)` for parts of the users, at once."""
    tiles = -(-num_users // _USERS_AT_ONCE)
    count = min(threads, tiles)
    edges = [min(i * tiles // count * _USERS_AT_ONCE, num_users) for i in range(count)]
    parts = list(zip(edges, [*edges[1:], num_users], strict=True))
    if len(parts) < 2:
        for part in parts:
            task(part, *chunk)
        return
    for done in [_pool(threads).submit(task, part, *chunk) for part in parts]:
        done.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="recsys-scan")
