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
    whole number that stands as 25.0 the same as 25, whatever stands beside it.

    Raises:
        DataError: they are lists of lists, or of what cannot be written as text.
    """
    lists = values.arr.to_list() if isinstance(values.dtype, pl.Array) else values
    if isinstance(lists.dtype, pl.List):
        if isinstance(lists.dtype.inner, pl.List | pl.Array):
            raise DataError(
                f"column {values.name} holds {values.dtype}; texts or lists of texts are expected"
            )
        return lists.cast(pl.List(pl.String))
    if isinstance(lists.dtype, pl.Object):
        raise DataError(
            f"column {values.name} holds objects such as {values[0]!r}; texts or lists of texts "
            "are expected"
        )
    text = _whole_as_integers(values) if values.dtype.is_float() else values.cast(pl.String)
    return text.str.split(delimiter)


def _whole_as_integers(values: pl.Series) -> pl.Series:
    """`[n]` texts of floats; NaN is none."""
    values = values.fill_nan(None)
    integers = values.cast(pl.Int64, strict=False)  # null where they are too large
    whole = (integers.cast(pl.Float64) == values.cast(pl.Float64)).fill_null(False)
    return integers.cast(pl.String).zip_with(whole, values.cast(pl.String))


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
        DataError: a value is no number, or infinite in 32 bits.
    """
    numbers = values.cast(pl.Float64, strict=False)
    lost = values.is_not_null() & numbers.is_null()
    if isinstance(values.dtype, pl.String):
        lost &= values.str.strip_chars() != ""
    with np.errstate(over="ignore"):
        found: Float32 = numbers.fill_null(float("nan")).to_numpy().astype(np.float32)
    lost |= pl.Series(np.isinf(found))
    if lost.any():
        raise DataError(
            f"{what} holds {values.filter(lost)[0]!r}; finite numbers are expected, and null where "
            "there is none"
        )
    return found
