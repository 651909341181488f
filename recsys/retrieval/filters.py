"""Allow, block and seen-item filters inside the search.

Shape legend: B users, N items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from recsys.arrays import Int64
from recsys.errors import ConfigError, DataError
from recsys.retrieval.checks import checked_count, checked_indices, checked_jagged

_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class Filters:
    """Items that may not be found, for each user; made by `make_filters`."""

    num_items: int
    """N."""
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
    """Filters for a batch. Items are indices; `serving.catalogue` looks external ids up.

    Args:
        num_users: B.
        num_items: N.
        seen: `(items, offsets [B + 1])`: row b shall not get `items[offsets[b]:offsets[b + 1]]`.
        allowed: the only items anyone shall get; None: all.
        blocked: items nobody shall get.
        repeats: makes `seen` what each row may get again, its score raised by so much at each
            granularity (`manifest.repeats`; a share of the length of the user's prefix where scores
            are cosines; empty: by nothing). None: no row gets what it has seen.

    Raises:
        DataError: items are not indices (text, floats, a mask, lists by user), one is not in
            0..N-1, or the offsets are of other users.
        ConfigError: a number of users or items is none, or `repeats` are not finite numbers.
    """
    num_users = checked_count(num_users, "num_users", least=0)
    num_items = checked_count(num_items, "num_items", least=0)
    hidden = np.zeros(0, np.uint8)
    if allowed is not None or blocked is not None:
        hidden = np.full(num_items, allowed is not None, np.uint8)
        hidden[_checked(allowed, num_items, "allowed items")] = 0
        hidden[_checked(blocked, num_items, "blocked items")] = 1
    _check_repeats(repeats)
    if seen is None:
        return Filters(num_items, hidden, _NONE, np.zeros(num_users + 1, np.int64))
    if not isinstance(seen, tuple | list) or len(seen) != 2:
        raise DataError(f"seen is a {type(seen).__name__}; (items, offsets) is expected")
    items, offsets = checked_jagged(*seen, num_items, "seen items", num_users)
    rows = np.repeat(np.arange(num_users), np.diff(offsets))
    distinct = np.unique(rows * num_items + items)
    lengths = np.bincount(distinct // max(1, num_items), minlength=num_users)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return Filters(num_items, hidden, distinct % max(1, num_items), ends, repeats)


def check_fits(filters: object, num_users: int, num_items: int) -> Filters:
    """`filters`, if they are of so many users and items.

    Raises:
        DataError: they are not.
    """
    if not isinstance(filters, Filters):
        raise DataError(
            f"filters are a {type(filters).__name__}; make them with `make_filters`, or for a "
            "bundle with `Catalogue(bundle).filters`"
        )
    found = len(filters.offsets) - 1, filters.num_items
    if found != (num_users, num_items):
        raise DataError(
            f"filters of {found[0]} users and {found[1]} items for a search of {num_users} users "
            f"among {num_items} items; make them for these"
        )
    return filters


def rows_of(filters: Filters, rows: Int64) -> Filters:
    """The filters of some rows."""
    lengths = np.diff(filters.offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(offsets[-1]) + np.repeat(filters.offsets[rows] - offsets[:-1], lengths)
    return replace(filters, seen=filters.seen[places], offsets=offsets)


def _checked(items: npt.NDArray[np.integer] | None, num_items: int, what: str) -> Int64:
    return _NONE if items is None else checked_indices(items, num_items, what)


def _check_repeats(repeats: Mapping[int, float] | None) -> None:
    if repeats is None:
        return
    if not isinstance(repeats, Mapping):
        raise ConfigError(f"repeats are {repeats!r}; granularity -> bias is expected")
    for size, value in repeats.items():
        checked_count(size, "a granularity of repeats")
        if not isinstance(value, float | int | np.floating) or not np.isfinite(value):
            raise ConfigError(f"repeats add {value!r} at {size}; a finite number is expected")
