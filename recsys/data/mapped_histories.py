"""Histories mapped from disk, for data sets larger than memory.

Parquet cannot be read at random, so at first use a folder of plain columns is made in the dataset
folder; `recsys prepare` removes it with all else that it replaces:

    mapped/mapped.json      the content hash of the data set; size and sha256 of each column
    mapped/offsets.i64      [U + 1] the history of user u is items[offsets[u]:offsets[u + 1]]
    mapped/items.i32        [T]
    mapped/timestamps.i64   [T], where the data set has times; numbers are little-endian

Shape legend: U users, T interactions.
"""

import mmap
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from recsys.arrays import Int32, Int64
from recsys.config import StrictModel
from recsys.data.content_hash import INTERACTIONS
from recsys.data.interactions import read_blocks
from recsys.data.manifest import DatasetManifest, load_manifest
from recsys.errors import DataError
from recsys.files.atomic import atomic_path, write_json
from recsys.files.checksums import FileEntry, check_files, entries_of, faults
from recsys.files.named import check_named
from recsys.progress import progress

MAPPED = "mapped"
_MANIFEST = "mapped.json"
_OFFSETS, _ITEMS, _TIMESTAMPS = "offsets.i64", "items.i32", "timestamps.i64"
_TYPES = {".i32": "<i4", ".i64": "<i8"}


class MappedManifest(StrictModel):
    """The fields of `mapped.json`."""

    schema_version: int = 1
    content_hash: str
    """Of the data set these columns were made from."""
    files: dict[str, FileEntry]


class MappedHistories:
    """The columns of a data set, mapped from disk and read on access."""

    def __init__(self, folder: Path) -> None:
        """Maps the columns of a `mapped` folder; `offsets` alone are read into memory."""
        self._maps: list[mmap.mmap] = []
        self.offsets: Int64 = np.fromfile(folder / _OFFSETS, _TYPES[".i64"])
        self.items: Int32 = self._map(folder / _ITEMS)
        timed = (folder / _TIMESTAMPS).is_file()
        self.timestamps: Int64 | None = self._map(folder / _TIMESTAMPS) if timed else None

    def _map(self, path: Path) -> npt.NDArray[Any]:
        with path.open("rb") as stream:
            self._maps.append(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        return np.frombuffer(self._maps[-1], _TYPES[path.suffix])

    def release(self) -> None:
        """Gives the pages that were looked at back to the operating system.

        It would take them back by itself once memory is short; until then they would count as
        this process's. Where there is no madvise (Windows) nothing is done.
        """
        if hasattr(mmap, "MADV_DONTNEED"):
            for part in self._maps:
                part.madvise(mmap.MADV_DONTNEED)


def open_mapped(
    folder: Path, manifest: DatasetManifest, *, verify: bool = False
) -> MappedHistories:
    """The mapped columns of a dataset folder; they are made if they are not there.

    Args:
        folder: the dataset folder.
        manifest: its manifest.
        verify: also compare the sha256 of every column.

    Raises:
        DataError: the data set is damaged, or the columns cannot be written.
        ChecksumError: `verify` is set and a column differs from its checksum.
    """
    found = _find(folder / MAPPED, manifest)
    if found is None:
        _make(folder, manifest)
    elif verify:
        remedy = f"delete {folder / MAPPED}, it is made again from the data set"
        check_files(folder / MAPPED, found.files, remedy, verify=True)
    return MappedHistories(folder / MAPPED)


def _find(mapped: Path, manifest: DatasetManifest) -> MappedManifest | None:
    """The manifest of whole columns of this very data set; None: they must be made."""
    try:
        found = MappedManifest.model_validate_json((mapped / _MANIFEST).read_text("utf-8"))
    except (OSError, ValidationError):
        return None
    try:
        check_named(mapped, (_OFFSETS, _ITEMS), found.files, "they are made again")
    except DataError:
        return None
    if (mapped / _TIMESTAMPS).exists() and _TIMESTAMPS not in found.files:
        return None
    whole = not any(faults(mapped, found.files, verify=False))
    return found if whole and found.content_hash == manifest.content_hash else None


def _make(folder: Path, manifest: DatasetManifest) -> None:
    load_manifest(folder, verify=True)  # or the content hash would not speak for the columns
    try:
        with atomic_path(folder / MAPPED) as temporary:
            temporary.mkdir()
            _write_columns(temporary, folder / INTERACTIONS, manifest)
            files = entries_of(temporary)
            found = MappedManifest(content_hash=manifest.content_hash, files=files)
            write_json(temporary / _MANIFEST, found.model_dump())
    except OSError as error:
        raise DataError(
            f"{folder / MAPPED} cannot be written ({error}); make room, or {folder} writable for "
            "once, or leave `mapped` out"
        ) from error


def _write_columns(target: Path, table: Path, manifest: DatasetManifest) -> None:
    offsets = np.zeros(manifest.num_users + 1, dtype=_TYPES[".i64"])
    with ExitStack() as stack:
        bar = stack.enter_context(progress())
        task = bar.add_task("map histories", total=manifest.num_interactions)
        items = stack.enter_context((target / _ITEMS).open("wb"))
        timestamps = None
        for block in read_blocks(table, manifest):
            items.write(block.items.astype(_TYPES[".i32"]).tobytes())
            if block.timestamps is not None:
                if timestamps is None:
                    timestamps = stack.enter_context((target / _TIMESTAMPS).open("wb"))
                timestamps.write(block.timestamps.astype(_TYPES[".i64"]).tobytes())
            block.add_lengths(offsets[1:])
            bar.advance(task, len(block.items))
    np.cumsum(offsets, out=offsets)
    (target / _OFFSETS).write_bytes(offsets.data)
