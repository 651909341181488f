"""Columns of a table as categories and numbers, for items and users alike.

Shape legend: n rows, V values of all rows together, C categories.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from recsys.arrays import Float32, Int32, Int64
from recsys.errors import DataError

DELIMITER = "|"
"""What stands between several categories in one text."""


@dataclass(frozen=True)
class ColumnCategories:
    """Jagged categories of the rows of a column."""

    values: Int32
    """`[V]` indices into `names`, row by row."""
    offsets: Int64
    """`[n + 1]`: row i has `values[offsets[i]:offsets[i + 1]]`."""
    names: tuple[str, ...]
    """`[C]`."""
    left_out: int
    """Categories of too few rows."""


def category_lists(values: pl.Series, delimiter: str = DELIMITER) -> pl.Series:
    """`[n]` lists of texts; empty or null where a row has no category.

    Text is cut at the delimiter, lists are taken as they are, and anything else is one category, a
    whole number that stands as 25.0 the same as 25.
    """
    if isinstance(values.dtype, pl.List | pl.Array):
        lists = values.arr.to_list() if isinstance(values.dtype, pl.Array) else values
        return lists.cast(pl.List(pl.String))
    if values.dtype.is_float():
        whole = values.is_null() | values.is_nan() | (values == values.round(0))
        values = values.fill_nan(None)
        values = values.cast(pl.Int64) if whole.all() else values
    text = values.cast(pl.String)
    return text.str.split(delimiter)


def read_categories(
    values: pl.Series, *, delimiter: str = DELIMITER, min_count: int = 1
) -> ColumnCategories:
    """Categories in the order of their first appearance; one that a row names twice counts once.

    Args:
        values: `[n]`, see `category_lists`.
        delimiter: between the categories of a text.
        min_count: a category of fewer rows is left out.
    """
    pairs = (
        pl.DataFrame({"value": category_lists(values, delimiter)})
        .with_row_index("row")
        .explode("value", empty_as_null=True)
        .with_columns(pl.col("value").str.strip_chars())
        .filter(pl.col("value").is_not_null() & (pl.col("value") != ""))
        .unique(maintain_order=True)
    )
    all_names = pairs["value"].n_unique()
    pairs = pairs.filter(pl.len().over("value") >= min_count)
    names = pairs["value"].unique(maintain_order=True)
    if names.is_empty():
        none = np.empty(0, np.int32), np.zeros(len(values) + 1, np.int64)
        return ColumnCategories(*none, (), all_names)
    indices = pairs.select(pl.col("value").cast(pl.Enum(names)).to_physical())["value"]
    lengths = np.bincount(pairs["row"].to_numpy(), minlength=len(values))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    found = indices.cast(pl.Int32).to_numpy()
    return ColumnCategories(found, offsets, tuple(names.to_list()), all_names - len(names))


def read_numbers(values: pl.Series, what: str) -> Float32:
    """`[n]` float32, NaN where there is none.

    Args:
        values: numbers, or texts of numbers.
        what: of the column, in errors.

    Raises:
        DataError: a value is no number, or infinite.
    """
    numbers = values.cast(pl.Float64, strict=False)
    lost = values.is_not_null() & numbers.is_null()
    if isinstance(values.dtype, pl.String):
        lost &= values.str.strip_chars() != ""
    lost |= numbers.is_infinite().fill_null(False)
    if lost.any():
        raise DataError(
            f"{what} holds {values.filter(lost)[0]!r}; finite numbers are expected, and null where "
            "there is none"
        )
    found: Float32 = numbers.fill_null(float("nan")).to_numpy().astype(np.float32)
    return found
