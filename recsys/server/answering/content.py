"""What a bundle tells of its items: columns for answers, categories to filter by, titles to search.

Shape legend: N items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import Bool, Int64
from recsys.errors import ConfigError

_MOST_CATEGORIES = 10_000
"""Distinct values of a column that can be filtered by."""
_SEPARATOR = "|"


class Content:
    """The columns of the items of one bundle."""

    def __init__(self, columns: pl.DataFrame, ids: pl.Series, popularity: Int64 | None) -> None:
        """Args:
        columns: `[N]` rows, or no column at all.
        ids: `[N]`, by which items are called where no column is text.
        popularity: `[N]`, the order of equally good titles.
        """
        self.frame = columns.select(_plain(columns[name]) for name in columns.columns)
        texts = [name for name in self.frame.columns if self.frame[name].dtype == pl.String]
        named = next((name for name in ("title", "name") if name in texts), None)
        self.title = named or (texts[0] if texts else None)
        called = ids.cast(pl.String) if self.title is None else self.frame[self.title]
        self._titles = called.fill_null("").str.to_lowercase()
        counts = np.zeros(len(ids), np.int64) if popularity is None else np.asarray(popularity)
        self._popular = np.lexsort((np.arange(len(counts)), -counts)).astype(np.int64)
        self._rank = np.empty(len(counts), np.int64)
        self._rank[self._popular] = np.arange(len(counts))
        self._categories = {
            name: found
            for name in self.frame.columns
            if (found := _categories(self.frame[name])) is not None
        }

    @property
    def popular(self) -> Int64:
        """`[N]` items, the most popular first, equals by index."""
        return self._popular

    @property
    def categories(self) -> dict[str, list[str]]:
        """Column -> the values that can be filtered by."""
        return {name: sorted(places) for name, places in self._categories.items()}

    def column(self, name: str) -> pl.Series:
        """A column of the items.

        Raises:
            ConfigError: there is none.
        """
        self.check([name])
        return self.frame[name]

    def rows(self, items: Int64, names: Sequence[str]) -> list[dict[str, Any]]:
        """One mapping for each of some items."""
        if not names:
            return [{} for _ in items]
        return self.frame.select(names)[items].to_dicts()

    def check(self, names: Sequence[str]) -> None:
        """Raises ConfigError unless all names are columns."""
        if lost := [name for name in names if name not in self.frame.columns]:
            raise ConfigError(
                f"the bundle has no column {', '.join(lost)}; it has "
                f"{', '.join(self.frame.columns) or 'none (recsys export --columns)'}"
            )

    def where(self, wanted: Mapping[str, Sequence[str]]) -> Int64:
        """Ascending indices of items that have any of the values, in every column named.

        Raises:
            ConfigError: a column cannot be filtered by.
        """
        found: Int64 | None = None
        for name, values in wanted.items():
            if name not in self._categories:
                raise ConfigError(
                    f"items cannot be filtered by {name}; by "
                    f"{', '.join(self._categories) or 'nothing (recsys export --columns)'}"
                )
            places = [self._categories[name].get(value) for value in values]
            here = [each for each in places if each is not None]
            own = np.unique(np.concatenate([np.empty(0, np.int64), *here]))
            found = own if found is None else np.intersect1d(found, own, assume_unique=True)
        return np.empty(0, np.int64) if found is None else found

    def search(self, text: str, limit: int) -> Int64:
        """Items whose title has every word of a text: those it begins with first, then by
        popularity.
        """
        return self.matching(text, limit)[0]

    def matching(self, text: str, limit: int) -> tuple[Int64, Bool]:
        """The same, with whether each title begins with the text."""
        lowered = text.lower().strip()
        if not lowered:
            found = self._popular[:limit]
            return found, np.ones(len(found), bool)
        keep = pl.repeat(True, len(self._titles), eager=True)
        for word in lowered.split()[:8]:
            keep &= self._titles.str.contains(word, literal=True)
        found = np.flatnonzero(keep.to_numpy())
        begins = self._titles.gather(pl.Series(found)).str.starts_with(lowered).to_numpy()
        order = np.lexsort((self._rank[found], ~begins))[:limit]
        return found[order], begins[order]


def _plain(series: pl.Series) -> pl.Series:
    """A column as JSON can hold it: text, numbers, truth, and lists of these."""
    kind = series.dtype
    inner = kind.inner if isinstance(kind, pl.List) else kind
    if inner.is_float():
        return (
            series.fill_nan(None)
            if not isinstance(kind, pl.List)
            else series.cast(pl.List(pl.String))
        )
    if inner.is_integer() or inner in (pl.String, pl.Boolean):
        return series
    if isinstance(kind, pl.List) and not inner.is_nested():
        return series.cast(pl.List(pl.String))
    if kind.is_nested():
        return pl.Series(series.name, [None if row is None else str(row) for row in series])
    return series.cast(pl.String)


def _categories(series: pl.Series) -> dict[str, Int64] | None:
    """Value -> ascending indices; None: too many values to filter by."""
    if series.dtype == pl.String:
        series = series.str.split(_SEPARATOR)
    lists = isinstance(series.dtype, pl.List)
    frame = pl.DataFrame({"place": np.arange(len(series)), "value": series})
    frame = frame.explode("value") if lists else frame
    frame = frame.drop_nulls().with_columns(pl.col("value").cast(pl.String).str.strip_chars())
    if frame["value"].n_unique() > _MOST_CATEGORIES:
        return None
    groups = frame.unique().sort("place").group_by("value", maintain_order=True).agg("place")
    return {
        value: places.to_numpy()
        for value, places in zip(groups["value"], groups["place"], strict=True)
    }
