"""External ids to indices, for few ids out of many: sorted hashes in place of a table of strings.

Shape legend: n known ids, T ids asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import Int64
from recsys.errors import DataError

_FEW = 64


class Lookup:
    """The items or the users of a bundle; the position of an id is its index.

    16 bytes for each id beside the ids themselves. 3 and "3" are the same id.
    """

    def __init__(self, names: pl.Series) -> None:
        """Args:
        names: `[n]` text or whole numbers.

        Raises:
            DataError: an id occurs twice.
        """
        self.names, self._text = names, names.cast(pl.String)
        if self._text.n_unique() != len(names):
            raise DataError(
                "an id of the bundle occurs twice; export it again with `recsys export`"
            )
        hashes = _hashes(self._text)
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]
        equal = np.diff(self._hashes) == 0
        self._most = 1 + (int(equal.sum()) if equal.any() else 0)

    def __len__(self) -> int:
        return len(self.names)

    def find(self, ids: Sequence[str | int]) -> Int64:
        """`[T]` indices; -1 where an id is unknown."""
        found = np.full(len(ids), -1, np.int64)
        if not len(ids) or not len(self.names):
            return found
        # Python's own hashes: an expression of polars costs the same for one id as for many.
        text = [str(each) for each in ids]
        first = np.searchsorted(self._hashes, _hashes(text))
        for step in range(self._most):  # one, unless two ids have the same hash
            there = self._order[np.minimum(first + step, len(self.names) - 1)]
            named = _some(self._text, there)
            same = [one == other for one, other in zip(named, text, strict=True)]
            found[same] = there[same]
        return found

    def beginning(self, text: str, limit: int) -> list[Any]:
        """The first ids that begin with a text, in the order of the bundle."""
        found = np.flatnonzero(self._text.str.starts_with(text).to_numpy())[:limit]
        return self.ids(found)

    def ids(self, indices: Int64) -> list[Any]:
        """External ids of indices."""
        return _some(self.names, indices)


def _some(series: pl.Series, places: Int64) -> list[Any]:
    """Values of a long series; few are taken one by one, which costs less than an expression."""
    if len(places) <= _FEW:
        return [series[place] for place in places.tolist()]
    return series[places].to_list()


def _hashes(texts: Iterable[str]) -> Int64:
    return np.fromiter(map(hash, texts), np.int64)
