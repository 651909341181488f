"""Requests whose candidates are to be ranked.

Shape legend: Q requests, K candidates, D coordinates, L last items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.arrays import Bool, Float32, Int64
from recsys.data.histories import Histories, jagged_positions
from recsys.data.read_only import freeze_arrays


@dataclass(frozen=True)
class Requests:
    """Users, what they had, and what the funnel found for them."""

    vectors: Float32
    """`[Q, D]` user vectors, as the funnel searched with them."""
    histories: Histories
    """Of the Q users; `users` are indices, -1 of those who are unknown."""
    candidates: Int64
    """`[Q, K]` items in the funnel's order, -1 behind the end of a list."""
    moments: Int64 | None = None
    """`[Q]` when each request is made; None: not known."""

    def __post_init__(self) -> None:
        freeze_arrays(self, "vectors", "candidates", "moments")

    def __len__(self) -> int:
        return len(self.candidates)

    @property
    def present(self) -> Bool:
        """`[Q, K]` where there is a candidate."""
        return self.candidates >= 0

    def rows(self, rows: Int64) -> Requests:
        """Some of them, in that order."""
        return Requests(
            self.vectors[rows],
            self.histories.rows(rows),
            self.candidates[rows],
            None if self.moments is None else self.moments[rows],
        )


def recent_items(histories: Histories, last: int) -> Int64:
    """`[Q, L]` items of each history, the most recent first, -1 behind the end; L <= `last`."""
    ends, lengths = histories.offsets[1:], np.minimum(histories.lengths, last)
    found = np.full((len(histories), int(lengths.max(initial=0))), -1, np.int64)
    rows = np.repeat(np.arange(len(histories)), lengths)
    positions, offsets = jagged_positions(ends - lengths, ends)
    places = offsets[rows + 1] - 1 - np.arange(len(positions))
    found[rows, places] = histories.items[positions]
    return found
