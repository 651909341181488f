"""External ids -> indices, by the rule all ids are read by; what is unknown is counted and named.

Shape legend: T values, n known ids.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import Int64
from recsys.data.parsing.frames import check_present
from recsys.data.parsing.ids import read_ids
from recsys.errors import DataError


class Ids:
    """The users or the items that a model knows; the position of an id is its index."""

    def __init__(self, names: pl.Series, what: str) -> None:
        """Args:
        names: `[n]` distinct; text or whole numbers.
        what: `user` or `item`.
        """
        self.names, self.what = names.alias(f"{what}_id"), what
        text = names.cast(pl.String).alias("id").to_frame()
        self._known = text.with_row_index("index").cast({"index": pl.Int64})

    def __len__(self) -> int:
        return len(self.names)

    def find(self, asked: pl.Series) -> Int64:
        """`[T]` indices of ids `[T]` as text; -1 where one is unknown."""
        given = asked.cast(pl.String).alias("id").to_frame()
        found = given.join(self._known, on="id", how="left", maintain_order="left")["index"]
        return found.fill_null(-1).to_numpy()

    def names_of(self, indices: Int64) -> pl.Series:
        """`[T]` external ids of indices `[T]`."""
        return self.names.gather(pl.Series(indices))


def unknown_frame(user_ids: pl.Series, item_ids: pl.Series) -> pl.DataFrame:
    """What is not known, each id once: `kind` (user or item), `id`, `rows` it stands in."""
    parts = [
        ids.cast(pl.String).alias("id").to_frame().group_by("id", maintain_order=True)
        .agg(pl.len().cast(pl.Int64).alias("rows"))
        .select(pl.lit(kind).alias("kind"), "id", "rows")
        for kind, ids in (("user", user_ids), ("item", item_ids))
    ]  # fmt: skip
    return pl.concat(parts)


def id_series(values: Any, what: str) -> pl.Series:
    """A column of ids of any library, a list or an array as one series, checked and read as text.

    Args:
        values: `[T]`; a single text is none.
        what: names it in errors: `users`.

    Raises:
        DataError: it is no list, its values are of several types or absent, or one is no id.
    """
    given = as_series(values, what)
    text = read_ids(given, what).text
    check_present(text, given)
    return text


def as_series(values: Any, what: str) -> pl.Series:
    """Values of a list, an array or a column as they are.

    Raises:
        DataError: it is no list, or its values are of several types.
    """
    if isinstance(values, pl.Series):
        return values.alias(what)
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise DataError(f"{what}: {values!r} is no list of ids; give [{values!r}] for one alone")
    listed = values if isinstance(values, np.ndarray) else list(values)
    try:
        series = pl.Series(what, listed, strict=True)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"the {what} cannot be read ({error}); give ids of one type, text or whole numbers"
        ) from error
    return series.cast(pl.String) if isinstance(series.dtype, pl.Null) else series
