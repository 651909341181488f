"""Users as they are asked for: ids alone, or ids with what is known of each.

Shape legend: B users.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from recsys.arrays import Bool
from recsys.data.parsing.frames import as_frame
from recsys.errors import DataError
from recsys.library.ids import as_series, id_series
from recsys.serving.user_columns import ColumnUsers


@dataclass(frozen=True)
class UserTable:
    """Users, each once, in the order in which they were given."""

    ids: pl.Series
    """`[B]` as given, named user_id."""
    text: pl.Series
    """`[B]` the same as text."""
    columns: pl.DataFrame | None
    """`[B]` rows of the columns that the model reads, null where they tell it nothing; None: none
    of them was given."""


def read_users(users: Any, columns: ColumnUsers | None) -> UserTable:
    """Users: ids in a list, an array or a series; a frame with a column user_id, of which the
    columns that the model reads are taken; or a mapping of id -> {column: value}.

    Args:
        users: any of these.
        columns: what the model reads of users; None: it reads nothing.

    Raises:
        DataError: it is none of these, an id is none, a column cannot be read, or a mapping names
            another one.
    """
    table, names = None, () if columns is None else columns.names
    if isinstance(users, Mapping):
        table = _of_mapping(users, columns)
        users = list(users)
    elif is_frame(users):
        frame = as_frame(users, "the users")
        check_column(frame, "user_id", "users")
        users, table = frame["user_id"], frame.select([n for n in names if n in frame.columns])
        table = table if columns is None else columns.known(table)
    given = as_series(users, "users").alias("user_id")
    text = id_series(given, "users")
    first = text.is_first_distinct()
    if table is not None:
        table = table.filter(first) if table.width else None
    return UserTable(given.filter(first), text.filter(first), table)


def told_of(columns: pl.DataFrame) -> Bool:
    """`[B]`: whose columns hold anything."""
    found: Bool = columns.select(pl.any_horizontal(pl.all().is_not_null())).to_series().to_numpy()
    return found


def is_frame(given: Any) -> bool:
    """Whether it is a table of any library."""
    return not isinstance(given, pl.Series) and (
        isinstance(given, pl.LazyFrame) or hasattr(given, "columns")
    )


def check_column(frame: pl.DataFrame, column: str, what: str) -> None:
    """Raises DataError when a frame of `what` lacks a column."""
    if column not in frame.columns:
        raise DataError(f"the {what} have no column {column}; found {frame.columns}: rename it")


def _of_mapping(users: Mapping[Any, Any], columns: ColumnUsers | None) -> pl.DataFrame:
    """Columns of a mapping of id -> {column: value}."""
    if columns is None:
        raise DataError(
            "users are told by columns, and this model reads none; give a list of their ids"
        )
    rows = []
    for owner, row in users.items():
        if not isinstance(row, Mapping):
            raise DataError(
                f"the columns of user {owner!r} are {row!r}; {{column: value}} is expected, or a "
                "list of ids where nothing is known of users but them"
            )
        rows.append(columns.row(row, f"user {owner!r}"))
    return columns.table(rows)
