"""Pictures of items: files named by item id, in a folder or an archive."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl
from PIL import Image

from data_prep.item_features.attach import item_ids, match_rows
from data_prep.item_features.encoding import BadInputError
from recsys.arrays import Int64
from recsys.errors import DataError

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"}
# What Pillow raises on broken files, format by format.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error)


@dataclass(frozen=True)
class ImageInputs:
    """Bytes of pictures by item index, opened one at a time."""

    source: str
    items: Int64
    fingerprint: str
    notes: tuple[str, ...]
    read: Callable[[int], bytes]
    """The bytes of the picture of an item index."""

    def load(self, item: int) -> Image.Image:
        """The picture of one item as RGB.

        Raises:
            BadInputError: the file is broken, or is not a picture.
        """
        try:
            with Image.open(io.BytesIO(self.read(item))) as picture:
                return picture.convert("RGB")
        except (*_BROKEN, Image.DecompressionBombError) as error:
            raise BadInputError(f"{type(error).__name__}: {error}".split("<")[0].strip()) from error


def image_files(folder: Path, images: Path) -> ImageInputs:
    """Pictures called ITEM_ID.jpg (or png, webp, gif, bmp) in a folder, zip or tar file.

    Folders inside do not matter. Of two pictures of one item the first by name is taken.

    Args:
        folder: the dataset folder.
        images: where the pictures are.

    Raises:
        DataError: the place is absent, of another kind, holds no pictures, or none of an item.
    """
    listing, read = _opened(images)
    names = sorted(name for name in listing if PurePosixPath(name).suffix.lower() in _SUFFIXES)
    if not names:
        raise DataError(f"{images} holds no {', '.join(sorted(_SUFFIXES))}; give another place")
    stems = pl.DataFrame({"id": [PurePosixPath(name).stem for name in names], "name": names})
    first = stems.unique("id", keep="first", maintain_order=True)
    rows, notes = match_rows(item_ids(folder), first["id"], images.name)
    items = np.flatnonzero(rows >= 0)
    chosen = {int(item): first["name"][int(rows[item])] for item in items}
    sizes = [(item, name, listing[name]) for item, name in chosen.items()]
    if len(first) < len(names):
        notes = (*notes, f"{len(names) - len(first):,} second pictures of an item left out")
    return ImageInputs(
        source=f"pictures of {images.name}",
        items=items,
        fingerprint=hashlib.sha256(repr(sizes).encode()).hexdigest(),
        notes=notes,
        read=lambda item: read(chosen[item]),
    )


def _opened(images: Path) -> tuple[dict[str, int], Callable[[str], bytes]]:
    """Names with their sizes, and how the bytes of a name are read."""
    if images.is_dir():
        files = {path.relative_to(images).as_posix(): path for path in images.rglob("*")}
        sizes = {name: path.stat().st_size for name, path in files.items() if path.is_file()}
        return sizes, lambda name: files[name].read_bytes()
    if not images.is_file():
        raise DataError(f"there is no {images}; give a folder, zip or tar file of pictures")
    if zipfile.is_zipfile(images):
        return _opened_zip(images)
    if images.suffix in (".gz", ".tgz", ".bz2", ".xz"):
        raise DataError(f"{images.name} cannot be read from the middle; unpack it, give the folder")
    return _opened_tar(images)


def _opened_zip(images: Path) -> tuple[dict[str, int], Callable[[str], bytes]]:
    archive = zipfile.ZipFile(images)
    sizes = {part.filename: part.file_size for part in archive.infolist() if not part.is_dir()}

    def read(name: str) -> bytes:
        try:
            return archive.read(name)
        except zipfile.BadZipFile as error:
            raise BadInputError(str(error)) from error

    return sizes, read


def _opened_tar(images: Path) -> tuple[dict[str, int], Callable[[str], bytes]]:
    try:
        archive = tarfile.open(images, "r:")  # noqa: SIM115 - lives as long as `read`
        members = {part.name: part for part in archive.getmembers() if part.isfile()}
    except (tarfile.TarError, OSError) as error:
        raise DataError(
            f"{images} is not a zip or tar file ({error}); give one of pictures"
        ) from error

    def read(name: str) -> bytes:
        stream = archive.extractfile(members[name])
        return stream.read() if stream is not None else b""

    return {name: part.size for name, part in members.items()}, read
