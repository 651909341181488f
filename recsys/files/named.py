"""Files named by a manifest: paths outside its own folder are refused.

A folder may come from anywhere, with checksums that fit: what it names is opened for whoever loads
it, so it names nothing but its own files.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from recsys.errors import DataError


def inside(folder: Path, name: str) -> Path:
    """The path of a file of `folder`, which need not be there.

    Args:
        folder: may itself be reached by a link.
        name: as a manifest writes it: relative, parts by `/`.

    Raises:
        DataError: the name is not a plain relative path, or it leads out of the folder by a link.
    """
    plain = PurePosixPath(name)
    if (
        not plain.parts
        or plain.is_absolute()
        or plain.as_posix() != name
        or ".." in plain.parts
        or PureWindowsPath(name).anchor
        or any(character in name for character in "\\\0")
    ):
        raise DataError(
            f"{folder} names a file {name!r}; a relative path inside the folder is expected "
            "(parts by /, without ..): it was not written by recsys, do not use it"
        )
    path = folder / name
    try:
        found = path.resolve()
        home = folder.resolve()
    except (OSError, RuntimeError) as error:  # links in a circle
        raise DataError(f"{path} cannot be followed ({error}); copy the folder again") from error
    if home not in found.parents:
        raise DataError(
            f"{path} points outside its folder, to {found}; put the file itself there "
            "(`cp --dereference`)"
        )
    return path


def check_named(folder: Path, wanted: Iterable[str], listed: Iterable[str], remedy: str) -> None:
    """Checks all names of a manifest.

    Args:
        folder: of the manifest.
        wanted: the files that will be opened.
        listed: the files that the manifest has checksums of.
        remedy: ends the message.

    Raises:
        DataError: a listed file is not inside the folder, or a wanted one is not listed.
    """
    known = set(listed)
    for name in sorted(known):
        inside(folder, name)
    if missing := sorted(set(wanted) - known):
        raise DataError(
            f"the manifest in {folder} lists no checksum of {missing[0]!r}, so it is not opened; "
            f"{remedy}"
        )
