"""RecBole atomic files: NAME.inter and NAME.item, tab separated, header `field:type`.

Reference: Zhao et al., RecBole, CIKM 2021 (recbole.io, "Atomic files").
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from data_prep.columns import id_text
from data_prep.generic import choose_columns, item_file
from data_prep.options import PrepareOptions
from data_prep.raw import RawData, Table
from data_prep.tabular import scan
from recsys.errors import DataError


def read_recbole(source: Path, options: PrepareOptions, workspace: Path) -> RawData:
    """Interactions of a folder with one `.inter` file, and the content of its `.item` file.

    Raises:
        DataError: there is no such file, several of them, or one cannot be read.
    """
    inter = _inter_file(source)
    table = atomic(inter, options, workspace)
    items = item_file(options, workspace)
    item_path = inter.with_suffix(".item")
    if items is None and item_path.is_file():
        items = atomic_items(item_path, options, workspace)
    return RawData(
        table=table,
        columns=choose_columns(options, table.columns()),
        items=items,
        source=inter.name,
        licence="unknown",
    )


def atomic(path: Path, options: PrepareOptions, workspace: Path) -> Table:
    """An atomic file as a table whose columns lost their `:type`.

    Raises:
        DataError: the header has a field without a type.
    """
    table = scan(
        path,
        "tsv",
        workspace,
        delimiter=options.delimiter,
        encoding=options.encoding,
    )
    untyped = [field for field in table.columns() if ":" not in field]
    if untyped:
        raise DataError(
            f"{path.name} line 1: field {untyped[0]!r} is not of the form name:type; "
            "use the name csv or tsv for files with a plain header"
        )
    names = {field: field.rpartition(":")[0] for field in table.columns()}
    return Table(table.file, table.frame.rename(names), table.where, table.explain)


def atomic_items(path: Path, options: PrepareOptions, workspace: Path) -> pl.DataFrame:
    """item_id (text) and the other fields of an `.item` file."""
    table = atomic(path, options, workspace)
    column = options.item_column
    if column not in table.columns():
        raise DataError(f"{path.name} has no field {column!r}; name it with item_column=NAME")
    items = table.collect(table.frame.with_columns(id_text(column, pl.String())))
    return items.rename({column: "item_id"}).drop_nulls("item_id")


def _inter_file(source: Path) -> Path:
    if source.is_file() and source.suffix == ".inter":
        return source
    found = sorted(source.glob("*.inter")) if source.is_dir() else []
    if len(found) == 1:
        return found[0]
    state = f"several .inter files ({', '.join(path.name for path in found)})" if found else "none"
    raise DataError(
        f"one NAME.inter file is expected at {source}, found {state}; "
        "give the file, or the folder that holds it, with --source"
    )
