"""Rows of sessions (lists of items and times) as one row for each item."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from data_prep.raw_tables.raw import Columns, Table
from recsys.errors import DataError

_ROW = "__row"


def one_row_each(table: Table, columns: Columns) -> Table:
    """The table with its lists of items, times, ratings or positions spread over rows.

    Columns without lists (the user, the time of a session) hold for every value of a list; an empty
    list gives no row.

    Raises:
        DataError: users are lists, items are none where times are, or lists of one row differ in
            length.
    """
    schema = table.columns()
    wanted = [
        c
        for c in (
            columns.user,
            columns.item,
            columns.time,
            columns.order,
            columns.weight,
            columns.part,
        )
        if c is not None and c in schema
    ]
    lists = list(dict.fromkeys(c for c in wanted if isinstance(schema[c], pl.List)))
    if not lists:
        return table
    if columns.item not in lists or columns.user in lists:
        raise DataError(
            f"{table.file}: column {lists[0]!r} holds lists, which go with a list of items and one "
            "user a row; name other columns"
        )
    _check_inner(table, lists, schema)
    _check_lengths(table, lists)
    filled = pl.col(columns.item).list.len() > 0
    kept = table.frame.select(list(dict.fromkeys(wanted))).filter(filled)

    def where(row: int) -> str:
        numbered = table.frame.select(columns.item).with_row_index(_ROW).filter(filled)
        found = table.collect(numbered.explode(columns.item).slice(row, 1).select(_ROW))
        return table.where(int(found.item())) if len(found) else table.file

    return replace(table, frame=kept.explode(lists), where=where)


def _check_inner(table: Table, lists: list[str], schema: pl.Schema) -> None:
    for column in lists:
        dtype = schema[column]
        if isinstance(dtype, pl.List) and dtype.inner.is_nested():
            raise DataError(
                f"{table.file}: column {column!r} holds lists of {dtype.inner}; lists of plain "
                "values are read: write one row for each"
            )


def _check_lengths(table: Table, lists: list[str]) -> None:
    lengths = [pl.col(column).list.len() for column in lists]
    # Null where a list is absent, and then of no length that is right.
    sound = pl.all_horizontal(length.eq(lengths[0]) for length in lengths).fill_null(False)
    found = table.collect(table.frame.select(lists).with_row_index(_ROW).filter(~sound).head(1))
    if len(found):
        raise DataError(
            f"{table.where(int(found[_ROW][0]))}: the lists {', '.join(lists)} are absent or of "
            "unequal length; correct or remove the row"
        )
