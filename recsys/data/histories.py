"""Jagged histories: the items of each user in the order of time.

Shape legend: B users in the batch, T interactions of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from recsys.arrays import Float32, Int32, Int64
from recsys.data.dataset import Dataset
from recsys.data.read_only import freeze_arrays

if TYPE_CHECKING:
    import scipy.sparse as sp

_COUNTED_AT_ONCE = 1 << 20
"""Interactions, about (histories are not cut)."""


@dataclass(frozen=True)
class Histories:
    """Histories of B users, oldest interaction first, without padding.

    The arrays are read-only: whoever needs another order or distinct items makes a copy.
    """

    users: Int64
    """`[B]` user indices."""
    items: Int32
    """`[T]` item indices."""
    offsets: Int64
    """`[B + 1]`: the history of row b is `items[offsets[b]:offsets[b + 1]]`."""
    timestamps: Int64 | None = None
    """`[T]`, where the data set has them."""
    asked_at: Int64 | None = None
    """`[B]` the time of each request: when the item after the history is asked for. In training and
    evaluation it is the time of that item; None: nobody said."""
    added: Float32 | None = None
    """`[B, D]` what is added to each user's vector: what the columns that came with a request tell
    of the user beside the history; None: nothing."""

    def __post_init__(self) -> None:
        freeze_arrays(self, "users", "items", "offsets", "timestamps", "asked_at", "added")

    def __len__(self) -> int:
        return len(self.users)

    @property
    def lengths(self) -> Int64:
        """`[B]` number of interactions of each row."""
        return np.diff(self.offsets)

    def last(self, length: int) -> Histories:
        """The most recent `length` interactions of each row."""
        hi = self.offsets[1:]
        lo = np.maximum(self.offsets[:-1], hi - length)
        items, offsets, times = self._cut(lo, hi)
        return Histories(self.users, items, offsets, times, self.asked_at, self.added)

    def rows(self, rows: Int64) -> Histories:
        """The histories in `rows [B']`, in that order."""
        lo, hi = self.offsets[rows], self.offsets[rows + 1]
        asked_at = None if self.asked_at is None else self.asked_at[rows]
        added = None if self.added is None else self.added[rows]
        return Histories(self.users[rows], *self._cut(lo, hi), asked_at, added)

    def at(self, asked_at: Int64 | None) -> Histories:
        """The same, asked for at these times `[B]`."""
        return replace(self, asked_at=asked_at)

    def _cut(self, lo: Int64, hi: Int64) -> tuple[Int32, Int64, Int64 | None]:
        """Items, offsets and timestamps of the ranges `[lo[i], hi[i])`."""
        positions, offsets = jagged_positions(lo, hi)
        times = None if self.timestamps is None else self.timestamps[positions]
        return self.items[positions], offsets, times

    def to_csr(self, num_items: int) -> sp.csr_matrix:
        """`[B, num_items]` float32, 1 where the user has the item (repetitions count once)."""
        import scipy.sparse as sp  # of the extra `train`: data sets are read without it

        matrix = sp.csr_matrix(
            (np.ones(len(self.items), np.float32), self.items, self.offsets),
            shape=(len(self), num_items),
            copy=True,
        )
        matrix.sum_duplicates()  # in place
        matrix.data[:] = 1.0
        return matrix


def select(dataset: Dataset, users: Int64, lo: Int64, hi: Int64) -> Histories:
    """Histories of `users` cut to `[lo[i], hi[i])`, positions into `dataset.items`."""
    positions, offsets = jagged_positions(lo, hi)
    items = dataset.items_at(positions)
    return Histories(users, items, offsets, dataset.timestamps_at(positions))


def everyone(dataset: Dataset, *, timed: bool = False) -> Histories:
    """All that the data set holds of each user; `timed`: asked for when the data ends."""
    everything = Histories(
        np.arange(dataset.num_users), dataset.items, dataset.offsets, dataset.timestamps
    )
    if dataset.timestamps is None or not timed:
        return everything
    return everything.at(np.full(dataset.num_users, dataset.timestamps.max()))


def item_counts(dataset: Dataset, lo: Int64, hi: Int64) -> Int64:
    """`[N]` how often each item stands in any of the ranges `[lo[i], hi[i])`, piece by piece."""
    counts = np.zeros(dataset.num_items, dtype=np.int64)
    part = (np.cumsum(hi - lo) - 1) // _COUNTED_AT_ONCE
    edges = np.flatnonzero(np.diff(part, prepend=-1, append=-1))
    for first, last in pairwise(edges):
        positions, _ = jagged_positions(lo[first:last], hi[first:last])
        counts += np.bincount(dataset.items_at(positions), minlength=len(counts))
    return counts


def jagged_positions(lo: Int64, hi: Int64) -> tuple[Int64, Int64]:
    """All integers of the ranges `[lo[i], hi[i])` one after another, and the rows' offsets."""
    lengths = hi - lo
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    positions = np.arange(offsets[-1]) + np.repeat(lo - offsets[:-1], lengths)
    return positions, offsets
