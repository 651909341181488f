"""Text of any encoding as UTF-8; encodings that would fit are named."""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from data_prep.raw_tables.packing import Part, place
from recsys.errors import DataError

_BLOCK = 1 << 20
_SHOWN = 24
# The longest first: the mark of UTF-16 begins the one of UTF-32.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_USUAL = ("cp1252", "gbk", "big5", "shift_jis", "euc_kr", "cp1251", "cp1250", "latin-1")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_MISREAD = re.compile(r"[\x00\x80-\x9f]")


def _known(name: str) -> str:
    try:
        found = codecs.lookup(name)
        "".encode(name)  # refuses what is not text, such as base64
    except (LookupError, ValueError) as error:
        near = difflib.get_close_matches(name.lower(), ("utf-8", "utf-16", *_USUAL), 1, 0.0)[0]
        raise ValueError(f"no encoding is called {name!r}; did you mean {near!r}?") from error
    return "utf-8" if found.name == "utf-8-sig" else found.name


Encoding = Annotated[str, AfterValidator(_known)]
"""Any encoding that Python knows."""


def as_utf8(part: Part, encoding: str, workspace: Path) -> Path:
    """The file, or a copy in UTF-8 without a byte-order mark whose lines end as usual.

    A byte-order mark tells the encoding, whatever the option says.

    Raises:
        DataError: the bytes are not of this encoding, or plainly of another.
    """
    encoding = _known(encoding)
    with part.path.open("rb") as stream:
        head = stream.read(4)
    mark = next((mark for mark in _MARKS if head.startswith(mark)), b"")
    if not mark and encoding == "utf-8":
        return _with_usual_line_ends(part.path, workspace)
    target = place(workspace) / "utf-8"
    reader = _Decoder(part, _MARKS.get(mark, encoding), marked=bool(mark))
    with target.open("wb") as copy:
        for text in reader.texts(len(mark)):
            copy.write(text.encode())
    return _with_usual_line_ends(target, workspace)


def _with_usual_line_ends(plain: Path, workspace: Path) -> Path:
    """A copy in which lines end as usual, where a carriage return alone ends them."""
    with plain.open("rb") as stream:
        head = stream.read(_BLOCK)
    if b"\r" not in head or b"\n" in head:
        return plain
    target = place(workspace) / "lines"
    with (
        plain.open(encoding="utf-8", errors="surrogateescape", newline=None) as lines,
        target.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as copy,
    ):
        copy.writelines(lines)
    return target


def not_utf8(line: bytes) -> str:
    """What to say of a line that is not UTF-8: which encodings would read it, and as what."""
    start = next((at for at, byte in enumerate(line) if byte > 127), 0)
    start = max(0, start - _SHOWN // 2)
    readings = {}
    for name in _USUAL:
        try:
            text = line.rstrip(b"\r\n").decode(name)
        except UnicodeDecodeError:
            continue
        if not _CONTROLS.search(text) and text not in readings:
            readings[text] = name
    told = "; ".join(
        f"encoding={name} reads {text[start : start + _SHOWN]!r}" for text, name in readings.items()
    )
    return f"is not UTF-8; {told or 'name its encoding with encoding=NAME'}"


class _Decoder:
    """Reads a file block by block, and notices when it is of another encoding than was said."""

    def __init__(self, part: Part, encoding: str, *, marked: bool) -> None:
        self._part, self._encoding = part, encoding
        self._lines = 1
        self._as_utf8 = None if marked else codecs.getincrementaldecoder("utf-8")()
        self._foreign = False

    def texts(self, skip: int) -> Iterator[str]:
        decode = codecs.getincrementaldecoder(self._encoding)().decode
        with self._part.path.open("rb") as stream:
            stream.seek(skip)
            while True:
                block = stream.read(_BLOCK)
                self._look(block)
                try:
                    text = decode(block, final=not block)
                except UnicodeDecodeError as error:
                    raise self._undecodable(error) from error
                except UnicodeError as error:  # utf-16 without its mark
                    raise DataError(
                        f"{self._part.name} is not {self._encoding} ({error}); name another"
                    ) from error
                self._check_controls(text)
                self._lines += text.count("\n")
                yield text
                if not block:
                    break
        self._check_utf8()

    def _look(self, block: bytes) -> None:
        if self._as_utf8 is None:
            return
        try:
            self._as_utf8.decode(block, final=not block)
        except UnicodeDecodeError:
            self._as_utf8 = None
        else:
            self._foreign = self._foreign or not block.isascii()

    def _check_utf8(self) -> None:
        # Text of another encoding is UTF-8 by chance only where it is hardly any text.
        if self._as_utf8 is not None and self._foreign:
            raise DataError(
                f"{self._part.name} is UTF-8, which encoding={self._encoding} would garble; say "
                "encoding=utf-8 (item_file_encoding=utf-8 for an item file)"
            )

    def _check_controls(self, text: str) -> None:
        found = _MISREAD.search(text)
        if found is None:
            return
        line = self._lines + text.count("\n", 0, found.start())
        if "\x00" in found.group():
            advice = "give a whole file, or its right encoding"
        elif self._encoding in ("iso8859-1", "latin_1"):
            advice = "say encoding=cp1252, which has letters there"
        else:
            return
        raise DataError(
            f"{self._part.name} line {line} holds the control character {found.group()!r} when "
            f"read as {self._encoding}; {advice}"
        )

    def _undecodable(self, error: UnicodeDecodeError) -> DataError:
        line = self._lines + error.object[: error.start].count(b"\n")
        return DataError(
            f"{self._part.name} line {line} is not {self._encoding} ({error.reason}); name another "
            "encoding"
        )
