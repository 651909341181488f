"""Tables (csv, tsv, parquet, jsonl) in one file or many, as one lazy table.

The one door of all tables: interactions, item files and the named raw data sets come through it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from data_prep.options import Kind
from data_prep.raw_tables.delimited import scan_delimited
from data_prep.raw_tables.dialect import Dialect, quote_of
from data_prep.raw_tables.json_table import scan_json_lines
from data_prep.raw_tables.packing import PACKED_SUFFIXES, Part
from data_prep.raw_tables.parquet_table import scan_parquet
from data_prep.raw_tables.parts import find_parts, plain_name
from data_prep.raw_tables.raw import Table
from data_prep.raw_tables.stacking import stacked
from data_prep.raw_tables.text_encodings import as_utf8
from recsys.errors import DataError

_SUFFIXES: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}


@dataclass(frozen=True)
class TableFormat:
    """How a table is written; what does not concern its kind is not looked at."""

    kind: Kind
    delimiter: str | None = None
    """csv and tsv: what separates the fields; None: a comma, a tab."""
    encoding: str = "utf-8"
    """csv, tsv and jsonl: how text is encoded."""
    quote: str | None = None
    """csv and tsv: what encloses fields; "none": nothing; None: what is usual."""
    comment: str | None = None
    """csv and tsv: lines that begin with it are not rows."""
    header: bool = True
    """csv and tsv: the first row holds names; without, columns are numbered from 1."""
    names: tuple[str, ...] | None = None
    """csv and tsv: names of the columns of a file without a header."""
    usual: tuple[str, ...] = ()
    """jsonl: fields that are looked for in the whole file; others in its first lines alone."""


def kind_of(path: Path, delimiter: str | None = None) -> Kind:
    """The kind that a file name tells, or the first file of a folder.

    Raises:
        DataError: the suffix is none of the known ones, and no delimiter says how it is written.
    """
    files = sorted(path.rglob("[!._]*.*")) if path.is_dir() else [path]
    suffix = plain_name(files[0] if files else path).suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if delimiter is not None:
        return "csv"
    raise DataError(
        f"{path} is none of {', '.join(_SUFFIXES)} (or the same with one of "
        f"{', '.join(PACKED_SUFFIXES)}); rename it, or name item_file_kind or item_file_delimiter"
    )


def scan(path: Path, form: TableFormat, workspace: Path) -> Table:
    """A table as a lazy frame; csv, tsv and jsonl columns are all text.

    Args:
        path: a file, packed or not, a folder of parts, a pattern, or `-` for stdin.
        form: how it is written.
        workspace: a folder for unpacked files that outlives the table.

    Raises:
        DataError: a file is absent, empty, damaged or of another kind, or parts do not fit.
    """
    found = [(_scan(part, form, workspace), part) for part in find_parts(path, workspace)]
    tables = [_with_values(table, part) for table, part in found if table is not None]
    if not tables:
        raise DataError(f"{path} holds no rows; give another file")
    return stacked(tables, sparse=form.kind == "jsonl")


def text_file(path: Path, encoding: str, workspace: Path) -> Path:
    """One text file, unpacked and in UTF-8.

    Raises:
        DataError: the file is absent, damaged or empty, or several.
    """
    part, *more = find_parts(path, workspace)
    if more:
        raise DataError(f"{path} holds several files; give one of them")
    return as_utf8(part, encoding, workspace)


def _scan(part: Part, form: TableFormat, workspace: Path) -> Table | None:
    with part.path.open("rb") as stream:
        is_parquet = stream.read(4) == b"PAR1"
    if is_parquet != (form.kind == "parquet"):
        found = "a parquet file" if is_parquet else "not a parquet file"
        raise DataError(f"{part.name} cannot be read as {form.kind}: it is {found}")
    if form.kind == "parquet":
        return scan_parquet(part)
    plain = as_utf8(part, form.encoding, workspace)
    if form.kind == "jsonl":
        return scan_json_lines(part, plain, form.usual)
    return scan_delimited(part, plain, _dialect(form, plain), workspace)


def _dialect(form: TableFormat, plain: Path) -> Dialect:
    delimiter = form.delimiter or "\t,"[form.kind == "csv"]
    quote = quote_of(plain, delimiter) if form.quote is None else form.quote
    return Dialect(
        delimiter,
        quote=None if quote == "none" else quote,
        comment=form.comment,
        header=form.header and form.names is None,
        names=form.names,
    )


def _with_values(table: Table, part: Part) -> Table:
    """The columns that folders tell, where the file does not hold them itself."""
    held = table.columns() if part.values else {}
    told = {
        name: pl.lit(value, pl.String) for name, value in part.values.items() if name not in held
    }
    return replace(table, frame=table.frame.with_columns(**told)) if told else table
