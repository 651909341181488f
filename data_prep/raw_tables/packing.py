"""Compression and archives (gzip, bzip2, xz, zstd, zip, tar), found by first bytes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TypeVar

import pyarrow as pa

from recsys.errors import DataError

PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz")
_BLOCK = 1 << 20
_HEAD = 512
_LAYERS = 4
_MARKS = {
    "gzip": b"\x1f\x8b\x08",
    "bzip2": b"BZh",
    "xz": b"\xfd7zXZ\0",
    "zstd": b"\x28\xb5\x2f\xfd",
    "zip": b"PK\x03\x04",
}
_FOREIGN = {
    b"PK\x05\x06": "an empty zip file",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"SQLite format 3\0": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"ARROW1\0\0": "an Arrow (Feather) file",
    b"Obj\x01": "an Avro file",
    b"\x80\x04\x95": "a Python pickle",
    b"\x80\x05\x95": "a Python pickle",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x04\x22\x4d\x18": "packed by lz4",
    b"\xff\x06\0\0sNaPpY": "packed by snappy",
    b"\x1f\x9d": "packed by compress",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
}
Member = TypeVar("Member")

_DAMAGE = (
    *(EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError),
    *(pa.ArrowException, NotImplementedError, RuntimeError),
)


@dataclass(frozen=True)
class Part:
    """One file of a table."""

    path: Path
    """Where its bytes stand; unpacked ones in the workspace."""
    name: str
    """What a user calls it: `ratings.csv.gz`, `dump.zip/ratings.csv`."""
    values: dict[str, str | None] = field(default_factory=dict)
    """Columns that its folders tell: `country=de` of a hive partition."""


def place(workspace: Path) -> Path:
    """A new empty folder of the workspace: no two files are unpacked to one place."""
    return Path(tempfile.mkdtemp(dir=workspace))


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts part-2 before part-10."""
    pieces = re.findall(r"\d+|\D+", name)
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]


def is_hidden(name: str) -> bool:
    """Whether Spark, Hadoop and macOS mean a file of this name not to be read as data."""
    return name.startswith((".", "_"))


def unpack(part: Part, workspace: Path) -> list[Part]:
    """The files inside a file, themselves unpacked; the file itself where it is not packed.

    Raises:
        DataError: the file is damaged, or of a format that is not read.
    """
    return _unpack(part, workspace, _LAYERS)


def _unpack(part: Part, workspace: Path, layers: int) -> list[Part]:
    packing = packing_of(part.path)
    if packing is None:
        _refuse_foreign(part)
        return [part]
    if not layers:
        raise DataError(f"{part.name} contains itself, packed again; unpack it by hand")
    with _damage_named(part):
        if packing == "zip":
            inside = list(_from_zip(part, workspace))
        elif packing == "tar":
            inside = list(_from_tar(part, workspace))
        else:
            target = place(workspace) / "unpacked"
            with _stream(part.path, packing) as stream, target.open("wb") as copy:
                shutil.copyfileobj(stream, copy, _BLOCK)
            inside = [replace(part, path=target)]
    return [file for layer in inside for file in _unpack(layer, workspace, layers - 1)]


def packing_of(path: Path) -> str | None:
    """gzip, bzip2, xz, zstd, zip or tar; None where the first bytes are none of these."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    for name, mark in _MARKS.items():
        if head.startswith(mark) and (name != "bzip2" or head[4:10] == b"1AY&SY"):
            return name
    return "tar" if head[257:262] == b"ustar" else None


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes, unpacked on the way where one stream is packed in it.

    Raises:
        DataError: the file is damaged, or an archive of several files.
    """
    packing = packing_of(path)
    if packing in ("zip", "tar"):
        raise DataError(f"{path} is an archive; give a file of it")
    with _damage_named(Part(path, str(path))):
        stream = path.open("rb") if packing is None else _stream(path, packing)
        with stream:
            yield stream


def _stream(path: Path, packing: str) -> IO[bytes]:
    if packing == "zstd":
        zstd: IO[bytes] = pa.input_stream(str(path), compression="zstd")
        return zstd
    openers = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
    opened: IO[bytes] = openers[packing](path)  # type: ignore[operator]
    return opened


@contextmanager
def _damage_named(part: Part) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's own trouble (no space, no permission), not the file's
        raise DataError(f"{part.name} is damaged ({error}); fetch it again") from error


def _from_zip(part: Part, workspace: Path) -> Iterator[Part]:
    with zipfile.ZipFile(part.path) as archive:
        members = [m for m in archive.infolist() if not m.is_dir()]
        if any(m.filename == "[Content_Types].xml" for m in members):
            raise DataError(f"{part.name} is an Excel workbook; save its sheet as csv (UTF-8)")
        if any(m.flag_bits & 1 for m in members):
            raise DataError(f"{part.name} is locked by a password; unpack it by hand")
        _check_names(part, [m.filename for m in members])
        for member in _data_members(part, {m.filename: m for m in members}):
            with archive.open(member[1]) as stream:
                yield _extracted(part, member[0], stream, workspace)


def _check_names(part: Part, names: list[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{part.name} holds {twice} twice; unpack it by hand and give one of them")


def _from_tar(part: Part, workspace: Path) -> Iterator[Part]:
    with tarfile.open(part.path) as archive:
        members = {m.name: m for m in archive.getmembers() if not m.isdir()}
        for name, member in _data_members(part, members):
            stream = archive.extractfile(member) if member.isfile() else None
            if stream is None:
                raise DataError(f"{part.name}: {name} is a link; unpack the archive by hand")
            with stream:
                yield _extracted(part, name, stream, workspace)


def _data_members(part: Part, members: dict[str, Member]) -> list[tuple[str, Member]]:
    """Members in the order of their names, without what macOS and Spark put beside data."""
    chosen = [
        (name, members[name])
        for name in sorted(members, key=natural_key)
        if not any(is_hidden(piece) for piece in name.split("/") if piece not in ("", "."))
    ]
    if not chosen:
        raise DataError(f"{part.name} holds no file; give another one")
    return chosen


def _extracted(part: Part, name: str, stream: IO[bytes], workspace: Path) -> Part:
    # The name inside is shown and never used as a path: a member cannot leave the workspace.
    target = place(workspace) / "member"
    with target.open("wb") as copy:
        shutil.copyfileobj(stream, copy, _BLOCK)
    return replace(part, path=target, name=f"{part.name}/{name}")


def _refuse_foreign(part: Part) -> None:
    with part.path.open("rb") as stream:
        head = stream.read(_HEAD)
    for mark, kind in _FOREIGN.items():
        if head.startswith(mark):
            raise DataError(f"{part.name} is {kind}; give csv, tsv, parquet or JSON Lines")
