"""Delimited text (csv, tsv) as a lazy table of text columns.

polars reads the rows. What it would read without a word though it is wrong is looked for first:
rows that are too short, quotes that enclose nothing, bytes that are not text.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import polars as pl

from data_prep.raw_tables.dialect import Dialect, QuoteError, records, with_one_byte
from data_prep.raw_tables.packing import Part
from data_prep.raw_tables.raw import Table
from data_prep.raw_tables.survey import survey
from data_prep.raw_tables.text_encodings import not_utf8
from recsys.errors import DataError


def scan_delimited(part: Part, plain: Path, dialect: Dialect, workspace: Path) -> Table | None:
    """A delimited file, in UTF-8, as a lazy table; its rows are all of one length.

    None where it holds no row, not even a header.

    Raises:
        DataError: a row has too few or too many fields, or bytes are not text.
    """
    file = _File(part.name, plain, dialect, workspace)
    if file.is_empty:
        return None
    file.check()
    return Table(part.name, file.frame(), file.where, file.explain)


class _File:
    """One file and how it is written; a delimiter of several bytes is replaced by one."""

    def __init__(self, name: str, plain: Path, dialect: Dialect, workspace: Path) -> None:
        self._name, self._shown = name, dialect.delimiter
        if len(dialect.delimiter.encode()) > 1:
            plain, dialect = with_one_byte(name, plain, dialect, workspace)
        self._plain, self._dialect = plain, dialect
        self._width = len(dialect.names or self._first())
        self._survey = survey(plain, dialect.delimiter, dialect.quote)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing but comments."""
        return not self._width

    def _first(self) -> list[str]:
        try:
            return next(records(self._plain, self._dialect), (1, []))[1]
        except QuoteError as error:
            raise DataError(f"{self._name} {error}") from error

    def check(self) -> None:
        """Raises DataError where the bytes say that not all rows are what they should be."""
        found = self._survey
        rows = found.lines - found.blanks
        sound = found.closed and found.delimiters == (self._width - 1) * rows
        if found.escapes:
            raise DataError(
                f"{self._name} has quotes behind backslashes, which are not read; write a quote "
                "inside a field twice, or say quote=none if quotes do not enclose fields"
            )
        if found.nul or not sound:
            fault = self.explain()
            if fault is not None:
                raise DataError(f"{fault}; correct the file, or name the right delimiter and quote")

    def frame(self) -> pl.LazyFrame:
        """All columns as text; blank lines are not rows."""
        dialect = self._dialect
        names = dialect.names or [str(number + 1) for number in range(self._width)]
        frame = pl.scan_csv(
            self._plain.absolute(),
            separator=dialect.delimiter,
            quote_char=dialect.quote,
            comment_prefix=dialect.comment,
            has_header=dialect.header,
            schema=None if dialect.header else dict.fromkeys(names, pl.String),
            infer_schema=False,
            glob=False,
        )
        if dialect.header:
            frame = frame.rename(_stripped(self._columns(frame)))
        if self._survey.blanks:
            frame = frame.filter(pl.any_horizontal(pl.all().is_not_null()))
        return frame

    def _columns(self, frame: pl.LazyFrame) -> list[str]:
        try:
            return frame.collect_schema().names()
        except (pl.exceptions.PolarsError, OSError) as error:
            found = self.explain() or f"{self._name} cannot be read: {str(error).splitlines()[0]}"
            raise DataError(f"{found}; correct the first line") from error

    def where(self, row: int) -> str:
        """The name of a row of the frame."""
        start = int(self._dialect.header)
        if not (self._survey.blanks or self._survey.quoted or self._dialect.comment):
            return f"{self._name} line {row + start + 1}"
        try:
            line = next(islice(records(self._plain, self._dialect), row + start, None))[0]
        except (QuoteError, StopIteration):
            return f"{self._name} row {row}"
        return f"{self._name} line {line}"

    def explain(self) -> str | None:
        """Looks at a refused file row by row; only the way to an error takes this loop."""
        try:
            for line, fields in records(self._plain, self._dialect):
                if (fault := self._fault(fields)) is not None:
                    return f"{self._name} line {line} {fault}"
        except QuoteError as error:
            return f"{self._name} {error}"
        if self._survey.quoted and self._dialect.comment is None:
            return (
                f"{self._name} has quotes inside fields that no quotes enclose; write them twice "
                "and enclose the field, or say quote=none if quotes do not enclose fields"
            )
        return None

    def _fault(self, fields: list[str]) -> str | None:
        text = self._shown.join(fields)
        if any("\udc80" <= character <= "\udcff" for character in text):
            return not_utf8(text.encode(errors="surrogateescape"))
        if "\0" in text:
            return "holds NUL bytes: a damaged file, or UTF-16 (there is encoding=utf-16-le)"
        if len(fields) != self._width:
            return (
                f"has {len(fields)} fields separated by {self._shown!r}, {self._width} are expected"
            )
        return None


def _stripped(names: list[str]) -> dict[str, str]:
    """Names without spaces around them, where that leaves them different."""
    counts = Counter(name.strip() for name in names)
    return {name: name.strip() for name in names if counts[name.strip()] == 1}
