"""Files written whole or not at all: temporary name, fsync, rename."""

import ctypes
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recsys.errors import BusyError, RunError
from recsys.files.scratch import ASIDE, missing_folders, remove_empty, scratch_folder
from recsys.files.system_errors import naming

_BLOCK = 1 << 20
_EXCHANGE = 2  # RENAME_EXCHANGE of linux/fs.h


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Gives a temporary path beside `path`; what was written there replaces `path` on success.

    Works for a file or a whole folder, by any number of writers at once: the last one stays. On an
    exception, or a kill, `path` stays as it was. A folder that stands at `path` is exchanged for
    the new one in one step on Linux, where the file system can; elsewhere a kill between two
    renames leaves readers none until the next writer puts the old one back.

    Args:
        path: the path of the new file or folder.
        replace: False: a folder that exists and is not empty stays, and OSError is raised.

    Raises:
        OSError: with `path` as its `filename`, also where a library has said it in other words.
    """
    named = path.absolute()  # `.` has a name, too
    with naming(path, named.parent), scratch_folder(named) as scratch:
        temporary = scratch / named.name
        yield temporary
        written = [temporary, *temporary.rglob("*")] if temporary.is_dir() else [temporary]
        for part in written:
            _sync(part)
        _put(temporary, named, replace)
        _sync(named.parent)


def check_writable(path: Path, *, folder: bool = False) -> None:
    """Raises OSError where nothing can be written to `path`, before long work is done for it.

    Args:
        path: the file, or the folder of files, that is to be written; nothing is left there.
        folder: it is a folder of files.
    """
    named = path.absolute()
    if folder and named.exists() and not named.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    if not folder and named.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    # A folder that is not there is not made: a kill would leave it, and others who want it would
    # find it in use.
    inside = named / "file" if folder and named.is_dir() else named
    made = missing_folders(inside.parent)
    try:
        with naming(path, inside.parent), scratch_folder(inside):
            pass
    except FileNotFoundError as error:  # a folder of the system: /proc
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path)) from error
    finally:
        remove_empty(made)


def _put(temporary: Path, path: Path, replace: bool) -> None:
    try:
        temporary.replace(path)
    except OSError:
        if not (replace and temporary.is_dir() and path.is_dir()):
            raise
        if not _exchanged(temporary, path):
            aside = temporary.with_name(ASIDE)
            path.rename(aside)
            try:
                temporary.rename(path)
            except OSError:
                aside.rename(path)
                raise


def _exchanged(one: Path, other: Path) -> bool:
    """Exchanges two names in one step; False: this system cannot (Linux and its usual ones can)."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here = -100  # AT_FDCWD
    return rename is not None and not rename(here, bytes(one), here, bytes(other), _EXCHANGE)


@contextmanager
def held(lock: Path, busy: str) -> Iterator[None]:
    """Holds a lock file; the system frees it when the process ends, however it ends.

    Raises:
        BusyError: another process, or thread, holds it; with the message `busy`.
    """
    holder = FileLock(lock)
    try:
        holder.acquire(timeout=0)
    except Timeout as error:
        raise BusyError(busy) from error
    try:
        yield
    finally:
        holder.release()


def reserve(path: Path) -> None:
    """Takes the room of a file that is to be written through a map.

    Else a full disk would kill the process (SIGBUS) at the write of some page. Only Linux can.

    Raises:
        OSError: there is no room.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream, naming(path):
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        RunError: the file is absent or damaged; the message ends with `remedy`.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}); {remedy}") from error
    if not isinstance(tree, dict):
        raise RunError(f"{path} holds no JSON object; {remedy}")
    return tree


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
