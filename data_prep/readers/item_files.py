"""Item and user files: content of items (titles, genres ...) and users (age ...), from tables."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from data_prep.options import Header, PrepareOptions
from data_prep.raw_tables.headers import check_columns, find_column
from data_prep.raw_tables.tabular import TableFormat, kind_of, scan

_USUAL = "item_id"


def item_file(options: PrepareOptions, workspace: Path) -> pl.DataFrame | None:
    """item_id, title where a title column is named, and all other columns of the file.

    It is read like the interactions, where no option `item_file_...` says otherwise.

    Raises:
        DataError: the file is absent, or a named column is not in it.
    """
    if options.item_file is None:
        return None
    form = item_format(options, options.item_file)
    table = scan(options.item_file, form, workspace)
    id_column, title = options.item_file_id_column, options.title_column
    if id_column == _USUAL:
        id_column = find_column(table.columns(), _USUAL) or _USUAL
    header = _header(options) if form.kind in ("csv", "tsv") else "names"
    chosen = {"item_file_id_column": id_column} | ({"title_column": title} if title else {})
    check_columns(table, chosen, header, prefix="item_file_")
    items = table.collect(table.frame)
    renamed = {id_column: "item_id"}
    if title is not None:
        renamed[title] = "title"
    # What bears one of our names but was not chosen for it makes room.
    taken = [new for old, new in renamed.items() if new != old and new in items.columns]
    return items.drop(taken).rename(renamed)


def user_file(options: PrepareOptions, workspace: Path) -> pl.DataFrame | None:
    """user_id and all other columns of the file.

    Raises:
        DataError: the file is absent, or the column of ids is not in it.
    """
    if options.user_file is None:
        return None
    delimiter = options.user_file_delimiter or options.delimiter
    form = TableFormat(
        options.user_file_kind or kind_of(options.user_file, delimiter),
        delimiter=delimiter,
        encoding=options.encoding,
        quote=options.quote,
        comment=options.comment,
        header=options.header != "none",
        usual=(options.user_file_id_column,),
    )
    table = scan(options.user_file, form, workspace)
    column = options.user_file_id_column
    if column == "user_id":
        column = find_column(table.columns(), column) or column
    header = options.header if form.kind in ("csv", "tsv") else "names"
    check_columns(table, {"user_file_id_column": column}, header, prefix="user_file_")
    users = table.collect(table.frame)
    return users.drop({"user_id"} - {column}, strict=False).rename({column: "user_id"})


def item_format(options: PrepareOptions, path: Path) -> TableFormat:
    """How the item file is written: like the interactions, where nothing else is said."""
    delimiter = options.item_file_delimiter or options.delimiter
    return TableFormat(
        options.item_file_kind or kind_of(path, delimiter),
        delimiter=delimiter,
        encoding=options.item_file_encoding or options.encoding,
        quote=options.item_file_quote or options.quote,
        comment=options.comment,
        header=_header(options) != "none",
        usual=tuple(filter(None, (options.item_file_id_column, options.title_column))),
    )


def _header(options: PrepareOptions) -> Header | None:
    return options.item_file_header or options.header
