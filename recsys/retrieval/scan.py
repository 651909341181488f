"""Exact first stage: a scan over the prefix of every item.

Shape legend: B users, N items, C items of a chunk, d coordinates of the prefix.
"""

from __future__ import annotations

import os
from functools import cached_property

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.kernels.row_products import add_neighbours, padded
from recsys.kernels.running_lists import (
    Lists,
    enter_chunk,
    enter_scores,
    make_lists,
    taken_of,
)
from recsys.kernels.threads import in_parts
from recsys.retrieval.bundle.tiers import Tiers
from recsys.retrieval.codecs.base import blocks_of
from recsys.retrieval.filters import Filters
from recsys.retrieval.tier_products import StoredRows, stored_of

_CHUNK = 2048
_ELEMENTS = 1 << 19
"""Coordinates of a chunk that is larger because few users share it."""
_SCORES = 1 << 15
"""Items whose scores are held at once where rows are read as they are stored."""
FEW = 6
"""Users for whom that is faster than a product of matrices."""


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
        (Cauchy and Schwarz); a little more for factors, for scales that are multiplied with the
        coordinates or with the sum, and for what is too small for float32.
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
        lists, tier = make_lists(len(users), keep), self.tiers.parts[0]
        stored = None
        if tier.spec.hi >= self.size:
            stored = stored_of(tier.vectors, 0, self.size, users)
        if stored is None or len(users) > FEW:
            self._multiply(users, stored, lists, filters)
        else:
            self._read(stored, lists, filters)
        return taken_of(lists, self.threads)

    def _read(self, stored: StoredRows, lists: Lists, filters: Filters) -> None:
        """Reads the rows as they are stored: nothing is decoded, no product of matrices made."""
        norms = np.empty(0, np.float32) if self._norms is None else np.asarray(self._norms)
        hiding = (filters.hidden, filters.seen, filters.offsets)
        users, rows = stored.users, (stored.rows, stored.dim, 0, stored.users)
        for start in range(0, len(self.tiers), _SCORES):
            sums = np.zeros((len(users), min(_SCORES, len(self.tiers) - start)), np.float32)
            add_neighbours(*rows, start, stored.scales, sums, self.threads)
            chunk = (start, sums, norms, *hiding, *lists.arguments)
            in_parts(enter_scores, len(users), self.threads, *chunk)

    def _multiply(
        self, users: Float32, stored: StoredRows | None, lists: Lists, filters: Filters
    ) -> None:
        """Decodes chunks of rows and multiplies matrices."""
        slack, none = self.slack_of(users), np.empty(0, np.float32)
        hiding = (filters.hidden, filters.seen, filters.offsets)
        many = max(_CHUNK, _ELEMENTS // (self.size * max(1, len(users))))
        for lo in range(0, len(self.tiers), many):
            rows = slice(lo, min(lo + many, len(self.tiers)))
            vectors = self.tiers.decode(rows, 0, self.size)
            near = users @ vectors.T
            norms = none if self._norms is None else np.array(self._norms[rows])
            factors = none if self._norms is None else np.float32(1) / norms
            if stored is None:
                whole = padded(vectors)
                exact = (whole.ravel(), whole.shape[1], lo, padded(users), none)
            else:
                exact = (stored.rows, stored.dim, 0, stored.users, stored.scales)
            chunk = (lo, near, slack, factors, norms, *exact)
            in_parts(enter_chunk, len(users), self.threads, *chunk, *hiding, *lists.arguments)
