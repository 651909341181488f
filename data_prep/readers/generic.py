"""Tables of interactions (csv, tsv, parquet, jsonl) with named columns."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from data_prep.checks.id_patterns import CHECKS, NULLS, QUOTES, IdCheck
from data_prep.options import Kind, PrepareOptions
from data_prep.raw_tables.headers import check_columns, find_column, own_names
from data_prep.raw_tables.parts import STDIN
from data_prep.raw_tables.raw import Columns, RawData, Table
from data_prep.raw_tables.tabular import TableFormat, scan
from data_prep.readers.item_files import item_file, user_file
from data_prep.readers.sessions import one_row_each
from recsys.progress import console

_UNUSED = "none"
_TIMES = ("timestamp",)
_WEIGHTS = ("rating", "weight")
_DELIMITED = ("csv", "tsv")


def read_table(kind: Kind, source: Path, options: PrepareOptions, workspace: Path) -> RawData:
    """Interactions from one table, one row each, or one row a session with lists of items.

    Raises:
        DataError: a file is absent or cannot be read, a named column is not there, or the first
            line is read as names and looks like data.
    """
    table = scan(source, table_format(kind, options), workspace)
    columns = choose_columns(options, table.columns())
    header = options.header if kind in _DELIMITED else "names"
    check_columns(table, named_columns(columns), header)
    _tell_of_times(table, columns, options)
    return RawData(
        table=one_row_each(table, columns),
        columns=columns,
        items=item_file(options, workspace),
        users=user_file(options, workspace),
        source="stdin" if source == STDIN else source.resolve().name,
        licence="unknown",
        id_checks=id_checks(options, columns, kind in _DELIMITED),
    )


def table_format(kind: Kind, options: PrepareOptions) -> TableFormat:
    """How the options say that interactions are written."""
    return TableFormat(
        kind,
        delimiter=options.delimiter,
        encoding=options.encoding,
        quote=options.quote,
        comment=options.comment,
        header=options.header != "none",
        usual=(*_TIMES, *_WEIGHTS, *named_columns(choose_columns(options, pl.Schema())).values()),
    )


def choose_columns(options: PrepareOptions, schema: pl.Schema) -> Columns:
    """The named columns; what is not named under its usual name, whatever its case."""

    def optional(named: str | None, *usual: str) -> str | None:
        if named is not None:
            return None if named == _UNUSED else named
        return find_column(schema, *usual)

    def needed(named: str, usual: str) -> str:
        return named if named != usual else find_column(schema, usual) or usual

    return Columns(
        user=needed(options.user_column, "user_id"),
        item=needed(options.item_column, "item_id"),
        time=optional(options.time_column, *_TIMES),
        order=optional(options.order_column),
        weight=optional(options.weight_column, *_WEIGHTS),
        part=optional(options.part_column),
    )


def named_columns(columns: Columns) -> dict[str, str]:
    """Option -> column, of those that are used."""
    chosen = {
        "user_column": columns.user,
        "item_column": columns.item,
        "time_column": columns.time,
        "order_column": columns.order,
        "weight_column": columns.weight,
        "part_column": columns.part,
    }
    return {option: column for option, column in chosen.items() if column is not None}


def id_checks(options: PrepareOptions, columns: Columns, delimited: bool) -> tuple[IdCheck, ...]:
    """What no id of this table should be."""
    checks = list(CHECKS)
    if not options.literal_nulls:
        checks.append(NULLS)
    if delimited and options.quote is None:
        checks.append(QUOTES)
    if delimited and options.header != "none":
        names = own_names({"user": columns.user, "item": columns.item})
        checks.append(
            IdCheck(
                names,
                "which is the name of a column: a header that is repeated (remove the line), or "
                "a first line that is data (say header=none and name columns by numbers from 1)",
            )
        )
    return tuple(checks)


def _tell_of_times(table: Table, columns: Columns, options: PrepareOptions) -> None:
    if columns.time is None and columns.order is None and options.time_column is None:
        console.print(
            f"{table.file} has no column `timestamp`: histories keep the order of the file. "
            "time_column=NAME names another, time_column=none says that there is none",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
