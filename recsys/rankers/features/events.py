"""Interactions of every item by time: how many there were before a moment.

Shape legend: N items, T interactions, R pairs of an item and a moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recsys.arrays import Int64
from recsys.data.read_only import freeze_arrays
from recsys.errors import DataError

_MOST = 1 << 62


@dataclass(frozen=True)
class Events:
    """Times of all known interactions."""

    offsets: Int64
    """`[N + 1]`: item i was taken at `times[offsets[i]:offsets[i + 1]]`."""
    times: Int64
    """`[T]` ascending within each item."""

    def __post_init__(self) -> None:
        freeze_arrays(self, "offsets", "times")

    @property
    def end(self) -> int:
        """The first moment after all of them."""
        return int(self.times.max(initial=0)) + 1

    def before(self, items: Int64, moments: Int64) -> Int64:
        """`[R]` how many interactions of `items [R]` there were before `moments [R]`."""
        start, span, keys = self._keys
        wanted = items * span + (moments - start).clip(0, span - 1)
        found: Int64 = np.searchsorted(keys, wanted, side="left") - self.offsets[items]
        return found

    def at(self, items: Int64, places: Int64) -> Int64:
        """`[R]` times of the interaction in place `places [R]` of each item."""
        found: Int64 = self.times[(self.offsets[items] + places).clip(0, len(self.times) - 1)]
        return found

    @cached_property
    def _keys(self) -> tuple[int, int, Int64]:
        """First time, length of time, and one ascending number for each interaction `[T]`."""
        start = int(self.times.min(initial=0)) if len(self.times) else 0
        span = self.end - start + 1
        if span * len(self.offsets) > _MOST:
            raise DataError(
                f"times from {start} to {self.end} are too far apart for {len(self.offsets) - 1:,} "
                "items; give times in seconds"
            )
        owners = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        return start, span, owners * span + (self.times - start)


def make_events(items: Int64, times: Int64, num_items: int) -> Events:
    """Orders interactions `[T]` by item, then by time."""
    order = np.lexsort((times, items))
    counts = np.bincount(items, minlength=num_items)
    return Events(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), times[order])
