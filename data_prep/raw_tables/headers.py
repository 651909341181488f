"""Checks of named columns, and of the first line: header or data."""

from __future__ import annotations

import re
from collections.abc import Mapping

import polars as pl

from data_prep.raw_tables.raw import Table
from recsys.errors import DataError

_NUMBER = re.compile(
    r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*|\s*\d{1,4}[-/.]\d\d?[-/.]\d{1,4}.*"
)
_PATTERN = re.compile(r"\*|\^.*\$")
_NAME = re.compile(
    r"(?i)\W*(user|item|movie|product|customer|visitor|session|reviewer|asin|uid|iid)"
    r"[\w ]*\W*"
)


def check_columns(
    table: Table, chosen: Mapping[str, str], header: str | None, prefix: str = ""
) -> None:
    """Checks the columns that options name.

    Args:
        table: the table.
        chosen: option -> column.
        header: the option `header`, of a delimited file; "names": the table has names of its own.
        prefix: what the options of this file begin with.

    Raises:
        DataError: a column is absent or there twice, or the first line looks like data although
            nobody said that it is a header.
    """
    schema = table.columns()
    for option, column in chosen.items():
        if column not in schema:
            raise _missing(table, option, column, header, prefix)
        if _PATTERN.fullmatch(column):
            raise DataError(
                f"{table.file}: the column {column!r} bears a name that tables take for a pattern; "
                "rename it"
            )
        if f"{column}_duplicated_0" in schema:
            raise DataError(f"{table.file} has the column {column!r} twice; rename one of them")
        if header is None and _NUMBER.fullmatch(column):
            raise DataError(
                f"the first line of {table.file} looks like data, not like names "
                f"({_shown(list(schema))}); say {prefix}header=none and name columns by numbers "
                f"from 1 ({option}={list(schema).index(column) + 1}), or {prefix}header=first if "
                "these are names"
            )
    if header == "none":
        _check_no_names(table, chosen, prefix)


def _check_no_names(table: Table, chosen: Mapping[str, str], prefix: str) -> None:
    columns = list(dict.fromkeys(chosen.values()))
    first = table.collect(table.frame.select(columns).head(1))
    names = [str(value) for value in first.row(0)] if len(first) else []
    if any(_NAME.fullmatch(name) for name in names):
        raise DataError(
            f"{prefix}header=none, but the first line of {table.file} looks like names "
            f"({_shown(names)}); leave out {prefix}header=none and name columns by these"
        )


def _missing(table: Table, option: str, column: str, header: str | None, prefix: str) -> DataError:
    names = list(table.columns())
    text = f"{table.file} has no column {column!r}"
    if header == "none":
        row = table.collect(table.frame.head(1))
        values = [str(value) for value in row.row(0)] if len(row) else []
        return DataError(
            f"{text}: without a header columns are numbers from 1 to {len(names)}, here of "
            f"{_shown(values)}; say {option}=NUMBER{_hint(values, prefix)}"
        )
    advice = f"name the right one with {option}=NAME{_hint(names, prefix)}"
    if header is None and any(map(_NUMBER.fullmatch, names)):
        advice += f". If this first line is data, say {prefix}header=none and {option}=NUMBER"
    return DataError(f"{text}; it has {_shown(names)}; {advice}")


def _hint(names: list[str], prefix: str) -> str:
    """What seems to separate the fields of a line that was not separated."""
    if names and names[0].startswith("sep="):
        return ", and comment=sep= to leave out the first line"
    if len(names) != 1:
        return ""
    marks = [mark for mark in (";", "\t", "|", "::", ",", " ") if mark in names[0]]
    return f", or say {prefix}delimiter={marks[0]!r}" if marks else ""


def _shown(names: list[str]) -> str:
    return ", ".join(map(repr, names))


def own_names(chosen: Mapping[str, str]) -> str:
    """A pattern of ids that are the name of their own column: the first line, or one repeated."""
    return "^(" + "|".join(re.escape(column) for column in chosen.values()) + ")$"


def find_column(schema: pl.Schema, *usual: str) -> str | None:
    """The first usual name that a table has, whatever its case."""
    for name in usual:
        if name in schema:
            return name
        alike = [column for column in schema if column.strip().lower() == name]
        if len(alike) == 1:
            return alike[0]
    return None
