"""Counts of fields by row, over the bytes of delimited text.

A reader fills what a short row lacks with nothing, and says nothing. Delimiters and lines that no
quotes enclose are counted instead, block by block; a quote inside a field is written twice, so
that the count of quotes before a byte tells whether the byte is enclosed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

_BLOCK = 1 << 20
_LONGEST = 1 << 27
_LINE, _RETURN = ord("\n"), ord("\r")


@dataclass
class Survey:
    """Counts over one file."""

    lines: int = 0
    """Lines that end outside quotes, blank ones included."""
    blanks: int = 0
    """Lines without any character."""
    delimiters: int = 0
    """Delimiters outside quotes."""
    quoted: bool = False
    """There is a quote."""
    escapes: bool = False
    r"""There is a quote behind a backslash that does not end a field: `"a \"b\" c"`."""
    nul: bool = False
    """There is a NUL byte."""
    closed: bool = True
    """Every quote that opens is closed."""


def survey(plain: Path, delimiter: str, quote: str | None) -> Survey:
    """Counts what tells whether rows are whole."""
    found = Survey()
    mark, separator = (quote or "").encode(), delimiter.encode()
    escape = re.compile(rb"\\" + re.escape(mark) + rb"[^\r\n" + re.escape(mark + separator) + rb"]")
    for block in _whole_lines(plain, mark):
        found.nul = found.nul or b"\0" in block
        if mark and mark in block:
            found.quoted = True
            found.escapes = found.escapes or escape.search(block) is not None
            _count_quoted(found, block, ord(mark), ord(separator))
        elif b"\n\n" in block or b"\n\r\n" in block or block[:1] in b"\r\n":
            _count_quoted(found, block, None, ord(separator))
        else:
            found.lines += block.count(b"\n") + (not block.endswith(b"\n"))
            found.delimiters += block.count(separator)
    return found


def _whole_lines(plain: Path, mark: bytes) -> Iterator[bytes]:
    """Blocks that end where a line does, and no quotes are open."""
    rest = b""
    with plain.open("rb") as stream:
        while block := stream.read(_BLOCK):
            rest += block
            end = _last_end(rest, mark)
            if end or len(rest) > _LONGEST:
                yield rest[: end or len(rest)]
                rest = rest[end or len(rest) :]
    if rest:
        yield rest


def _last_end(block: bytes, mark: bytes) -> int:
    """Just behind the last line end outside quotes; 0 where there is none."""
    end = block.rfind(b"\n") + 1
    if not mark or mark not in block:
        return end
    ends = np.flatnonzero(_outside(_bytes(block), ord(mark)) & (_bytes(block) == _LINE))
    return int(ends[-1]) + 1 if len(ends) else 0


def _bytes(block: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(block, np.uint8)


def _outside(block: npt.NDArray[np.uint8], mark: int) -> npt.NDArray[np.bool_]:
    enclosed: npt.NDArray[np.bool_] = np.logical_xor.accumulate(block == mark)
    return ~enclosed


def _count_quoted(found: Survey, block: bytes, mark: int | None, separator: int) -> None:
    array = _bytes(block)
    outside = np.ones(len(array), bool) if mark is None else _outside(array, mark)
    found.closed = found.closed and bool(outside[-1])
    found.delimiters += int(np.count_nonzero(outside & (array == separator)))
    ends = np.flatnonzero(outside & (array == _LINE))
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(array))
    lengths = np.diff(ends, prepend=-1) - 1
    first = array[np.minimum(ends - lengths, len(array) - 1)]
    found.lines += len(ends)
    found.blanks += int(np.count_nonzero((lengths == 0) | ((lengths == 1) & (first == _RETURN))))
