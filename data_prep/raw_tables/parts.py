"""Parts of a table: one file, a folder, a pattern, an archive, or stdin."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from data_prep.raw_tables.packing import (
    PACKED_SUFFIXES,
    Part,
    is_hidden,
    natural_key,
    place,
    unpack,
)
from recsys.errors import DataError
from recsys.progress import console

STDIN = Path("-")
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_LAKES = {"_delta_log": "Delta", ".hoodie": "Hudi"}
_TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json", ".txt", ".dat")


def find_parts(source: Path, workspace: Path) -> list[Part]:
    """All files of a source, unpacked, in the order of their names (2 before 10).

    A folder is read as Spark leaves it: files whose names begin with a dot or an underscore are
    no data, folders `column=value` tell a column. A name that exists is never a pattern.

    Raises:
        DataError: there is no such file, it is damaged or empty, or the folder is the table of a
            system whose log tells which of the files count.
    """
    found = [part for file in _files(source, workspace) for part in unpack(file, workspace)]
    _check_once(found)
    filled = [part for part in found if not _is_blank(part.path)]
    if not filled:
        raise DataError(f"{source} is empty; give another file")
    _tell_of_copies(filled)
    return filled


def _tell_of_copies(parts: list[Part]) -> None:
    """Two parts of the same bytes may be right; a copy left in a folder is what is likely."""
    sizes = Counter(part.path.stat().st_size for part in parts)
    seen: dict[object, str] = {}
    for part in parts:
        if sizes[part.path.stat().st_size] < 2:
            continue
        with part.path.open("rb") as stream:
            key = (hashlib.file_digest(stream, "sha256").digest(), str(part.values))
        if (first := seen.setdefault(key, part.name)) is not part.name:
            console.print(
                f"{first} and {part.name} hold the same bytes: their rows are taken twice. If one "
                "is a copy, remove it",
                style="yellow",
                markup=False,
                soft_wrap=True,
            )


def _check_once(parts: list[Part]) -> None:
    """Raises DataError where the same rows seem to stand in two files."""
    files: dict[object, str] = {}
    for part in parts:
        for key in (os.path.realpath(part.path), str(plain_name(Path(part.name)))):
            if files.setdefault(key, part.name) is not part.name:
                raise DataError(
                    f"{files[key]} and {part.name} seem to be the same file; remove one of them, "
                    "or give a pattern that matches one"
                )


def exists(source: Path) -> bool:
    """Whether a source names anything: a file, a folder, stdin, or a pattern that matches."""
    return source == STDIN or source.exists() or bool(_matches(source))


def _files(source: Path, workspace: Path) -> list[Part]:
    if source == STDIN:
        return [_copied(Path("/dev/stdin"), "stdin", workspace)]
    if source.is_dir():
        return _folder(source)
    if source.is_file():
        return [Part(source, source.name)]
    if source.exists():  # a pipe or a device, which can be read once
        return [_copied(source, source.name, workspace)]
    matches = _matches(source)
    if not matches:
        raise DataError(f"there is no file {source}; give the right path")
    root = _root(source)
    # `**` matches folders and what is in them.
    once = {part.path: part for match in matches for part in _matched(match, root)}
    return list(once.values())


def _matched(match: Path, root: Path) -> list[Part]:
    if match.is_dir():
        return _folder(match, root)
    return [Part(match, str(match.relative_to(root)), _values(match.parent.relative_to(root)))]


def _matches(source: Path) -> list[Path]:
    if not glob.has_magic(str(source)):
        return []
    found = glob.glob(str(source), recursive=True)  # noqa: PTH207 (a path of any root)
    return sorted(map(Path, found), key=_by_name)


def _by_name(path: Path) -> list[tuple[int, str]]:
    return natural_key(str(path))


def _root(pattern: Path) -> Path:
    """The folder in which a pattern begins."""
    while glob.has_magic(str(pattern)):
        pattern = pattern.parent
    return pattern


def _copied(source: Path, name: str, workspace: Path) -> Part:
    target = place(workspace) / "stream"
    with source.open("rb") as stream, target.open("wb") as copy:
        shutil.copyfileobj(stream, copy)
    return Part(target, name)


def _folder(folder: Path, root: Path | None = None) -> list[Part]:
    paths = sorted(_walk(folder, set()), key=_by_name)
    if not paths:
        raise DataError(f"{folder} holds no file; give another folder")
    return [
        Part(path, str(path.relative_to(folder)), _values(path.parent.relative_to(root or folder)))
        for path in paths
    ]


def _walk(folder: Path, above: set[str]) -> Iterator[Path]:
    """Data files below a folder; links are followed, and a circle of them is refused."""
    real = os.path.realpath(folder)
    if real in above:
        raise DataError(f"{folder} links to a folder that contains it; give another folder")
    for path in folder.iterdir():
        if is_hidden(path.name):
            _check_hidden(folder, path)
        elif path.is_dir():
            yield from _walk(path, above | {real})
        elif path.exists():
            yield path
        else:
            raise DataError(f"{path} is a broken link; remove it")


def _check_hidden(folder: Path, path: Path) -> None:
    if path.name in _LAKES:
        raise DataError(
            f"{folder} is a {_LAKES[path.name]} table, whose log tells which files count; write it "
            "as plain parquet and give that"
        )
    if path.name == "_temporary":
        raise DataError(f"{folder} is left from an unfinished Spark job; let the job finish")
    if not path.name.startswith("._") and _suffix(path) in _TABLES:
        raise DataError(
            f"{path.name} in {folder} is hidden by the first character of its name; rename or "
            "remove it"
        )


def _suffix(path: Path) -> str:
    return plain_name(path).suffix.lower()


def plain_name(path: Path) -> Path:
    """A name without what tells how the file is packed."""
    return path.with_suffix("") if path.suffix.lower() in PACKED_SUFFIXES else path


def _values(folders: Path) -> dict[str, str | None]:
    pairs = [folder.split("=", 1) for folder in folders.parts if "=" in folder]
    return {
        unquote(name): None if value == _NULL_PARTITION else unquote(value) for name, value in pairs
    }


def _is_blank(path: Path) -> bool:
    """Nothing but line ends, white space and a byte-order mark."""
    with path.open("rb") as stream:
        while block := stream.read(1 << 16):
            if block.strip(b" \t\r\n\xef\xbb\xbf\xff\xfe"):
                return False
    return True
