"""Versions of a bundle beside each other, and `current`, which names one of them.

    OUT/v000001/  OUT/v000002/  OUT/current -> v000002

`current` is a symbolic link that is replaced by a rename: a reader sees the old version or the new
one. Older versions stay until they are removed by hand.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys.errors import DataError
from recsys.files import atomic_path, remove
from recsys.retrieval.manifest import MANIFEST

CURRENT = "current"
_LOCK = ".lock"
_VERSION = re.compile(r"v(\d{6})")


@contextmanager
def new_version(shelf: Path) -> Iterator[Path]:
    """Gives an empty folder; what was written there becomes the next version, and current.

    Writers wait for each other. What killed writers left behind is removed.

    Raises:
        DataError: something other than bundles stands at `shelf`.
    """
    _check_shelf(shelf)
    shelf.mkdir(parents=True, exist_ok=True)
    with (shelf / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in shelf.glob(".*.tmp"):
            remove(leftover)
        target = shelf / f"v{max([0, *_numbers(shelf)]) + 1:06d}"
        with atomic_path(target) as temporary:
            temporary.mkdir()
            yield temporary
        point_to(shelf, target.name)


def point_to(shelf: Path, version: str) -> None:
    """Makes `version` the current one.

    Raises:
        DataError: there is no such version.
    """
    if not (shelf / version / MANIFEST).is_file():
        raise DataError(f"{shelf} has no version {version!r}")
    link = shelf / f".{CURRENT}.{os.getpid()}.tmp"
    remove(link)
    link.symlink_to(version)
    link.replace(shelf / CURRENT)


def find_bundle(path: str | Path) -> Path:
    """The folder of one version: `path` itself, or what `current` in it names.

    Raises:
        DataError: neither is there.
    """
    path = Path(path)
    if (path / MANIFEST).is_file() or not (path / CURRENT).is_symlink():
        return path
    found = path / (path / CURRENT).readlink()
    if not found.is_dir() or not _VERSION.fullmatch(found.name):
        raise DataError(f"{path / CURRENT} names {found.name}, which is no version in {path}")
    return found


def is_bundle(path: str | Path) -> bool:
    """Whether a bundle, or the folder of its versions, stands there."""
    return (Path(path) / MANIFEST).is_file() or (Path(path) / CURRENT).is_symlink()


def _numbers(shelf: Path) -> list[int]:
    found = [_VERSION.fullmatch(part.name) for part in shelf.iterdir()]
    return [int(match[1]) for match in found if match]


def _check_shelf(shelf: Path) -> None:
    known = shelf.is_dir() and ((shelf / CURRENT).is_symlink() or (shelf / _LOCK).is_file())
    if known or not shelf.exists() or (shelf.is_dir() and not any(shelf.iterdir())):
        return
    raise DataError(f"{shelf} is there and holds no bundles; choose another OUT or move it away")
