"""Ids, times and weights from raw columns, with the row of a wrong value named.

Ids go by the rule of `recsys.data.parsing.ids`, times by `recsys.data.parsing.times`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from data_prep.raw_tables.raw import Columns, RawData, Table
from recsys.data.parsing.ids import id_text, notes_on, raw_text, why_no_id
from recsys.data.parsing.times import TimePlan, check_form, finite, plan_times, settle
from recsys.errors import DataError

__all__ = ["Interactions", "id_text", "read_interactions"]

_IDS = ("user_id", "item_id")
_OPTIONS = {
    "user_id": "user_column=NAME",
    "item_id": "item_column=NAME",
    "timestamp": "time_column=NAME, say how times are written with time_format=, or that there "
    "are none with time_column=none",
    "order": "order_column=NAME",
    "weight": "weight_column=NAME, or say weight_column=none",
    "part": "part_column=NAME",
}
_KINDS = {
    "user_id": "an id",
    "item_id": "an id",
    "timestamp": "a time",
    "part": "train, valid or test",
}
_PARTS = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2}
_BLOCK = 1 << 22
_MANY = 10
"""Where more than one row in so many is wrong, it is the column that is wrong, or its reading."""


@dataclass(frozen=True)
class Interactions:
    """Raw interactions, read."""

    frame: pl.DataFrame
    """user_id and item_id (Enum: 4 bytes a row, each id kept once), and where the raw data has them
    timestamp (Int64, Float64 or Datetime), order (Int64 or Float64), weight (Float32), part (Int8:
    0 training, 1 validation, 2 test); rows as in the file."""
    notes: tuple[str, ...]
    """What was decided or changed in reading, one line each."""


def read_interactions(raw: RawData, time_format: str | None = None) -> Interactions:
    """Reads the columns that are wanted, in the order of the file.

    Args:
        raw: the raw data set.
        time_format: how times are written, where the rows leave it open.

    Raises:
        DataError: a column is missing, a value is missing or of the wrong kind, times can be read
            in two ways, a row is malformed, or there are no rows.
        ConfigError: `time_format` is none that there is.
    """
    check_form(time_format)
    table, named = raw.table, _named(raw.columns)
    schema = table.columns()
    for target, column in named.items():
        if column not in schema:
            option = target.replace("_id", "").replace("timestamp", "time") + "_column=NAME"
            raise DataError(
                f"{table.file} has no column {column!r}; it has "
                f"{', '.join(map(repr, schema))}; name the right one with {option}"
            )
    plan = _time_plan(table, named, schema, time_format)
    wanted = {t: _expression(t, column, schema[column], plan) for t, column in named.items()}
    frame = table.collect(table.frame.select(**wanted))
    if frame.is_empty():
        raise DataError(f"{table.file} holds no interactions; give another file")
    frame = _with_fractions(table, frame, plan)
    notes: list[str] = []
    for target in _IDS:
        ids, told = _ids(frame[target], _what(table, named[target]))
        frame = frame.with_columns(ids.alias(target))
        notes += told
    _check_values(table, frame, named)
    if plan is not None:
        what = _what(table, named["timestamp"])
        times, note = settle(frame["timestamp"], time_format, what)
        frame = frame.with_columns(times.alias("timestamp"))
        notes += filter(None, (plan.note, note))
    return Interactions(frame, tuple(notes))


def _what(table: Table, column: str) -> str:
    return f"{table.file}: column {column!r}"


def _named(columns: Columns) -> dict[str, str]:
    given = {
        "user_id": columns.user,
        "item_id": columns.item,
        "timestamp": columns.time,
        "order": columns.order,
        "weight": columns.weight,
        "part": columns.part,
    }
    named = {target: column for target, column in given.items() if column is not None}
    twice = [column for column in named.values() if list(named.values()).count(column) > 1]
    if twice and not set(twice) <= {columns.time, columns.order}:
        raise DataError(
            f"column {twice[0]!r} is named for two options; name a different column for each"
        )
    return named


def _time_plan(
    table: Table, named: Mapping[str, str], schema: pl.Schema, form: str | None
) -> TimePlan | None:
    if "timestamp" not in named:
        if form is not None:
            raise DataError(
                f"time_format={form} is given, but {table.file} has no column of times; name it "
                "with time_column=NAME"
            )
        return None
    column = named["timestamp"]
    return plan_times(
        table.frame,
        column,
        schema[column],
        form=form,
        what=_what(table, column),
        collect=table.collect,
    )


def _expression(target: str, column: str, dtype: pl.DataType, plan: TimePlan | None) -> pl.Expr:
    if target in _IDS:
        # A category space of its own for each column, so that codes run from 0 without gaps.
        return raw_text(column, dtype).cast(pl.Categorical(pl.Categories.random()))
    if target == "timestamp" and plan is not None:
        return plan.values
    value = pl.col(column)
    if dtype == pl.String:
        value = value.str.strip_chars()
    if target == "part":
        words = value.cast(pl.String).str.to_lowercase()
        return words.replace_strict(_PARTS, default=None, return_dtype=pl.Int8)
    if target == "order":
        # Positions, too, become 3.0 in a program that has met an absent one.
        whole = dtype.is_integer()
        number = value.cast(pl.Int64 if whole else pl.Float64, strict=False)
        return number if whole else finite(number)
    return finite(value.cast(pl.Float32, strict=False))


def _with_fractions(table: Table, frame: pl.DataFrame, plan: TimePlan | None) -> pl.DataFrame:
    """Times are numbers with fractions if that leaves fewer rows without one."""
    absent = frame["timestamp"].null_count() if plan is not None else 0
    if plan is None or plan.fractions is None or not absent:
        return frame
    again = table.collect(table.frame.select(timestamp=plan.fractions.values))["timestamp"]
    return frame.with_columns(again) if again.null_count() < absent else frame


def _ids(raw: pl.Series, what: str) -> tuple[pl.Series, tuple[str, ...]]:
    """The rule on each text once, not on each row."""
    distinct = raw.drop_nulls().unique()
    texts, codes = distinct.cast(pl.String).alias("id"), distinct.to_physical().to_numpy()
    read = texts.to_frame().select(id_text("id", pl.String())).to_series()
    if read.equals(texts):
        return raw, ()
    all_codes, size = raw.to_physical(), int(codes.max()) + 1
    counts = np.zeros(size, np.int64)
    present = all_codes.drop_nulls().to_numpy()
    for start in range(0, len(present), _BLOCK):
        counts += np.bincount(present[start : start + _BLOCK], minlength=size)
    notes = notes_on(texts, read, what, pl.Series(counts[codes]))
    known = pl.Enum(read.drop_nulls().unique())
    row = np.zeros(size, np.uint32)
    row[codes] = np.arange(len(codes))
    place = read.cast(known).to_physical().gather(pl.Series(row))
    return place.gather(all_codes).cat.to(known), notes


def _check_values(table: Table, frame: pl.DataFrame, named: Mapping[str, str]) -> None:
    for target, column in named.items():
        wrong = frame[target].null_count()
        if not wrong:
            continue
        row = int(frame[target].is_null().arg_max() or 0)
        found = table.collect(table.frame.select(column).slice(row, 1))[column][0]
        kind = _KINDS.get(target, "a number")
        what = why_no_id(found) if target in _IDS else _wrong(found)
        few = wrong * _MANY <= len(frame)
        remedy = "correct or remove them, or name" if few else "name"
        raise DataError(
            f"{table.where(row)}: column {column!r} {what} where {kind} is expected "
            f"({wrong:,} such rows of {len(frame):,}); {remedy} another column with "
            f"{_OPTIONS[target]}"
        )


def _wrong(found: object) -> str:
    return "has no value" if found in (None, "") else f"holds {found!r}"
