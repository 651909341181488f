"""Scans by matrix tiles, and how few items have to enter a list on the way.

Shape legend: B users, N items, d coordinates of the prefix, D of a stored row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.kernels.threads import in_parts, parts_of
from recsys.retrieval.encoding import Float32
from recsys.retrieval.filters import Filters, Int64, rows_of
from recsys.retrieval.listing import USERS_AT_ONCE, Lists, join, make_lists, taken_of, worst_of
from recsys.retrieval.tiles import ITEMS, configuration, depth_of, pack_users, scan_tiles

_scan_tiles: Any = scan_tiles  # numba's own types take it for a function of few arguments
_IN_SAMPLE = 16
_FEWEST = 32
_SPARSEST = 64


class TileScan:
    """Scores the int8 prefix of every item."""

    def __init__(
        self,
        codes: npt.NDArray[np.int8],
        size: int,
        factors: Float32 | None,
        longest: float,
        threads: int,
    ) -> None:
        """Makes a scan.

        Args:
            codes: `[N, D]`.
            size: d.
            factors: `[N]` what the items' sums are multiplied by; None: 1.
            longest: no item's prefix of codes has a larger norm, times its factor.
            threads: of the scan.
        """
        self.codes, self.size, self.factors, self.threads = codes, size, factors, threads
        self.longest = longest

    def find(self, users: npt.NDArray[np.int16], keep: int, filters: Filters) -> Int64:
        """`[B, keep]` the best items of `users [B, d]`, in no order, -1 behind the end.

        A sample of the items tells a score that somewhat more than `keep` of all items exceed:
        the lists begin there, so most of what enters stays. Rows for which fewer do are done
        again from nothing: what is found does not depend on the sample.
        """
        every, wanted = sample_of(len(self.codes), keep)
        if every == 1:
            return taken_of(self._scan(users, make_lists(len(users), keep), filters), self.threads)
        sample = self._scan(users, make_lists(len(users), wanted), filters, every)
        lists = make_lists(len(users), keep, worst_of(sample))
        taken = taken_of(self._scan(users, lists, filters), self.threads)
        short = np.flatnonzero((taken < 0).any(axis=1))
        if len(short):
            again = make_lists(len(short), keep)
            own = self._scan(users[short], again, rows_of(filters, short))
            taken[short] = taken_of(own, self.threads)
        return taken

    def _scan(
        self, users: npt.NDArray[np.int16], lists: Lists, filters: Filters, every: int = 1
    ) -> Lists:
        """Lets every such item enter the lists.

        Threads take users of their own; few users are searched among items of their own.
        """
        (packed, left), count = pack_users(users), -(-len(self.codes) // every)
        # A little more than the bound, for what float32 rounds.
        given = (users.reshape(-1), packed, left * np.float32(1.001 * self.longest))
        if len(users) > USERS_AT_ONCE * (self.threads - 1):

            def task(rows: tuple[int, int]) -> None:
                self._span(rows, (0, count), given, lists, filters, every)

            in_parts(task, len(users), self.threads, unit=USERS_AT_ONCE)
            return lists
        spans = parts_of(count, self.threads, ITEMS)
        floors = lists.floors[: len(users)]
        parts = [make_lists(len(users), lists.keep, floors) for _ in spans]

        def own(part: tuple[int, int]) -> None:
            into = parts[part[0]]
            self._span((0, len(users)), spans[part[0]], given, into, filters, every)

        in_parts(own, len(spans), self.threads)
        return join(parts)

    def _span(
        self,
        rows: tuple[int, int],
        span: tuple[int, int],
        given: tuple[Any, ...],
        lists: Lists,
        filters: Filters,
        every: int,
    ) -> None:
        dim, depth = self.codes.shape[1], depth_of(self.size)
        whole = span[0] + (span[1] - span[0]) // ITEMS * ITEMS
        for first, last in ((span[0], whole), (whole, span[1])):
            if first == last:
                continue
            codes, apart = self.codes[first * every : last * every], dim * every
            if first == whole:  # tiles would read behind the end
                codes, apart = np.zeros((ITEMS, dim), np.int8), dim
                codes[: last - first] = self.codes[first * every : last * every : every]
            factors = self._factors(slice(first * every, last * every, every), last - first)
            _scan_tiles(
                rows, first * every, every, last - first, codes.reshape(-1),
                (apart, self.size // depth, depth), *given, configuration(depth), factors,
                *lists.arguments(filters),
            )  # fmt: skip

    def _factors(self, rows: slice, count: int) -> Float32:
        """Of the items `rows`, and of nothing behind them: zeros, which a tile may look at."""
        if self.factors is not None and rows.step == 1 and count % ITEMS == 0:
            return self.factors[rows]
        factors = np.zeros(-(-count // ITEMS) * ITEMS, np.float32)
        factors[:count] = 1 if self.factors is None else self.factors[rows]
        return factors


def sample_of(num_items: int, keep: int) -> tuple[int, int]:
    """Which items are the sample (every so-and-so many; 1: none), and which best score counts.

    About 16 of the best `keep` are in the sample; the score is that of 2.5 standard deviations
    more, so of about one row in a hundred too few items exceed it.
    """
    every = min(keep // _IN_SAMPLE, _SPARSEST)
    if every < 2 or num_items < _FEWEST * keep:
        return 1, keep
    expected = keep / every
    return every, int(np.ceil(expected + 2.5 * expected**0.5 + 2))
