"""Chosen fields of large JSON Lines files; malformed lines are counted and named.

A clean file is read at full speed; only where a line is malformed, or lacks a field, is the file
read once more, each field of each line by itself (a seventh of the speed, and the same memory).
"""

from __future__ import annotations

import codecs
import glob
from pathlib import Path

import polars as pl

from data_prep.raw_tables.packing import place
from data_prep.raw_tables.raw import Table
from data_prep.raw_tables.tabular import text_file
from recsys.errors import DataError
from recsys.progress import console

_NAMED = 5
_BLOCK = 1 << 20
_REPLACED = "\N{REPLACEMENT CHARACTER}"
"""Stands where bytes were not UTF-8: harmless in the text of a review, not in an id."""


def scan_fields(
    path: Path, fields: list[str], workspace: Path, max_bad_lines: int, encoding: str = "utf-8"
) -> tuple[Table, tuple[str, ...]]:
    """Fields of every line as text, in the order of the file.

    Args:
        path: the file; what is packed is unpacked into the workspace first.
        fields: what every line must have.
        workspace: a folder for temporary files that outlives the table.
        max_bad_lines: so many lines may be malformed or lack a field.
        encoding: how its text is encoded.

    Returns:
        The table, and a note if lines were left out.

    Raises:
        DataError: the file is absent, damaged or empty, or has more malformed lines.
    """
    plain = text_file(path, encoding, workspace)
    # A name in brackets is not a pattern.
    frame = pl.scan_ndjson(
        glob.escape(str(plain.absolute())), schema=dict.fromkeys(fields, pl.String)
    )
    if _is_clean(frame):
        return Table(path.name, frame, lambda row: f"{path.name} line {row + 1}"), ()
    lines = pl.scan_lines(
        _decodable(plain, workspace).absolute(), name="line", row_index_name="number", glob=False
    )
    lines = lines.filter(pl.col("line").str.strip_chars() != "")
    parsed = lines.with_columns(
        pl.col("line").str.json_path_match(f"$.{field}").alias(field) for field in fields
    )
    whole = pl.all_horizontal(~pl.col(fields).str.contains(_REPLACED, literal=True))
    whole = whole.fill_null(False)  # a field that is absent
    bad = parsed.filter(~whole)
    count = int(bad.select(pl.len()).collect(engine="streaming").item())
    first = bad.head(_NAMED).select("number").collect(engine="streaming")["number"]
    note = describe_bad(path.name, count, [int(number) + 1 for number in first])
    if count > max_bad_lines:
        raise too_many(note, max_bad_lines)
    notes = (note,) if count else ()
    if count:
        console.print(note, style="yellow", markup=False, soft_wrap=True)
    frame = parsed.filter(whole).select(fields)
    return Table(path.name, frame, lambda row: f"{path.name} good line {row + 1}"), notes


def describe_bad(file: str, count: int, numbers: list[int]) -> str:
    """e.g. "reviews.json.gz: 7 malformed lines left out (3, 8, 9, 12, 40 ...)"."""
    named = ", ".join(map(str, numbers)) + (" ..." if count > len(numbers) else "")
    return f"{file}: {count:,} malformed lines left out ({named})"


def too_many(note: str, max_bad_lines: int) -> DataError:
    """The error for a file with more malformed lines than are allowed."""
    return DataError(
        f"{note}; {max_bad_lines} are allowed. Give the right file, or raise max_bad_lines"
    )


def _decodable(plain: Path, workspace: Path) -> Path:
    """A copy in which all is UTF-8: one wrong byte would stop the reading of the whole file."""
    copy = place(workspace) / "utf-8"
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    with plain.open("rb") as source, copy.open("wb") as target:
        while block := source.read(_BLOCK):
            target.write(decode(block).encode())
        target.write(decode(b"", final=True).encode())
    return copy


def _is_clean(frame: pl.LazyFrame) -> bool:
    try:
        nulls = frame.select(pl.all().null_count()).collect(engine="streaming")
    except pl.exceptions.ComputeError:
        return False
    return not any(nulls.row(0))
