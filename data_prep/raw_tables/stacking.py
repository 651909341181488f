"""Concatenation of the parts of a table by column name."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate

import polars as pl

from data_prep.raw_tables.raw import Table, column
from recsys.errors import DataError

_WHOLE = 2.0**53
"""Below it a float holds every whole number."""


def stacked(tables: list[Table], *, sparse: bool = False) -> Table:
    """All rows of all parts, in their order.

    Args:
        tables: the parts.
        sparse: rows need not hold every column, so parts need not either (JSON Lines).

    Raises:
        DataError: parts have other columns than the first, or types that cannot be one.
    """
    if len(tables) == 1:
        return tables[0]
    if sparse:
        tables = _filled(tables)
    names = list(tables[0].columns())
    for table in tables[1:]:
        _check_columns(tables[0], table)
    types = {name: _common(tables, name) for name in names}
    frame = pl.concat([table.frame.select(_cast(table, types)) for table in tables])

    def explain() -> str | None:
        return next(filter(None, (table.explain() for table in tables)), None)

    file = f"{tables[0].file} ... {tables[-1].file}"
    return replace(tables[0], file=file, frame=frame, where=_where(tables), explain=explain)


def _filled(tables: list[Table]) -> list[Table]:
    """Tables with the columns of all of them, without a value where one lacks a column."""
    names = dict.fromkeys(name for table in tables for name in table.columns())
    filled = []
    for table in tables:
        absent = [pl.lit(None).alias(name) for name in names if name not in table.columns()]
        filled.append(replace(table, frame=table.frame.with_columns(absent)))
    return filled


def _check_columns(first: Table, other: Table) -> None:
    differing = set(first.columns()) ^ set(other.columns())
    if differing:
        column = min(differing)
        has, lacks = (first, other) if column in first.columns() else (other, first)
        raise DataError(
            f"{lacks.file} has no column {column!r}, {has.file} has: parts of one table have the "
            "same columns. Give one file, or a pattern that matches the parts alone"
        )


def _common(tables: list[Table], name: str) -> pl.DataType | None:
    """The type that holds what every part has; None where no part has any value."""
    types = {table.columns()[name] for table in tables} - {pl.Null()}
    common = _one(types)
    if common is None and types:
        shown = " and ".join(sorted(map(str, types)))
        raise DataError(
            f"{tables[0].file} and the other parts: column {name!r} is {shown}, which cannot be "
            "one column; write the parts with one type"
        )
    return common


def _one(types: set[pl.DataType]) -> pl.DataType | None:
    if len(types) < 2:
        return next(iter(types), None)
    if all(isinstance(dtype, pl.List) for dtype in types):
        inner = {_inner(dtype) for dtype in types} - {pl.Null()}
        one = _one(inner)
        return None if one is None else pl.List(one)
    if all(dtype.is_integer() for dtype in types) and pl.UInt64() not in types:
        return pl.Int64()
    if all(dtype in (pl.Date, pl.Datetime) for dtype in types):
        zones = {getattr(dtype, "time_zone", None) for dtype in types}
        mixed = None in zones and len(zones) > 1
        return None if mixed else pl.Datetime("us", None if None in zones else "UTC")
    if all(dtype.is_numeric() or isinstance(dtype, pl.String) for dtype in types):
        return pl.String()
    return None


def _inner(dtype: pl.DataType) -> pl.DataType:
    found = dtype.inner if isinstance(dtype, pl.List) else dtype
    return found() if isinstance(found, type) else found


def _cast(table: Table, types: dict[str, pl.DataType | None]) -> list[pl.Expr]:
    found = table.columns()
    return [_as(column(name), found[name], wanted) for name, wanted in types.items()]


def _as(value: pl.Expr, dtype: pl.DataType, wanted: pl.DataType | None) -> pl.Expr:
    if wanted is None or dtype == wanted:
        return value
    if isinstance(dtype, pl.List) and isinstance(wanted, pl.List):
        return value.list.eval(_as(pl.element(), _inner(dtype), _inner(wanted)))
    if isinstance(wanted, pl.String) and dtype.is_float():
        # A part in which a number is absent has floats: 3.0 is the 3 of the other parts.
        whole = (value == value.floor()) & (value.abs() < _WHOLE)
        text = value.cast(pl.Int64, strict=False).cast(pl.String)
        other = value.fill_nan(None).cast(pl.String)
        return pl.when(whole).then(text).otherwise(other).name.keep()
    return value.cast(wanted)


def _where(tables: list[Table]) -> Callable[[int], str]:
    def where(row: int) -> str:
        # On the way to an error alone: the parts are counted.
        counts = [int(table.collect(table.frame.select(pl.len())).item()) for table in tables]
        ends = list(accumulate(counts))
        place = min(bisect.bisect_right(ends, row), len(tables) - 1)
        return tables[place].where(row - ([0, *ends][place]))

    return where
