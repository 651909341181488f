"""RecBole atomic files: NAME.inter and NAME.item.

Reference: Zhao et al., RecBole, CIKM 2021 (recbole.io, "Atomic files").
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import polars as pl

from data_prep.options import PrepareOptions
from data_prep.raw_tables.headers import check_columns
from data_prep.raw_tables.parts import plain_name
from data_prep.raw_tables.raw import Columns, RawData, Table
from data_prep.raw_tables.tabular import TableFormat, scan
from data_prep.readers.generic import choose_columns, id_checks, named_columns
from data_prep.readers.item_files import item_file
from recsys.errors import DataError


def read_recbole(source: Path, options: PrepareOptions, workspace: Path) -> RawData:
    """Interactions of a folder with one `.inter` file, and the content of its `.item` file.

    Raises:
        DataError: there is no such file, several of them, or one cannot be read.
    """
    inter = _inter_file(source)
    table, types = _typed(inter, options, workspace)
    columns = choose_columns(options, table.columns())
    check_columns(table, named_columns(columns), "names")
    _check_single(inter, types, columns)
    items = item_file(options, workspace)
    item_path = _item_file_beside(inter)
    if items is None and item_path is not None:
        items = atomic_items(item_path, options, workspace)
    return RawData(
        table=table,
        columns=columns,
        items=items,
        source=inter.name,
        id_checks=id_checks(options, columns, delimited=False),
        licence="unknown",
    )


def atomic(path: Path, options: PrepareOptions, workspace: Path) -> Table:
    """An atomic file as a table whose columns lost their `:type`.

    Raises:
        DataError: the header has a field without a type, or one twice.
    """
    return _typed(path, options, workspace)[0]


def _typed(path: Path, options: PrepareOptions, workspace: Path) -> tuple[Table, dict[str, str]]:
    """The table and the type of each field."""
    form = TableFormat(
        "tsv", options.delimiter, encoding=options.encoding, quote=options.quote or "none"
    )
    table = scan(path, form, workspace)
    untyped = [field for field in table.columns() if ":" not in field]
    if untyped:
        raise DataError(
            f"{path.name} line 1: field {untyped[0]!r} is not of the form name:type; "
            "use the name csv or tsv for files with a plain header"
        )
    names = {field: field.rpartition(":")[0] for field in table.columns()}
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        raise DataError(f"{path.name} has the field {twice[0]!r} twice; rename one of them")
    types = {name: field.rpartition(":")[2] for field, name in names.items()}
    return replace(table, frame=table.frame.rename(names)), types


def _check_single(path: Path, types: dict[str, str], columns: Columns) -> None:
    """Raises DataError where a field of sequences is named: `1 2 3` would be one id."""
    for column in named_columns(columns).values():
        if types[column].endswith("_seq"):
            raise DataError(
                f"{path.name}: field {column!r} holds sequences ({types[column]}); fields of one "
                "value a row are read"
            )


def atomic_items(path: Path, options: PrepareOptions, workspace: Path) -> pl.DataFrame:
    """item_id and the other fields of an `.item` file."""
    table = atomic(path, options, workspace)
    column = choose_columns(options, table.columns()).item
    if column not in table.columns():
        raise DataError(f"{path.name} has no field {column!r}; name it with item_column=NAME")
    return table.collect(table.frame).rename({column: "item_id"})


def _inter_file(source: Path) -> Path:
    if source.is_file() and plain_name(source).suffix == ".inter":
        return source
    found = sorted(_of_kind(source, ".inter")) if source.is_dir() else []
    if len(found) == 1:
        return found[0]
    state = f"several .inter files ({', '.join(path.name for path in found)})" if found else "none"
    raise DataError(
        f"one NAME.inter file is expected at {source}, found {state}; "
        "give the file, or the folder that holds it, with --source"
    )


def _of_kind(folder: Path, suffix: str) -> list[Path]:
    return [path for path in folder.iterdir() if plain_name(path).suffix == suffix]


def _item_file_beside(inter: Path) -> Path | None:
    """NAME.item, packed or not, beside NAME.inter."""
    wanted = plain_name(inter).with_suffix(".item")
    found = [path for path in _of_kind(inter.parent, ".item") if plain_name(path) == wanted]
    return found[0] if found else None
