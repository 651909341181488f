"""The log of run-time items: a line for each change, on disk before the change is answered.

    FOLDER/items.log     CRC-32 in 8 hexadecimal digits, a blank, JSON, a line feed; line by line
    FOLDER/items.lock    locked by readers together, by a writer alone

Who is killed while writing leaves an unfinished line at the end. Nobody was told that its change
is kept, so the next writer cuts it off. A whole line that is not what was written is damage, and an
error.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.errors import ChecksumError, DataError
from recsys.files.atomic import atomic_path
from recsys.files.system_errors import explain

LOG = "items.log"
_LOCK = "items.lock"
_HEAD = {"log": "recsys items", "schema_version": 1}
_LEAST = 1 << 20
"""Bytes below which a log is not written anew."""
Record = dict[str, Any]
"""`number`, and what was changed: `put` (id -> content), `delete` (ids)."""
logger = logging.getLogger("recsys.server")


@dataclass(frozen=True)
class Mark:
    """How far a log was read."""

    file: int = 0
    """The number of the file in its file system: the log may be written anew."""
    offset: int = 0
    """Bytes; 0: nothing yet."""


class ItemLog:
    """The log of one folder; any number of processes of one machine read and write it."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder, if there is none.

        Raises:
            DataError: it cannot be written to.
        """
        self.path = folder / LOG
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self.locked(alone=True):
                pass
        except OSError as error:
            raise DataError(
                f"run-time items cannot be kept in {folder}: {explain(error)}. A folder that the "
                "server may write to is needed: --items FOLDER, or items.folder=FOLDER"
            ) from error

    @contextmanager
    def locked(self, *, alone: bool) -> Iterator[None]:
        """Holds the lock: alone, to write; with other readers, to read."""
        with (self.path.parent / _LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield

    def changed(self, mark: Mark) -> bool:
        """Whether there is more than was read; takes microseconds."""
        return self._found() != (mark.file, mark.offset)

    def replaced(self, mark: Mark) -> bool:
        """Whether the log was written anew, so that it must be read from its beginning."""
        file, size = self._found()
        return mark.offset > 0 and (file != mark.file or size < mark.offset)

    def records(self, mark: Mark) -> Iterator[tuple[Record, Mark]]:
        """What was written behind a mark, each with the mark behind it; call it under the lock.

        Raises:
            ChecksumError: a line is not what was written.
        """
        if not self.path.is_file():
            return
        file, offset = self._found()[0], mark.offset
        with self.path.open("rb") as stream:
            stream.seek(offset)
            for line in stream:
                if _unfinished(line):
                    return
                record = self._parsed(line, offset)
                if offset == 0:
                    self._check_head(record)
                offset += len(line)
                if "number" in record:
                    yield record, Mark(file, offset)

    def append(self, record: Record, mark: Mark) -> Mark:
        """Writes a change to disk; call it alone under the lock, with all before the end read.

        Args:
            record: the change.
            mark: behind the last whole line.

        Raises:
            OSError: it could not be written; then it is not in the log.
        """
        is_new = not self.path.is_file()
        with self.path.open("ab") as stream:
            end, here = mark.offset, os.fstat(stream.fileno())
            if here.st_size > end:
                if end:
                    lost = here.st_size - end
                    logger.warning("%s: %d bytes of an unfinished line are cut", self.path, lost)
                stream.truncate(end)
            text = (b"" if end else _line(_HEAD)) + _line(record)
            try:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                with suppress(OSError):
                    stream.truncate(end)
                raise
        if is_new:
            _sync_folder(self.path.parent)
        return Mark(here.st_ino, end + len(text))

    def rewrite(self) -> None:
        """Leaves out what later changes have made void, if that is more than half of the log.

        Raises:
            ChecksumError: a line is not what was written.
        """
        with self.locked(alone=True):
            if self._found()[1] < _LEAST:
                return
            last: dict[str, int] = {}
            sizes: dict[str, int] = {}
            for record, mark in self.records(Mark()):
                for name, content in _touched(record):
                    last[name], sizes[name] = mark.offset, len(json.dumps(content))
            if 2 * sum(sizes.values()) > self._found()[1]:
                return
            with atomic_path(self.path) as beside, beside.open("wb") as stream:
                stream.write(_line(_HEAD))
                for record, mark in self.records(Mark()):
                    kept = _kept(record, last, mark.offset)
                    if kept["put"] or kept["delete"]:
                        stream.write(_line(kept))

    @property
    def size(self) -> int:
        """Bytes."""
        return self._found()[1]

    def _found(self) -> tuple[int, int]:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return 0, 0
        return found.st_ino, found.st_size

    def _parsed(self, line: bytes, offset: int) -> Record:
        sum_, _, text = line[:-1].partition(b" ")
        if sum_ != _sum(text):
            raise ChecksumError(
                f"{self.path} is damaged: the line at byte {offset:,} is not what was written. "
                f"Restore the file, or give up what follows with `truncate -s {offset} {self.path}`"
            )
        record: Record = json.loads(text)
        return record

    def _check_head(self, head: Record) -> None:
        if head != _HEAD:
            raise DataError(
                f"{self.path} is no log of run-time items that this version reads ({head}); name "
                "another folder"
            )


def _touched(record: Record) -> Iterable[tuple[str, Any]]:
    return (*record.get("put", {}).items(), *((name, name) for name in record.get("delete", ())))


def _kept(record: Record, last: Mapping[str, int], offset: int) -> Record:
    """A change without what later ones have made void."""
    put = {name: told for name, told in record.get("put", {}).items() if last[name] == offset}
    gone = [name for name in record.get("delete", ()) if last[name] == offset]
    return {"number": record["number"], "put": put, "delete": gone}


def _unfinished(line: bytes) -> bool:
    """Whether its writer was stopped: there is no end, or blocks that never came to disk."""
    return not line.endswith(b"\n") or b"\0" in line


def _line(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, separators=(",", ":"), allow_nan=False).encode("ascii")
    return _sum(text) + b" " + text + b"\n"


def _sum(text: bytes) -> bytes:
    return b"%08x" % zlib.crc32(text)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
