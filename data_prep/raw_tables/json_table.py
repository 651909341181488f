"""JSON Lines as a lazy table of text fields.

Numbers become text as JSON has them, so that the ids 7 and "7" are one.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from data_prep.raw_tables.packing import Part
from data_prep.raw_tables.raw import Table
from data_prep.raw_tables.text_encodings import not_utf8
from recsys.errors import DataError

_SAMPLE = 1000
_EXACT = 2.0**53
"""From here on neighbouring whole numbers are one float."""
_BLOCK = 1 << 20


def scan_json_lines(part: Part, plain: Path, usual: tuple[str, ...] = ()) -> Table | None:
    """A file of one JSON object a line, in UTF-8; None where it holds no line.

    Args:
        part: the file as the user knows it.
        plain: its text.
        usual: fields that are looked for in the whole file; others in its first lines alone.

    Raises:
        DataError: a line holds no object, or one of the first lines a field twice.
    """
    schema = _schema(part.name, plain)
    if not schema:
        return None
    for field in usual:
        if field not in schema and _holds(plain, f'"{field}"'.encode()):
            schema[field] = pl.String()
    # A name in brackets is not a pattern.
    frame = pl.scan_ndjson(glob.escape(str(plain.absolute())), schema=schema)

    def where(row: int) -> str:
        numbers = islice(_lines(plain), row, None)
        return f"{part.name} line {next(numbers, ('unknown', ''))[0]}"

    return Table(part.name, frame, where, lambda: _first_fault(part.name, plain, schema))


def _schema(name: str, plain: Path) -> dict[str, pl.DataType]:
    schema: dict[str, pl.DataType] = {}
    for number, line in islice(_lines(plain), _SAMPLE):
        for field, value in _object(name, number, line).items():
            schema.setdefault(field, pl.String())
            if isinstance(value, list):
                schema[field] = pl.List(pl.String())
            elif isinstance(value, float) and abs(value) >= _EXACT:
                schema[field] = pl.Float64()  # as text it would look like a whole number
    return schema


def _object(name: str, number: int, line: str) -> dict[str, Any]:
    if _not_text(line):
        raise DataError(f"{name} line {number} {_bytes_fault(line)}")
    try:
        row = json.loads(line, object_pairs_hook=_once, parse_constant=_no_number)
    except ValueError as error:
        whole = " or its array in several lines" if line.strip() in ("[", "{") else ""
        raise DataError(
            f"{name} line {number} is not JSON ({error}); each line must be one object, "
            f"not an array of them{whole}. Correct the file"
        ) from error
    if not isinstance(row, dict):
        raise DataError(
            f"{name} line {number} is not a JSON object; each line must be one (`jq -c '.[]'` "
            "writes an array in this form)"
        )
    return row


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r} occurs twice")
    return row


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON; write null")


def _lines(plain: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers; undecodable bytes come as surrogates."""
    with plain.open(encoding="utf-8", errors="surrogateescape", newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield number, line


def _holds(plain: Path, word: bytes) -> bool:
    rest = b""
    with plain.open("rb") as stream:
        while block := stream.read(_BLOCK):
            if word in rest + block:
                return True
            rest = block[-len(word) :]
    return False


def _not_text(line: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in line)


def _bytes_fault(line: str) -> str:
    return not_utf8(line.encode(errors="surrogateescape"))


def _first_fault(name: str, plain: Path, schema: dict[str, pl.DataType]) -> str | None:
    """Looks at a refused file line by line; only the way to an error takes this loop."""
    for number, line in _lines(plain):
        if _not_text(line):
            return f"{name} line {number} {_bytes_fault(line)}"
        try:
            row = json.loads(line, parse_constant=_no_number)
        except json.JSONDecodeError as error:
            return f"{name} line {number} is not JSON ({error.msg} at character {error.pos + 1})"
        except ValueError as error:
            return f"{name} line {number} is not JSON ({error})"
        if not isinstance(row, dict):
            return f"{name} line {number} is not a JSON object"
        for field, value in row.items():
            is_list = value is None or isinstance(value, list)
            if isinstance(schema.get(field), pl.List) and not is_list:
                return f"{name} line {number}: {field!r} is not a list, as it is on other lines"
    return None
