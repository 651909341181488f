"""Raw columns -> ids, times and weights of one type, with the row named where a value is wrong.

Ids are text, exactly as they stand in the file: `0002844` keeps its zeros.
"""

from __future__ import annotations

import polars as pl

from data_prep.raw import Columns, RawData, Table
from recsys.errors import DataError

_DATES = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.fZ",
    "%Y-%m-%d %H:%M",
    "%m/%d/%Y %H:%M",
)
_SAMPLE = 1000


def read_interactions(raw: RawData) -> pl.DataFrame:
    """Reads the columns that are wanted, in the order of the file.

    Returns:
        user_id and item_id (categorical: 4 bytes a row, each id kept once), and where the raw
        data has them timestamp (Int64, Float64 or Datetime), order (Int64), weight (Float32).

    Raises:
        DataError: a column is missing, a value is missing or of the wrong kind, a row is
            malformed, or there are no rows.
    """
    named = _named(raw.columns)
    schema = raw.table.columns()
    for target, column in named.items():
        if column not in schema:
            option = target.replace("_id", "").replace("timestamp", "time") + "_column=NAME"
            raise DataError(
                f"{raw.table.file} has no column {column!r}; it has "
                f"{', '.join(map(repr, schema))}; name the right one with {option}"
            )
    wanted = {t: _expression(raw.table, t, column, schema[column]) for t, column in named.items()}
    frame = raw.table.collect(raw.table.frame.select(**wanted))
    if frame.is_empty():
        raise DataError(f"{raw.table.file} holds no interactions; give another file")
    _check_values(raw.table, frame, named)
    return frame


def _named(columns: Columns) -> dict[str, str]:
    given = {
        "user_id": columns.user,
        "item_id": columns.item,
        "timestamp": columns.time,
        "order": columns.order,
        "weight": columns.weight,
    }
    named = {target: column for target, column in given.items() if column is not None}
    twice = [column for column in named.values() if list(named.values()).count(column) > 1]
    if twice and not set(twice) <= {columns.time, columns.order}:
        raise DataError(f"column {twice[0]!r} is named for two things; name a column for each")
    return named


def _expression(table: Table, target: str, column: str, dtype: pl.DataType) -> pl.Expr:
    if target in ("user_id", "item_id"):
        # A category space of its own for each column, so that codes run from 0 without gaps.
        return id_text(column, dtype).cast(pl.Categorical(pl.Categories.random()))
    value = pl.col(column)
    if target == "timestamp":
        return _time(table, column, dtype)
    if dtype == pl.String:
        value = value.str.strip_chars()
    if target == "order":
        return value.cast(pl.Int64, strict=False)
    return value.cast(pl.Float32, strict=False).fill_nan(None)


def id_text(column: str, dtype: pl.DataType) -> pl.Expr:
    """Ids as text; null where the value is none (absent, empty, NaN, a fraction)."""
    value = pl.col(column)
    if dtype.is_float():
        # A column of whole numbers becomes float as soon as one is absent.
        whole = value.is_finite() & (value == value.floor())
        return pl.when(whole).then(value.cast(pl.Int64, strict=False).cast(pl.String))
    text = value.cast(pl.String, strict=False)
    return pl.when(text.str.to_lowercase().is_in(["", "nan"]).not_()).then(text)


def _time(table: Table, column: str, dtype: pl.DataType) -> pl.Expr:
    value = pl.col(column)
    if dtype.is_temporal():
        return value.cast(pl.Datetime("us"), strict=False)
    if dtype.is_float():
        return value.fill_nan(None)
    if dtype != pl.String:
        return value.cast(pl.Int64, strict=False)
    text = value.str.strip_chars()
    sample = table.collect(table.frame.select(text).head(_SAMPLE))[column].drop_nulls()
    sample = sample.filter(sample != "")
    for number in (pl.Int64(), pl.Float64()):
        if sample.cast(number, strict=False).null_count() * 2 < max(len(sample), 1):
            return text.cast(number, strict=False)
    for form in _DATES:
        parsed = sample.str.to_datetime(form, time_unit="us", strict=False)
        if parsed.null_count() * 2 < len(sample):
            return text.str.to_datetime(form, time_unit="us", strict=False)
    raise DataError(
        f"{table.file}: column {column!r} holds {sample[0]!r}, which is no time; seconds, or dates "
        "like 2014-01-31 or 2014-01-31T12:00:00 are read. "
        "Name another one with time_column=NAME, or say time_column=none"
    )


def _check_values(table: Table, frame: pl.DataFrame, named: dict[str, str]) -> None:
    for target, column in named.items():
        values = frame[target]
        if not values.null_count():
            continue
        row = int(values.is_null().arg_max() or 0)
        found = table.collect(table.frame.select(column).slice(row, 1))[column][0]
        kind = {"user_id": "an id", "item_id": "an id", "timestamp": "a time"}.get(
            target, "a number"
        )
        what = "has no value" if found in (None, "") else f"holds {found!r}"
        raise DataError(
            f"{table.where(row)}: column {column!r} {what} where {kind} is expected "
            f"({values.null_count()} such rows); mend or remove them, or name another column"
        )
