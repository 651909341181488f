"""`feature.json`: the manifest of a feature, and how its arrays are opened.

    features/NAME/feature.json    kind, origin, counts, checksums, the hash of the item ids
    features/NAME/*.npy           vectors + present; values + offsets, names.json; values + present

Each feature has a manifest of its own, so two encoders can work on one dataset folder at once and
`dataset.json` stays as it is.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from recsys.config import StrictModel, load_yaml, parse
from recsys.errors import DataError
from recsys.files.checksums import FileEntry, check_files
from recsys.files.named import check_named, inside

FEATURES = "features"
FEATURE_MANIFEST = "feature.json"
CATEGORY_NAMES = "names.json"
_SCHEMA_VERSION = 1
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_REMEDY = "make the feature again (`recsys encode`, `recsys attach` or `recsys columns`)"

Kind = Literal["vectors", "categories", "numbers"]
_PARTS: dict[Kind, tuple[str, ...]] = {
    "vectors": ("vectors.npy", "present.npy"),
    "categories": ("values.npy", "offsets.npy", CATEGORY_NAMES),
    "numbers": ("values.npy", "present.npy"),
}
"""The files of each kind."""


class FeatureOrigin(StrictModel):
    """The source of a feature."""

    source: str
    """What it was made of: columns, folder of images, file of vectors; never a local path."""
    encoder: str | None = None
    """Name and version of the frozen network, for encoded features."""
    encoder_sha256: str | None = None
    """sha256 of its weights."""
    notes: tuple[str, ...] = ()
    """What was left out and why, one line each."""


class FeatureManifest(StrictModel):
    """The fields of `feature.json`."""

    schema_version: int = _SCHEMA_VERSION
    name: str
    kind: Kind
    num_items: int
    num_present: int
    size: int
    """Width D of vectors, number C of categories, 1 for numbers."""
    item_ids_hash: str
    """The item ids, in order of item_index, that the rows belong to."""
    origin: FeatureOrigin
    files: dict[str, FileEntry]


def check_feature_name(name: str) -> None:
    """Raises DataError when `name` cannot be the name of a feature."""
    if not _NAME.fullmatch(name):
        raise DataError(
            f"{name!r} cannot name a feature; small letters, digits and _ are allowed, as in "
            "text, image or title_minilm"
        )


def feature_names(folder: Path) -> list[str]:
    """Features that stand in a dataset folder, in order of name."""
    # What a killed writer left behind starts with a dot.
    return sorted(
        part.parent.name
        for part in (folder / FEATURES).glob(f"*/{FEATURE_MANIFEST}")
        if _NAME.fullmatch(part.parent.name)
    )


def load_feature_manifest(folder: Path, name: str, *, verify: bool = False) -> FeatureManifest:
    """Reads and checks `feature.json`; every file it lists must exist with its size.

    Raises:
        DataError: no such feature, a foreign schema version, a missing or cut file, or one that is
            not in the folder.
        ChecksumError: `verify` is set and a file differs from its checksum.
    """
    path = inside(folder, f"{FEATURES}/{name}/{FEATURE_MANIFEST}")
    tree = load_yaml(path)
    if tree.get("schema_version") != _SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema_version {tree.get('schema_version')!r}, this version reads "
            f"{_SCHEMA_VERSION}; {_REMEDY}"
        )
    manifest = parse(FeatureManifest, tree, str(path))
    check_named(path.parent, _PARTS[manifest.kind], manifest.files, _REMEDY)
    check_files(path.parent, manifest.files, _REMEDY, verify=verify)
    return manifest


def load_array(folder: Path, name: str, part: str) -> npt.NDArray[Any]:
    """A memory-mapped, read-only array of a feature.

    Raises:
        DataError: the file is no such array.
    """
    path = folder / FEATURES / name / f"{part}.npy"
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); {_REMEDY}") from error
    return array


def load_names(folder: Path, name: str) -> tuple[str, ...]:
    """The names of a feature's categories, by index."""
    path = folder / FEATURES / name / CATEGORY_NAMES
    return tuple(json.loads(path.read_text(encoding="utf-8"))["names"])
