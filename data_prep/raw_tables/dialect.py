"""Dialects of delimited text, and its records one by one."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from data_prep.raw_tables.packing import place
from recsys.errors import DataError

_BLOCK = 1 << 20
_FIELD_LIMIT = 1 << 27
_STAND_INS = "\x1f\x1e\x1d\x1c"


@dataclass(frozen=True)
class Dialect:
    """How the rows of a delimited file are written."""

    delimiter: str
    """What separates fields: one character or several."""
    quote: str | None = None
    """What encloses a field that holds the delimiter; None: nothing does."""
    comment: str | None = None
    """Lines that begin with it are not rows."""
    header: bool = True
    """The first row holds the names of the columns."""
    names: tuple[str, ...] | None = None
    """Names of the columns of a file without a header; None: they are numbered from 1."""


class QuoteError(Exception):
    """A quote that is not closed, or stands where none may; the message names the line."""


def records(plain: Path, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every row, blank lines left out.

    Bytes that are not UTF-8 come as surrogates.

    Raises:
        QuoteError: a quote is not closed, or text follows a closed one.
    """
    csv.field_size_limit(_FIELD_LIMIT)
    lines = _Lines(plain, dialect.comment)
    reader = csv.reader(
        lines,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote,
        quoting=csv.QUOTE_NONE if dialect.quote is None else csv.QUOTE_MINIMAL,
        strict=True,
    )
    while True:
        start = lines.number + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise QuoteError(_fault(start, str(error))) from error
        if fields is None:
            return
        if fields:
            yield start, fields


def _fault(line: int, error: str) -> str:
    if "new-line" in error:
        return f"line {line} has a carriage return inside a field"
    return (
        f"line {line}: a quote is not closed, or text stands behind a closed one ({error}); say "
        "quote=none if quotes do not enclose fields"
    )


class _Lines:
    """Lines of a file that are not comments; knows the number of the last one."""

    def __init__(self, plain: Path, comment: str | None) -> None:
        self.number = 0
        self._lines = self._read(plain, comment)

    def _read(self, plain: Path, comment: str | None) -> Iterator[str]:
        with plain.open(encoding="utf-8", errors="surrogateescape", newline="\n") as stream:
            for line in stream:
                self.number += 1
                if comment is None or not line.startswith(comment):
                    yield line

    def __iter__(self) -> Iterator[str]:
        return self._lines


def quote_of(plain: Path, delimiter: str) -> str | None:
    """The usual quotes: of csv always, of others where every name of the header stands in them."""
    if delimiter in (",", ";"):
        return '"'
    if len(delimiter.encode()) > 1:
        return None
    try:
        first = next(records(plain, Dialect(delimiter)), (1, []))[1]
    except QuoteError:
        return None  # told when the file is read
    quoted = [len(name) > 1 and name[0] == name[-1] == '"' for name in first]
    return '"' if quoted and all(quoted) else None


def with_one_byte(
    name: str, plain: Path, dialect: Dialect, workspace: Path
) -> tuple[Path, Dialect]:
    """A copy in which one byte separates the fields, as readers want it.

    Raises:
        DataError: quotes enclose fields, or the file holds every byte that could stand there.
    """
    delimiter = dialect.delimiter.encode()
    if dialect.quote is not None:
        raise DataError(
            f"{name}: quotes go with a delimiter of one character, not with {dialect.delimiter!r}; "
            "say quote=none"
        )
    free = _absent(plain)
    if not free:
        raise DataError(f"{name} holds control characters; it cannot be split by {delimiter!r}")
    target = place(workspace) / "separated"
    with plain.open("rb") as source, target.open("wb") as copy:
        rest = b""
        while block := source.read(_BLOCK):
            *whole, rest = (rest + block).replace(delimiter, free[0]).rpartition(b"\n")
            copy.writelines(whole)
        copy.write(rest.replace(delimiter, free[0]))
    return target, replace(dialect, delimiter=free[0].decode())


def _absent(plain: Path) -> list[bytes]:
    free = [character.encode() for character in _STAND_INS]
    with plain.open("rb") as source:
        while block := source.read(_BLOCK):
            free = [byte for byte in free if byte not in block]
    return free
