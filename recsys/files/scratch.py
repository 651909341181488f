"""Hidden folders for unfinished files: locked by their writer, swept after its death.

A lock of the kernel (flock) on the folder itself says whether its writer lives: it ends with the
process, in whatever container or on whatever host that shares the file system it runs. Where a
file system has no such locks, nothing is swept.
"""

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_TRIES = 100
"""Folders of scratch files that are made anew because somebody has removed them, at most."""
ASIDE = ".aside"
"""In a scratch folder: what stood at the target while the new one is moved there."""
_SUFFIX = ".tmp"
_NAME = re.compile(r"\.(?P<target>.+)\.[a-z0-9_]{8}\.tmp")


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """An empty hidden folder beside `path`, of this writer alone; removed in the end.

    Those that killed writers of `path` left are removed first.
    """
    path = path.absolute()  # `.` has a name, too
    made = missing_folders(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, path.name)
    folder, lock = _own_folder(path)
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        remove_empty(made)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what stays is swept by the next writer
        os.close(lock)


def missing_folders(path: Path) -> list[Path]:
    """`path` and the folders above it that do not exist, the deepest first."""
    return [each for each in (path, *path.parents) if not each.exists()]


def remove_empty(folders: Sequence[Path]) -> None:
    """Removes folders, the deepest first, up to one that holds something: what was refused leaves
    nothing where there was nothing.
    """
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def is_scratch(path: Path) -> bool:
    """Whether `path` is a scratch folder, or lies in one: nothing there is finished."""
    return any(_NAME.fullmatch(part.name) for part in (path, path.parent))


def sweep(parent: Path, name: str | None = None) -> None:
    """Removes the scratch folders in `parent` (None: of whatever name) whose writers are dead.

    What such a writer had moved aside is put back, unless something new stands in its place.
    """
    with os.scandir(parent) as entries:
        found = [(entry.path, _NAME.fullmatch(entry.name)) for entry in entries]
    for path, match in found:
        if match and name in (None, match["target"]):
            _remove_if_dead(Path(path), parent / match["target"])


def _own_folder(path: Path) -> tuple[Path, int]:
    tries = 0
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)  # a refused writer may have removed it
        try:
            folder = Path(tempfile.mkdtemp(_SUFFIX, f".{path.name}.", path.parent))
        except FileNotFoundError as error:
            tries += 1
            if tries > _TRIES:  # it stands, and nothing can be made in it: /proc
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path)) from error
            continue
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # swept before it was locked
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # being swept
            os.close(lock)
            continue
        except OSError:  # no locks here, so nobody sweeps
            return folder, lock
        if folder.is_dir():
            return folder, lock
        os.close(lock)


def _remove_if_dead(folder: Path, target: Path) -> None:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (folder / ASIDE).exists() and not target.exists():
            (folder / ASIDE).rename(target)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # its writer lives, or nobody can tell
        return
    finally:
        os.close(lock)
