"""Ids of users and items as text, by one rule everywhere.

An id is text. Whole numbers are the text of the number, however a program has stored them: 3, 3.0
and 3e+00 are `3`; `007` keeps its zeros. Blanks around an id are not part of it. A number that has
lost digits (a float beyond 2^53, a spreadsheet's 1.23457E+12) is not an id.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from recsys.errors import DataError

_BLANKS = (
    " \t\n\r\v\f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff\u200b\u200e\u200f\u2060"
)
"""What Unicode calls white space, and marks without width: of byte order, of direction."""
_ABSENT = ["", "nan"]
_WHOLE = r"^-?(?:0|[1-9]\d*)\.0+$"
_EXPONENT = r"^-?\d(?:\.\d+)?[eE]\+\d{1,3}$"
_EXACT = 2**53
_EXACT_OF: dict[pl.DataType, int] = {pl.Float16(): 2**11, pl.Float32(): 2**24}
"""From here on neighbouring whole numbers are one float."""


@dataclass(frozen=True)
class Ids:
    """A column of ids as text, with notes about changes."""

    text: pl.Series
    """`[T]` text; null where there is none."""
    notes: tuple[str, ...]
    """What was changed, one line each."""


def id_text(column: str, dtype: pl.DataType) -> pl.Expr:
    """Ids as text; null where a value is none (absent, blank, NaN, a fraction, digits lost).

    Raises:
        DataError: the column holds no single values (lists, structs), or dates, or yes and no.
    """
    value = pl.col(column)
    if dtype.is_float():
        whole = (value == value.floor()) & (value.abs() < _EXACT_OF.get(dtype, _EXACT))
        text = value.cast(pl.Int64, strict=False).cast(pl.String)
        return pl.when(whole).then(text).alias(column)
    if isinstance(dtype, pl.Decimal):
        text = value.cast(pl.String).str.replace(r"\.0*$", "")
        return pl.when(~text.str.contains(".", literal=True)).then(text).alias(column)
    text = raw_text(column, dtype)
    return text if dtype.is_integer() else _ruled(text).alias(column)


def raw_text(column: str, dtype: pl.DataType) -> pl.Expr:
    """Values as text before the rule; for numbers the ids themselves.

    Raises:
        DataError: as `id_text`.
    """
    if dtype.is_float() or isinstance(dtype, pl.Decimal):
        return id_text(column, dtype)
    single = isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Binary | pl.Null)
    if not (dtype.is_integer() or single):
        raise DataError(
            f"column {column!r} holds {dtype} where ids are expected; an id is one text or one "
            "whole number: name another column, or take the id out of it"
        )
    return pl.col(column).cast(pl.String, strict=False)


def _ruled(text: pl.Expr) -> pl.Expr:
    text = text.str.strip_chars(_BLANKS)
    number = text.cast(pl.Float64, strict=False)
    exact = (number == number.floor()) & (number.abs() < _EXACT)
    whole, power = text.str.contains(_WHOLE), text.str.contains(_EXPONENT)
    # An upper-case E is a spreadsheet's, which shows six digits of whatever was there.
    written_out = power & exact & ~text.str.contains("E", literal=True)
    return (
        pl.when(text.str.to_lowercase().is_in(_ABSENT))
        .then(None)
        .when(whole & exact)
        .then(text.str.replace(r"\.0+$", ""))
        .when(written_out)
        .then(number.cast(pl.Int64, strict=False).cast(pl.String))
        .when(whole | power)
        .then(None)
        .otherwise(text)
    )


def read_ids(values: pl.Series, what: str) -> Ids:
    """Reads a column of ids.

    Args:
        values: `[T]` of any type.
        what: names the column in errors and notes, e.g. "items.csv: column 'id'".

    Raises:
        DataError: a value is there that is not an id; absent ones become null.
    """
    raw = values.alias("id").to_frame()
    try:
        text = raw.select(id_text("id", values.dtype).alias("id")).to_series()
        before = raw.select(raw_text("id", values.dtype).alias("id")).to_series()
    except DataError as error:
        raise DataError(str(error).replace("column 'id'", what)) from error
    except pl.exceptions.ComputeError as error:
        raise DataError(f"{what} holds bytes that are not text; write ids as text") from error
    lost = text.is_null() & values.is_not_null() & ~_is_absent(values)
    if lost.any():
        row = int(lost.arg_max() or 0)
        raise DataError(f"{what} {why_no_id(values[row])} in row {row} where an id is expected")
    return Ids(text, notes_on(before, text, what))


def notes_on(
    before: pl.Series, after: pl.Series, what: str, counts: pl.Series | None = None
) -> tuple[str, ...]:
    """What the rule changed.

    Args:
        before: `[n]` text as it stood.
        after: `[n]` ids.
        what: the column.
        counts: `[n]` how many rows each stands for; None: one.
    """
    changed = (before != after).fill_null(False)
    trimmed = (before.str.strip_chars(_BLANKS) != before).fill_null(False) & changed
    counts = pl.repeat(1, len(before), eager=True) if counts is None else counts
    spaces, numbers = (int(counts.filter(mask).sum()) for mask in (trimmed, changed & ~trimmed))
    notes = [f"{what}: blanks around {spaces:,} ids are left out"] if spaces else []
    if numbers:
        notes.append(f"{what}: {numbers:,} whole numbers written like 3.0 are read as 3")
    return tuple(notes)


def _is_absent(values: pl.Series) -> pl.Series:
    if values.dtype.is_float():
        return values.is_nan().fill_null(False)
    if not isinstance(values.dtype, pl.String | pl.Categorical | pl.Enum):
        return pl.repeat(False, len(values), eager=True)
    text = values.cast(pl.String).str.strip_chars(_BLANKS).str.to_lowercase()
    return text.is_in(_ABSENT).fill_null(False)


def why_no_id(value: object) -> str:
    """e.g. "has no value", or "holds 1e+17, which has lost digits ..."."""
    if value is None or not str(value).strip(_BLANKS):
        return "has no value"
    whole = isinstance(value, float) and value == value // 1
    if whole or (isinstance(value, str) and _is_number(value)):
        return (
            f"holds {value!r}, a floating point number that has lost digits of the id; write ids "
            "as whole numbers or as text,"
        )
    return f"holds {value!r}"


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False


def some(ids: Iterable[object]) -> str:
    """The first few ids, for a message."""
    shown = [repr(value) for _, value in zip(range(3), ids, strict=False)]
    return ", ".join(shown) + " ..."
