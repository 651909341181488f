"""csv, tsv, parquet and jsonl files whose columns the options name, and item files."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from data_prep.columns import id_text
from data_prep.options import PrepareOptions
from data_prep.raw import Columns, RawData
from data_prep.tabular import Kind, kind_of, scan
from recsys.errors import DataError

_UNUSED = "none"


def read_table(kind: Kind, source: Path, options: PrepareOptions, workspace: Path) -> RawData:
    """Interactions from one file, one row each.

    Raises:
        DataError: a file is absent or cannot be read.
    """
    table = scan(source, kind, workspace, delimiter=options.delimiter, encoding=options.encoding)
    return RawData(
        table=table,
        columns=choose_columns(options, table.columns()),
        items=item_file(options, workspace),
        source=source.name,
        licence="unknown",
    )


def choose_columns(options: PrepareOptions, schema: pl.Schema) -> Columns:
    """The named columns; times and ratings also under their usual names."""

    def optional(named: str | None, *usual: str) -> str | None:
        if named is not None:
            return None if named == _UNUSED else named
        return next((column for column in usual if column in schema), None)

    return Columns(
        user=options.user_column,
        item=options.item_column,
        time=optional(options.time_column, "timestamp"),
        order=optional(options.order_column),
        weight=optional(options.weight_column, "rating", "weight"),
    )


def item_file(options: PrepareOptions, workspace: Path) -> pl.DataFrame | None:
    """item_id (text), title where a title column is named, and all other columns of the file.

    Raises:
        DataError: the file is absent, or a named column is not in it.
    """
    if options.item_file is None:
        return None
    table = scan(options.item_file, kind_of(options.item_file), workspace)
    schema = table.columns()
    for column in filter(None, (options.item_file_id_column, options.title_column)):
        if column not in schema:
            raise DataError(
                f"{table.file} has no column {column!r}; it has {', '.join(map(repr, schema))}"
            )
    items = table.collect(
        table.frame.with_columns(
            id_text(options.item_file_id_column, schema[options.item_file_id_column])
        )
    )
    renamed = {options.item_file_id_column: "item_id"}
    if options.title_column is not None:
        renamed[options.title_column] = "title"
    # What bears one of our names but was not chosen for it makes room.
    taken = [new for old, new in renamed.items() if new != old and new in items.columns]
    return items.drop(taken).rename(renamed).drop_nulls("item_id")
