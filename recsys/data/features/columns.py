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


def read_numbers(values: pl.Series, what: str, otherwise: str = "") -> Float32:
    """`[n]` float32, NaN where there is none.

    The one rule of numbers, for items, users and events: a column that came as text, as all columns
    of CSV do, is read as numbers where numbers are asked for, and is text everywhere else.

    Args:
        values: numbers, or texts of numbers; an empty text is none.
        what: of the column, in errors.
        otherwise: what to do where it is not meant as numbers, in errors: "name it in fields".

    Raises:
        DataError: the column is of another kind, or a value is no number, or infinite in 32 bits.
    """
    remedy = f"; or {otherwise}" if otherwise else ""
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if not (values.dtype.is_numeric() or values.dtype in (pl.String, pl.Null)):
        raise DataError(
            f"{what} holds {values.dtype}; numbers or texts of numbers are expected{remedy}"
        )
    text = values.dtype == pl.String
    given = stripped(values) if text else values.cast(pl.Float64).fill_nan(None)
    numbers = given.cast(pl.Float64, strict=False)
    with np.errstate(over="ignore"):
        found: Float32 = numbers.fill_null(float("nan")).to_numpy().astype(np.float32)
    lost = given.is_not_null() & ~pl.Series(np.isfinite(found))
    if lost.any():
        raise DataError(
            f"{what} holds {values.filter(lost)[0]!r}, which is no finite number; correct it, or "
            f"leave it empty where there is none{remedy}"
        )
    return found


def stripped(texts: pl.Series) -> pl.Series:
    """Without blanks around them; null for an empty one."""
    texts = texts.str.strip_chars()
    return texts.set(texts == "", None)
