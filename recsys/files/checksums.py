"""Size and sha256 of the files that a manifest lists, and the check of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from recsys.errors import ChecksumError, DataError
from recsys.files.atomic import sha256_of


class FileEntry(BaseModel):
    """Size and checksum of one file of a folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(validation_alias=AliasChoices("size", "bytes"))
    """In bytes. Data sets of earlier versions call it `bytes`."""
    sha256: str

    def fault(self, path: Path, *, verify: bool) -> str | None:
        """How a file differs from what was written, as the end of a sentence; None: it does not.

        Args:
            path: the file.
            verify: compare its sha256 too, not its size alone.
        """
        found = path.stat().st_size if path.is_file() else None
        if found is None:
            return "is missing"
        if found != self.size:
            return f"has {found} bytes, {self.size} bytes are expected"
        if verify and sha256_of(path) != self.sha256:
            return "is not what was written (its sha256 differs)"
        return None


def entries_of(folder: Path, names: Iterable[str] | None = None) -> dict[str, FileEntry]:
    """Entries of the named files of a folder; None: of all files in it, at any depth."""
    if names is None:
        files = (path for path in folder.rglob("*") if path.is_file())
        names = sorted(path.relative_to(folder).as_posix() for path in files)
    return {
        name: FileEntry(size=(folder / name).stat().st_size, sha256=sha256_of(folder / name))
        for name in names
    }


def faults(
    folder: Path, files: Mapping[str, FileEntry], *, verify: bool
) -> Iterator[tuple[str, str]]:
    """Name and fault of every file of `folder` that is not as its entry says."""
    for name, entry in files.items():
        fault = entry.fault(folder / name, verify=verify)
        if fault is not None:
            yield name, fault


def check_files(folder: Path, files: Mapping[str, FileEntry], remedy: str, *, verify: bool) -> None:
    """Checks the listed files.

    Args:
        folder: they stand in.
        files: by name.
        remedy: ends the message.
        verify: compare each sha256 too.

    Raises:
        DataError: a file is absent or of another size.
        ChecksumError: its bytes are others.
    """
    for name, fault in faults(folder, files, verify=verify):
        kind = ChecksumError if "sha256" in fault else DataError
        raise kind(f"{folder / name} {fault}; {remedy}")
