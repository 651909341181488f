"""Filters that are part of the search: a list asked for with K items has K, if so many are left.

Shape legend: B users, N items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.errors import DataError

Int64 = npt.NDArray[np.int64]

_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class Filters:
    """What may not be found; `make_filters` makes them."""

    hidden: npt.NDArray[np.uint8]
    """`[N]`, 1: nobody shall get it; or empty."""
    seen: Int64
    """Items each row has had, ascending within the row; empty where none has any."""
    offsets: Int64
    """`[B + 1]`: those of row b are `seen[offsets[b]:offsets[b + 1]]`."""
    repeats: Mapping[int, float] | None = None
    """By granularity, what is added to the score of what a row has had, which is then found like
    anything else (empty: nothing is added); None: it is not found."""

    def added(self, size: int) -> float:
        """`repeats` at any granularity: between two, interpolated by the logarithm of the size."""
        if not self.repeats:
            return 0.0
        sizes = sorted(self.repeats)
        values = [self.repeats[known] for known in sizes]
        return float(np.interp(np.log(size), np.log(sizes), values))

    def returning(self) -> tuple[Int64, Int64]:
        """Rows and items, by row, that may be found again."""
        rows, items = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets)), self.seen
        if len(self.hidden):
            shown = self.hidden[items] == 0
            rows, items = rows[shown], items[shown]
        return rows, items

    def num_left(self, num_items: int) -> Int64:
        """`[B]` how many items a row can still get."""
        shown = num_items - int(self.hidden.sum())
        lengths = np.diff(self.offsets)
        if not len(self.hidden) or not len(self.seen):
            return np.asarray(shown - lengths)
        counted = np.concatenate([[0], np.cumsum(self.hidden[self.seen] == 0)])
        left: Int64 = shown - (counted[self.offsets[1:]] - counted[self.offsets[:-1]])
        return left


def make_filters(
    num_users: int,
    num_items: int,
    *,
    seen: tuple[npt.NDArray[np.integer], Int64] | None = None,
    allowed: npt.NDArray[np.integer] | None = None,
    blocked: npt.NDArray[np.integer] | None = None,
    repeats: Mapping[int, float] | None = None,
) -> Filters:
    """Filters for a batch.

    Args:
        num_users: B.
        num_items: N.
        seen: `(items, offsets [B + 1])`: row b shall not get `items[offsets[b]:offsets[b + 1]]`.
        allowed: the only items anyone shall get.
        blocked: items nobody shall get.
        repeats: makes `seen` what each row may get again, its score raised by so much at each
            granularity (`manifest.repeats`; a share of the length of the user's prefix where scores
            are cosines; empty: by nothing). None: no row gets what it has seen.

    Raises:
        DataError: an item is not in 0..N-1, or the offsets are of other users.
    """
    hidden = np.zeros(0, np.uint8)
    if allowed is not None or blocked is not None:
        hidden = np.full(num_items, allowed is not None, np.uint8)
        hidden[_checked(allowed, num_items)] = 0
        hidden[_checked(blocked, num_items)] = 1
    if seen is None:
        return Filters(hidden, _NONE, np.zeros(num_users + 1, np.int64))
    items, offsets = _checked(seen[0], num_items), np.asarray(seen[1], np.int64)
    if len(offsets) != num_users + 1 or offsets[-1] != len(items):
        raise DataError(
            f"seen items of {len(offsets) - 1} rows ({len(items)} items, the offsets end at "
            f"{offsets[-1] if len(offsets) else None}) were given for {num_users} users"
        )
    rows = np.repeat(np.arange(num_users), np.diff(offsets))
    distinct = np.unique(rows * num_items + items)
    lengths = np.bincount(distinct // num_items, minlength=num_users)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return Filters(hidden, distinct % num_items, ends, repeats)


def rows_of(filters: Filters, rows: Int64) -> Filters:
    """The filters of some rows."""
    lengths = np.diff(filters.offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(offsets[-1]) + np.repeat(filters.offsets[rows] - offsets[:-1], lengths)
    return Filters(filters.hidden, filters.seen[places], offsets, filters.repeats)


def _checked(items: npt.NDArray[np.integer] | None, num_items: int) -> Int64:
    if items is None or not len(items):
        return _NONE
    found = np.asarray(items, np.int64)
    if found.min() < 0 or found.max() >= num_items:
        raise DataError(
            f"a filter names item {found.min() if found.min() < 0 else found.max()}; the bundle's "
            f"items are 0..{num_items - 1}"
        )
    return found
