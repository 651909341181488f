"""Exact first stage: a scan over the prefix of every item.

Shape legend: B users, N items, C items of a chunk, d coordinates of the prefix.
"""

from __future__ import annotations

import os
from functools import cached_property

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.kernels.row_products import padded
from recsys.kernels.running_lists import enter_chunk, make_lists, taken_of
from recsys.kernels.threads import in_parts
from recsys.retrieval.bundle.tiers import Tiers
from recsys.retrieval.codecs.base import blocks_of
from recsys.retrieval.filters import Filters

_CHUNK = 2048
_ELEMENTS = 1 << 19
"""Coordinates of a chunk that is larger because few users share it."""


class Scan:
    """Exact first stage: scores the prefix of every item."""

    def __init__(self, tiers: Tiers, size: int, norms: Float32 | None, threads: int | None) -> None:
        """Prepares nothing yet: a funnel over an index seldom scans.

        Args:
            tiers: of the items.
            size: d.
            norms: `[N]` of the prefixes, where scores are cosines.
            threads: None: all cores.
        """
        self.tiers, self.size = tiers, size
        self.threads = threads or os.cpu_count() or 1
        self._norms = norms

    @property
    def extra_bytes(self) -> int:
        """Bytes in memory beside the tiers: norms, all of which every search reads."""
        return 0 if self._norms is None else self._norms.nbytes

    @property
    def multiply_adds(self) -> int:
        """For one user."""
        return len(self.tiers) * self.size

    @cached_property
    def longest(self) -> float:
        """The largest norm of a prefix, over the norm it is divided by."""
        largest = 0.0
        for rows in blocks_of(len(self.tiers)):
            stored = self.tiers.decode(rows, 0, self.size).astype(np.float64)
            norms = np.linalg.norm(stored, axis=1)
            norms /= 1 if self._norms is None else self._norms[rows]
            largest = max(largest, float(norms.max()))
        return largest

    def slack_of(self, users: Float32) -> Float32:
        """`[B]` how far two sums of the same products may be from each other, whatever their order.

        Each is off by d 2^-24 of the sum of the products' sizes at most, which the norms bound
        (Cauchy and Schwarz); a little more for factors, and for what is too small for float32.
        """
        lengths = np.linalg.norm(users.astype(np.float64), axis=1)
        slack = (2 * self.size + 8) * 2.0**-24 * 1.001 * self.longest * lengths
        rounded: Float32 = (slack + self.size * 2.0**-148).astype(np.float32)
        return rounded

    def find(self, users: Float32, keep: int, filters: Filters) -> Int64:
        """`[B, <= keep]` the best items, in no order, -1 behind the end of a list.

        Args:
            users: `[B, d]`.
            keep: how many.
            filters: of these users.
        """
        lists, slack, own = make_lists(len(users), keep), self.slack_of(users), padded(users)
        hiding = (filters.hidden, filters.seen, filters.offsets)
        many = max(_CHUNK, _ELEMENTS // (self.size * max(1, len(users))))
        for lo in range(0, len(self.tiers), many):
            rows = slice(lo, min(lo + many, len(self.tiers)))
            vectors = self.tiers.decode(rows, 0, self.size)
            near = users @ vectors.T
            none = np.empty(0, np.float32)
            norms = none if self._norms is None else np.array(self._norms[rows])
            factors = none if self._norms is None else np.float32(1) / norms
            chunk = (rows.start, near, slack, factors, norms, padded(vectors).ravel(), own.ravel())
            in_parts(enter_chunk, len(users), self.threads, *chunk, *hiding, *lists.arguments)
        return taken_of(lists, self.threads)
