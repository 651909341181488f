"""Versions of a bundle side by side, and the link `current` to one of them.

    OUT/v000001/  OUT/v000002/  OUT/current -> v000002

`current` is a symbolic link that is replaced by a rename: a reader sees the old version or the new
one. Older versions stay until they are removed (`recsys bundle prune`).

zip, `tar -h` and object stores do not keep links. Some write a folder with the version's files,
which is read like any version. Others leave the link out, which does no harm if there is only one
version.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO

from recsys.errors import DataError
from recsys.files.atomic import atomic_path
from recsys.files.scratch import missing_folders, remove_empty, scratch_folder, sweep
from recsys.retrieval.bundle.manifest import MANIFEST

CURRENT = "current"
_LOCK = ".lock"
_VERSION = re.compile(r"v(\d{6})")


@contextmanager
def new_version(shelf: Path) -> Iterator[Path]:
    """Gives an empty folder; what was written there becomes the next version, and current.

    Writers wait for each other. What killed writers left behind is removed, and a shelf that was
    made for a version that was then refused.

    Raises:
        DataError: something other than bundles exists at `shelf`.
    """
    _check_shelf(shelf)
    with _made(shelf):
        sweep(shelf)
        last = max([0, *_numbers(shelf)]) + _is_copy(shelf / CURRENT)  # which becomes a version
        target = shelf / f"v{last + 1:06d}"
        with atomic_path(target) as temporary:
            temporary.mkdir()
            yield temporary
        point_to(shelf, target.name)


@contextmanager
def _made(shelf: Path) -> Iterator[None]:
    """Holds the lock of a shelf, made if it is not there; an error removes what was made."""
    made = missing_folders(shelf)
    with _lock_of(shelf):
        try:
            yield
        except BaseException:
            if made and [part.name for part in shelf.iterdir()] == [_LOCK]:
                (shelf / _LOCK).unlink()
                remove_empty(made)
            raise


def _lock_of(shelf: Path) -> IO[str]:
    """The locked file of a shelf; a writer that was refused may have removed what it waited for."""
    file = shelf / _LOCK
    while True:
        shelf.mkdir(parents=True, exist_ok=True)
        try:
            lock = file.open("w")
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), file.stat()):
                return lock
        lock.close()


@contextmanager
def locked(shelf: Path) -> Iterator[None]:
    """Holds the lock of those that change versions; others wait.

    Raises:
        DataError: there is no such folder.
    """
    if not shelf.is_dir():
        raise DataError(f"{shelf} is no folder of versions; make one with `recsys export`")
    with (shelf / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def point_to(shelf: Path, version: str) -> None:
    """Makes `version` the current one.

    Raises:
        DataError: there is no such version.
    """
    if not (shelf / version / MANIFEST).is_file():
        raise DataError(f"{shelf} has no version {version!r}")
    current = shelf / CURRENT
    with scratch_folder(current) as scratch:
        link = scratch / CURRENT
        link.symlink_to(version)
        if _is_copy(current):  # nothing is lost: it gets a number of its own
            free = next(n for n in count(1) if n not in set(_numbers(shelf)))
            current.rename(shelf / f"v{free:06d}")
        elif current.is_dir() and not current.is_symlink():
            current.rmdir()
        link.replace(current)


def find_bundle(path: str | Path) -> Path:
    """The folder of one version: `path` itself, or what `current` in it is or names.

    Raises:
        DataError: neither is there.
    """
    path = Path(path)
    if (path / MANIFEST).is_file():
        return path
    current = path / CURRENT
    if current.is_symlink():
        found = current.readlink()
        if not _VERSION.fullmatch(str(found)) or not (path / found / MANIFEST).is_file():
            raise DataError(f"{current} names {found}, which is not a version in {path}")
        return path / found
    if (current / MANIFEST).is_file():
        return current
    versions = versions_of(path)
    if len(versions) > 1:
        raise DataError(
            f"{path} does not say which of its versions is the current one ({CURRENT} is no longer "
            f"a link); name one of them, as {path / versions[-1]}: {', '.join(versions)}"
        )
    return path / versions[0] if versions else path


def current_version(shelf: Path) -> str | None:
    """The name of the version that `current` names; None: there is no such link."""
    link = shelf / CURRENT
    return link.readlink().name if link.is_symlink() else None


def is_bundle(path: str | Path) -> bool:
    """Whether a bundle, or the folder of its versions, exists."""
    path = Path(path)
    return (
        (path / MANIFEST).is_file()
        or (path / CURRENT).is_symlink()
        or (path / CURRENT / MANIFEST).is_file()
        or bool(versions_of(path))
    )


def _is_copy(current: Path) -> bool:
    """Whether a copy of a version stands where the link should.

    Raises:
        DataError: a folder with something else in it does.
    """
    if current.is_symlink() or not current.is_dir() or not any(current.iterdir()):
        return False
    if not (current / MANIFEST).is_file():
        raise DataError(f"{current} is a folder, but not a version of a bundle; move it away")
    return True


def versions_of(shelf: Path) -> list[str]:
    """Names of the versions that exist, in their order."""
    found = shelf.iterdir() if shelf.is_dir() else ()
    return sorted(
        part.name for part in found if _VERSION.fullmatch(part.name) and (part / MANIFEST).is_file()
    )


def _numbers(shelf: Path) -> list[int]:
    found = [_VERSION.fullmatch(part.name) for part in shelf.iterdir()]
    return [int(match[1]) for match in found if match]


def _check_shelf(shelf: Path) -> None:
    if not shelf.exists() or (shelf / CURRENT).is_symlink() or versions_of(shelf):
        return
    # A first export that was killed leaves its lock and hidden files; runs are locked, too.
    unused = shelf.is_dir() and all(part.name.startswith(".") for part in shelf.iterdir())
    if unused and ((shelf / _LOCK).is_file() or not any(shelf.iterdir())):
        return
    raise DataError(f"{shelf} exists and holds no bundles; choose another OUT or move it away")
