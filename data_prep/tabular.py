"""Files of rows and columns (csv, tsv, parquet, jsonl, also gzipped) as lazy tables."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Literal

import polars as pl

from data_prep.raw import Table
from recsys.errors import DataError

Kind = Literal["csv", "tsv", "parquet", "jsonl"]
Encoding = Literal["utf-8", "latin-1"]

_SUFFIXES: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_COPY_BLOCK = 1 << 20
_SAMPLE_LINES = 1000


def kind_of(path: Path) -> Kind:
    """The kind a file name tells.

    Raises:
        DataError: the suffix is none of the known ones.
    """
    suffix = (path.with_suffix("") if path.suffix == ".gz" else path).suffix
    if suffix not in _SUFFIXES:
        raise DataError(f"{path} is none of {', '.join(_SUFFIXES)} (or the same with .gz)")
    return _SUFFIXES[suffix]


def scan(
    path: Path,
    kind: Kind,
    workspace: Path,
    *,
    delimiter: str | None = None,
    encoding: Encoding = "utf-8",
    header: list[str] | None = None,
) -> Table:
    """A file as a lazy table; csv and tsv columns are all text.

    Args:
        path: the file; `.gz` is unpacked into the workspace first, so that it can be streamed.
        kind: its format.
        workspace: a folder for temporary files that outlives the table.
        delimiter: csv and tsv: what separates the fields.
        encoding: csv, tsv and jsonl: how text is encoded.
        header: csv and tsv: names of the columns of a file without a header line.

    Raises:
        DataError: the file is absent, empty or damaged.
    """
    plain = unpacked(path, workspace, encoding)
    if kind == "parquet":
        return Table(path.name, pl.scan_parquet(plain), lambda row: f"{path.name} row {row}")
    if kind == "jsonl":
        return _scan_jsonl(path.name, plain)
    return _scan_delimited(path.name, plain, delimiter or "\t,"[kind == "csv"], header)


def _scan_delimited(name: str, plain: Path, delimiter: str, header: list[str] | None) -> Table:
    # Quotes mean something in csv only: in the tab and colon formats they are part of a title.
    quote = '"' if delimiter in ",;" else None
    frame = pl.scan_csv(
        plain,
        separator=delimiter,
        quote_char=quote,
        has_header=header is None,
        schema=None if header is None else dict.fromkeys(header, pl.String),
        infer_schema=False,
        glob=False,
    )
    first_line = 1 if header else 2
    if header is None:
        _check_header(name, plain, delimiter, quote)

    def explain() -> str | None:
        return _first_ragged(name, plain, delimiter, quote, len(header) if header else None)

    return Table(name, frame, lambda row: f"{name} line {row + first_line}", explain)


def _check_header(name: str, plain: Path, delimiter: str, quote: str | None) -> None:
    """Raises DataError when two columns bear one name: which of them was meant?"""
    first = next(_lines(plain), "")
    names = _split(first.rstrip("\r\n"), delimiter, quote)
    for column in names:
        if names.count(column) > 1:
            raise DataError(f"{name} has the column {column!r} twice; rename one of them")


def _scan_jsonl(name: str, plain: Path) -> Table:
    # Columns are read as text, so that the ids 7 and "7" are one and the schema never changes
    # midway.
    frame = pl.scan_ndjson(plain, schema=dict.fromkeys(_fields(name, plain), pl.String))
    return Table(
        name, frame, lambda row: f"{name} line {row + 1}", lambda: _first_bad_json(name, plain)
    )


def _fields(name: str, plain: Path) -> list[str]:
    """Names of the fields of the first lines."""
    fields: dict[str, None] = {}
    for number, line in enumerate(islice(_lines(plain), _SAMPLE_LINES), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{name} line {number} is no JSON ({error.msg}); mend it") from error
        if not isinstance(row, dict):
            raise DataError(f"{name} line {number} is no JSON object; one a line is expected")
        fields |= dict.fromkeys(row)
    return list(fields)


def unpacked(path: Path, workspace: Path, encoding: Encoding = "utf-8") -> Path:
    """The file itself, or an unpacked utf-8 copy of it in the workspace.

    Raises:
        DataError: the file is absent, empty or damaged.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}; give the right --source")
    plain = _plain(path, encoding, workspace)
    if plain.stat().st_size == 0:
        raise DataError(f"{path} is empty; give another file")
    return plain


def _plain(path: Path, encoding: Encoding, workspace: Path) -> Path:
    if path.suffix != ".gz" and encoding == "utf-8":
        return path
    plain = workspace / path.name.removesuffix(".gz")
    try:
        with open_bytes(path) as source, plain.open("wb") as target:
            while block := source.read(_COPY_BLOCK):
                # One byte is one character in latin-1, so a block can be cut anywhere.
                target.write(block if encoding == "utf-8" else block.decode(encoding).encode())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}); fetch it again") from error
    return plain


def open_bytes(path: Path) -> gzip.GzipFile | BufferedReader:
    """A file's bytes, unpacked where it ends in `.gz`."""
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _lines(plain: Path) -> Iterator[str]:
    """Lines whose bytes may be anything; undecodable ones come as surrogates."""
    with plain.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        yield from stream


def _not_text(line: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in line)


def _first_ragged(
    name: str, plain: Path, delimiter: str, quote: str | None, width: int | None
) -> str | None:
    """Looks at a refused file line by line; only the way to an error takes this loop."""
    for number, line in enumerate(_lines(plain), start=1):
        if _not_text(line):
            return f"{name} line {number} is not UTF-8 (there is encoding=latin-1)"
        fields = _split(line, delimiter, quote)
        width = width or len(fields)
        if len(fields) > width:
            return (
                f"{name} line {number} has {len(fields)} fields separated by {delimiter!r}, "
                f"{width} are expected"
            )
    return None


def _split(line: str, delimiter: str, quote: str | None) -> list[str]:
    if quote is None:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter, quotechar=quote), [])


def _first_bad_json(name: str, plain: Path) -> str | None:
    for number, line in enumerate(_lines(plain), start=1):
        if _not_text(line):
            return f"{name} line {number} is not UTF-8 (there is encoding=latin-1)"
        try:
            json.loads(line)
        except json.JSONDecodeError as error:
            return f"{name} line {number} is no JSON ({error.msg} at character {error.pos + 1})"
    return None
