"""Item features in memory: vectors, categories and numbers, aligned with item indices.

    features = load_features("data/ml1m")           # everything that exists; {} where nothing
    text = load_features("data/ml1m", ["text"]).vectors["text"]
    text.rows(batch_items)                          # [B, D] float32, zeros where absent
    text.present[batch_items]                       # [B] bool

Row i of every array belongs to item_index i of the dataset folder. Arrays are memory-mapped and
read-only; nothing is copied until rows are taken. `recsys encode`, `attach` and `columns` write
them (feature_writing.py). The content hash of the interactions does not know of features: they have
a hash of their own, for run folders and protocol cards.
Shape legend: N items, B rows requested, D width of a modality, C categories.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recsys.arrays import Bool, Float32, Int32, Int64
from recsys.data.content_hash import item_ids_hash
from recsys.data.features.manifest import (
    FeatureManifest,
    feature_names,
    load_array,
    load_feature_manifest,
    load_names,
)
from recsys.data.histories import jagged_positions
from recsys.data.manifest import load_manifest
from recsys.errors import DataError

Float16 = npt.NDArray[np.float16]


@dataclass(frozen=True)
class VectorFeature:
    """One vector per item, from a frozen encoder (text, image) or attached by the user."""

    vectors: Float16
    """`[N, D]`, mapped from disk; zeros where absent."""
    present: Bool
    """`[N]`: False where an item has no text, no image, or a broken one."""

    @property
    def dim(self) -> int:
        """D."""
        return int(self.vectors.shape[1])

    def rows(self, items: Int32 | Int64) -> Float32:
        """`[B, D]` vectors of item indices `[B]`; zeros where absent."""
        return np.asarray(self.vectors)[items].astype(np.float32)


@dataclass(frozen=True)
class CategoricalFeature:
    """Any number of categories per item (genres, brand, category path), as jagged indices."""

    values: Int32
    """Category indices 0..C-1 of all items, one item after another."""
    offsets: Int64
    """`[N + 1]`: item i has `values[offsets[i]:offsets[i + 1]]`."""
    names: tuple[str, ...]
    """`[C]`: what each index stands for."""

    @property
    def present(self) -> Bool:
        """`[N]`: the item has a category at all."""
        return np.diff(self.offsets) > 0

    def rows(self, items: Int32 | Int64) -> tuple[Int32, Int64]:
        """Categories of item indices `[B]`: values, and offsets `[B + 1]` into them."""
        positions, offsets = jagged_positions(self.offsets[items], self.offsets[items + 1])
        return self.values[positions], offsets


@dataclass(frozen=True)
class NumericFeature:
    """One number per item (price, year), in the unit of its source."""

    values: Float32
    """`[N]`; zero where absent."""
    present: Bool
    """`[N]`."""


@dataclass(frozen=True)
class ItemFeatures:
    """All features of the items of a data set."""

    num_items: int
    """N."""
    vectors: dict[str, VectorFeature]
    categories: dict[str, CategoricalFeature]
    numbers: dict[str, NumericFeature]
    features_hash: str
    """sha256 over names, kinds and bytes of the features that were loaded, in order of name."""

    @property
    def names(self) -> tuple[str, ...]:
        """All features, in order of name."""
        return tuple(sorted([*self.vectors, *self.categories, *self.numbers]))


def load_features(
    folder: str | Path, names: Iterable[str] | None = None, *, verify: bool = False
) -> ItemFeatures:
    """Opens the features of a dataset folder; vectors are mapped, not read.

    Args:
        folder: the dataset folder.
        names: the features wanted (default: all that exist, perhaps none).
        verify: also compare the sha256 of every file.

    Raises:
        DataError: a feature is not there, is damaged, or belongs to other items.
        ChecksumError: `verify` is set and a file differs from its checksum.
    """
    folder = Path(folder)
    num_items, ids_hash = load_manifest(folder).num_items, item_ids_hash(folder)
    known = feature_names(folder)
    wanted = sorted(known if names is None else set(names))
    manifests = {}
    for name in wanted:
        if name not in known:
            raise DataError(
                f"{folder} has no feature {name!r}; it has {', '.join(known) or 'none'}. "
                "Make it with `recsys encode`, `recsys attach` or `recsys columns`"
            )
        manifest = load_feature_manifest(folder, name, verify=verify)
        _check_aligned(folder, manifest, num_items, ids_hash)
        manifests[name] = manifest
    of_kind = {
        kind: [name for name, manifest in manifests.items() if manifest.kind == kind]
        for kind in ("vectors", "categories", "numbers")
    }
    return ItemFeatures(
        num_items=num_items,
        vectors={name: _vectors(folder, name) for name in of_kind["vectors"]},
        categories={name: _categories(folder, name) for name in of_kind["categories"]},
        numbers={name: _numbers(folder, name) for name in of_kind["numbers"]},
        features_hash=features_hash(manifests.values()),
    )


def features_hash(manifests: Iterable[FeatureManifest]) -> str:
    """One sha256 for some features: their names, kinds and bytes, not where they came from."""
    told = [
        [manifest.name, manifest.kind, sorted((k, v.sha256) for k, v in manifest.files.items())]
        for manifest in sorted(manifests, key=lambda manifest: manifest.name)
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _check_aligned(folder: Path, manifest: FeatureManifest, num_items: int, ids_hash: str) -> None:
    if (manifest.num_items, manifest.item_ids_hash) != (num_items, ids_hash):
        raise DataError(
            f"feature {manifest.name!r} of {folder} was made for {manifest.num_items} other items "
            f"than the {num_items} that exist; make it again, or take it over by id with "
            "`recsys attach` from the dataset folder it belongs to"
        )


def _vectors(folder: Path, name: str) -> VectorFeature:
    return VectorFeature(load_array(folder, name, "vectors"), load_array(folder, name, "present"))


def _categories(folder: Path, name: str) -> CategoricalFeature:
    values, offsets = load_array(folder, name, "values"), load_array(folder, name, "offsets")
    return CategoricalFeature(values, offsets, load_names(folder, name))


def _numbers(folder: Path, name: str) -> NumericFeature:
    return NumericFeature(load_array(folder, name, "values"), load_array(folder, name, "present"))
