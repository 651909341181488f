"""Errors of the operating system in one line: path, cause and remedy."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys.errors import RecsysError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_WHOLE = "what stood there before is whole"


def as_system_error(
    error: BaseException, path: str | os.PathLike[str], parent: str | os.PathLike[str] = ""
) -> OSError | None:
    """What the system has said, with `path` as the file name; None: it has said nothing.

    Libraries raise errors of their own, with the system's number in the text or without any.

    Args:
        error: what was raised while `path` was written.
        path: what is told to the user.
        parent: names in it, as those of temporaries are, are replaced by `path`.
    """
    if isinstance(error, OSError) and error.errno is not None:
        inside = bool(parent) and str(error.filename).startswith(f"{os.fspath(parent)}{os.sep}.")
        if error.filename is None or inside:
            error.filename, error.filename2 = os.fspath(path), None
        return error
    if isinstance(error, RecsysError):
        return None
    text = str(error)
    if isinstance(error, OSError) and " requested and " in text:  # numpy's word for a short write
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
    # Of what else may be wrong the file that is read may be the cause, not the one that is written.
    number = next((each for each in (*_FULL, errno.EROFS) if os.strerror(each) in text), None)
    return OSError(number, os.strerror(number), os.fspath(path)) if number else None


@contextmanager
def naming(path: str | os.PathLike[str], parent: str | os.PathLike[str] = "") -> Iterator[None]:
    """Whatever the system has said inside is raised as OSError with `path` as its file name."""
    try:
        yield
    except Exception as error:
        found = as_system_error(error, path, parent)
        if found is None or found is error:
            raise
        raise found from error


def explain(error: OSError) -> str:
    """One line for a user: what happened to which path, what is left, and what to do."""
    path = Path(os.fsdecode(error.filename)) if error.filename else None
    where = str(path) if path else "the output"
    if error.errno in _FULL:
        return (
            f"no room for {where}{_free(path)}; {_WHOLE}. Make room and give the same command "
            "again (a training goes on with --resume)"
        )
    if error.errno in _CLOSED:
        reason = (error.strerror or "no permission").lower()
        return (
            f"{where} may not be read or written ({reason}); {_WHOLE}. Change its rights, or "
            "choose another place"
        )
    if path and (blocking := _file_in_the_way(path, error.errno)):
        return f"{blocking} is a file where a folder is meant; move it, or choose another place"
    if error.errno == errno.EISDIR:
        return f"{where} is a folder where a file is meant; name a file"
    if error.errno == errno.ENOENT:
        return f"{where} is not there; give a path that is"
    return f"{where}: {error.strerror or error}; {_WHOLE}"


def _free(path: Path | None) -> str:
    """How much of the disk is left, where that can be told."""
    for folder in Path(path).absolute().parents if path else ():
        try:
            return f" ({shutil.disk_usage(folder).free / 1e6:,.1f} MB are free on its disk)"
        except OSError:
            continue
    return ""


def _file_in_the_way(path: Path, number: int | None) -> Path | None:
    if number not in (errno.ENOTDIR, errno.EEXIST):
        return None
    return next((part for part in (path, *path.parents) if part.is_file()), None)
