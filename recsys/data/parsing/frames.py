"""Interactions in a frame (polars, pandas, Arrow), checked, indexed and sorted.

Shape legend: T interactions, U users, N items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from recsys.data.parsing.ids import read_ids
from recsys.data.parsing.times import check_form, finite, plan_times, settle, whole_seconds
from recsys.data.vocabulary import Vocabulary, places_by_id
from recsys.errors import DataError

Order = Literal["time", "given"]
FrameLike = Any
"""A frame of polars or pandas, an Arrow table, or anything with `__arrow_c_stream__`."""


@dataclass(frozen=True)
class Arranged:
    """Interactions in the order and form of a dataset folder."""

    rows: pl.DataFrame
    """`[T]` user_index, item_index, timestamp (Int64)?, weight (Float32)?"""
    users: pl.Series
    """`[U]` ids: whole numbers where the frame has a column of them, else text."""
    items: pl.Series
    """`[N]` likewise."""
    tie_rule: str
    notes: tuple[str, ...]
    user_content: pl.DataFrame | None = None
    """user_id and what is known of the users: age, country; rows of no user are left out."""


def as_frame(table: FrameLike, what: str) -> pl.DataFrame:
    """A table of any library as a polars frame.

    Raises:
        DataError: it is not a table, or a column of it has no one type.
    """
    if isinstance(table, pl.DataFrame | pl.LazyFrame):
        return table.lazy().collect()
    try:
        # By name: pandas is not imported for those who do not use it.
        if type(table).__module__.partition(".")[0] == "pandas":
            return pl.from_pandas(table).lazy().collect()
        if hasattr(table, "__arrow_c_stream__"):
            return pl.DataFrame(table)
    except (pl.exceptions.PolarsError, ValueError, TypeError) as error:  # Arrow's are ValueErrors
        raise DataError(f"{what} cannot be read ({error}); give columns of one type") from error
    raise DataError(
        f"{what}: a frame of polars or pandas or an Arrow table is expected, found "
        f"{type(table).__name__}"
    )


@dataclass(frozen=True)
class Named:
    """A frame whose columns have the names that `arrange` reads."""

    rows: pl.DataFrame
    notes: tuple[str, ...]


def named_columns(
    frame: pl.DataFrame,
    user: str,
    item: str,
    time: str | None,
    weight: str | None,
    order: Order | None,
) -> Named:
    """The columns of a frame that are asked for, as user_id, item_id, timestamp and weight.

    Raises:
        DataError: one is missing or named twice, or nothing says how rows are ordered.
    """
    asked = {"user_id": user, "item_id": item, "timestamp": time, "weight": weight}
    wanted = {new: old for new, old in asked.items() if old is not None}
    for new, old in wanted.items():
        if old not in frame.columns:
            raise DataError(
                f"there is no column {old!r} in the frame; found {frame.columns}: say which one "
                f"is meant ({_KEYWORDS[new]}=...)"
            )
    if len(set(wanted.values())) != len(wanted):
        raise DataError(f"a column is named twice: {wanted}; each is one thing")
    if time is None and order != "given":
        raise DataError(
            "nothing says in which order a user's rows are to be taken: name the column of times "
            f"(time=...; found {frame.columns}), or say order='given' where they stand in order"
        )
    rows = frame.select(pl.col(old).alias(new) for new, old in wanted.items())
    return Named(rows, tuple(_told(rows)))


def _told(rows: pl.DataFrame) -> list[str]:
    """What is decided about times of a zone, and about rows that stand there twice."""
    notes, dtype = [], rows.schema.get("timestamp")
    if isinstance(dtype, pl.Datetime) and dtype.time_zone not in (None, "UTC"):
        notes.append(f"times of {dtype.time_zone} are stored as UTC")
    nested = any(column.is_nested() for column in rows.dtypes)
    if dtype is not None and not nested:
        keys = rows.select("user_id", "item_id", "timestamp")
        repeated = len(keys) - keys.n_unique()
        if repeated:
            notes.append(
                f"{repeated:,} rows say user, item and time of another row once more; all are kept "
                "(frame.unique() drops them)"
            )
    return notes


_KEYWORDS = {"user_id": "user", "item_id": "item", "timestamp": "time", "weight": "weight"}


def arrange(frame: pl.DataFrame, order: Order | None, time_format: str | None) -> Arranged:
    """Sorts, numbers and checks the rows of a frame.

    With times the frame's own order matters for equal times alone: users are numbered by their ids,
    items as they then come up.

    Args:
        frame: columns user_id, item_id, and optionally timestamp and weight.
        order: `time`: by timestamp, equal ones as given; `given`: rows as they stand; None: by
            time where there is a timestamp.
        time_format: how times are written, where the rows leave it open.

    Raises:
        DataError: a column is missing or holds no such values, or there are no rows.
        ConfigError: `time_format` is none that there is.
    """
    _check_columns(frame, order)
    check_form(time_format)
    users, items = (_ids(frame, column) for column in ("user_id", "item_id"))
    notes = [*users[1], *items[1]]
    columns = [users[0].alias("user_id"), items[0].alias("item_id")]
    if "timestamp" in frame.columns:
        times, told = times_of(frame, time_format)
        columns.append(times.alias("timestamp"))
        notes += told
    if "weight" in frame.columns:
        columns.append(_weights(frame))
    rows = pl.DataFrame(columns)
    by_time = order != "given" and "timestamp" in frame.columns
    if by_time:
        rows = _by_time(rows)
    elif order is None:
        notes.append(
            "there is no column timestamp: each user's rows are taken in the order in which they "
            "are given (order='given' says so)"
        )
    tie_rule = "given order (stable sort by time)" if by_time else "given order"
    indexed, ids = _indexed(rows)
    kept_users, kept_items = (
        text.cast(frame.schema[column]) if frame.schema[column].is_integer() else text
        for column, text in ids.items()
    )
    return Arranged(indexed, kept_users, kept_items, tie_rule, tuple(notes))


def _check_columns(frame: pl.DataFrame, order: Order | None) -> None:
    for column in ("user_id", "item_id"):
        if column not in frame.columns:
            raise DataError(f"no column {column}; found {frame.columns}")
    if frame.is_empty():
        raise DataError("there are no interactions (after filtering); loosen the filters")
    if order not in ("time", "given", None):
        raise DataError(f"order {order!r} is neither 'time' nor 'given'")
    if order == "time" and "timestamp" not in frame.columns:
        raise DataError(
            f"order='time' needs a column timestamp; found {frame.columns}. Rename the column of "
            "times, or say order='given'"
        )


def _ids(frame: pl.DataFrame, column: str) -> tuple[pl.Series, tuple[str, ...]]:
    found = read_ids(frame[column], f"column {column}")
    check_present(found.text, frame[column])
    return found.text, found.notes


def times_of(frame: pl.DataFrame, form: str | None) -> tuple[pl.Series, list[str]]:
    """The column timestamp as values that can be ordered by, and what was decided.

    Raises:
        DataError: it holds no such values.
    """
    dtype, what = frame.schema["timestamp"], "column timestamp"
    plan = plan_times(
        frame.lazy(), "timestamp", dtype, form=form, what=what, collect=pl.LazyFrame.collect
    )
    values = frame.select(timestamp=plan.values).to_series()
    if plan.fractions is not None and values.null_count():
        values = frame.select(timestamp=plan.fractions.values).to_series()
    check_present(values, frame["timestamp"])
    times, note = settle(values, form, what)
    return times, [told for told in (plan.note, note) if told is not None]


def _weights(frame: pl.DataFrame) -> pl.Series:
    try:
        number = finite(pl.col("weight").cast(pl.Float32, strict=False))
        weights = frame.select(number.alias("weight")).to_series()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"column weight holds no numbers ({error})") from error
    check_present(weights, frame["weight"])
    return weights


def check_present(values: pl.Series, given: pl.Series) -> None:
    """Raises DataError where a value is absent, or could not be read from what was given."""
    if values.null_count():
        row = int(values.is_null().arg_max() or 0)
        found = given[row]
        absent = found is None or found != found
        what = "has no value" if absent else f"holds {found!r}"
        raise DataError(f"column {given.name} {what} in row {row}; drop or fill such rows")


def _by_time(rows: pl.DataFrame) -> pl.DataFrame:
    """Users in the order of their ids, so that the order of the frame matters for ties alone."""
    users = Vocabulary.of(rows["user_id"])
    places = places_by_id(users.ids)[users.encode(rows["user_id"])]
    order = np.lexsort((rows["timestamp"].to_physical().to_numpy(), places))
    return rows[order.astype(np.uint32)]


def _indexed(rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, pl.Series]]:
    """Rows as a dataset folder has them, and the ids by index."""
    users = Vocabulary.of(rows["user_id"])
    rows = rows.with_columns(pl.Series("user_index", users.encode(rows["user_id"])))
    rows = rows.drop("user_id").sort("user_index", maintain_order=True)
    items = Vocabulary.of(rows["item_id"])
    columns = [rows["user_index"], pl.Series("item_index", items.encode(rows["item_id"]))]
    if "timestamp" in rows.columns:
        columns.append(whole_seconds(rows["timestamp"]))
    if "weight" in rows.columns:
        columns.append(rows["weight"])
    return pl.DataFrame(columns), {"user_id": users.ids, "item_id": items.ids}
