"""Writing of features: one folder each, whole or not at all.

Shape legend: N items, D width of a modality, C categories.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.data.content_hash import ITEMS, item_ids_hash
from recsys.data.features.manifest import (
    CATEGORY_NAMES,
    FEATURE_MANIFEST,
    FEATURES,
    FeatureManifest,
    FeatureOrigin,
    Kind,
    check_feature_name,
)
from recsys.data.manifest import load_manifest
from recsys.errors import DataError
from recsys.files.atomic import atomic_path, reserve, write_json
from recsys.files.checksums import entries_of

_F16_MAX = float(np.finfo(np.float16).max)
_BLOCK = 1 << 14


def write_vectors(
    folder: Path,
    name: str,
    vectors: npt.NDArray[np.floating],
    present: npt.NDArray[np.bool_],
    origin: FeatureOrigin,
) -> FeatureManifest:
    """Writes vectors `[N, D]` with their mask `[N]` as f16; rows of absent items become zero.

    Raises:
        DataError: shapes do not fit the data set, or a number is not finite in f16.
    """
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise DataError(f"feature {name!r}: vectors of shape {vectors.shape}; [N, D] is expected")
    width = vectors.shape[1]

    def write(part: Path) -> None:
        shape = (len(vectors), width)
        stored = np.lib.format.open_memmap(part / "vectors.npy", "w+", np.float16, shape)
        reserve(part / "vectors.npy")
        for lo in range(0, len(vectors), _BLOCK):
            block, mask = vectors[lo : lo + _BLOCK], present[lo : lo + _BLOCK, None]
            block = np.where(mask, block, 0)
            if not (np.abs(block) <= _F16_MAX).all():
                row = lo + int(np.argmin((np.abs(block) <= _F16_MAX).all(axis=1)))
                raise DataError(
                    f"feature {name!r}: the vector of item {_item_id(folder, row)!r} holds NaN or "
                    f"a number beyond {_F16_MAX:g}; correct or scale it, or leave it out"
                )
            stored[lo : lo + _BLOCK] = block
        stored.flush()
        np.save(part / "present.npy", present)

    return _write(folder, name, "vectors", width, present, len(vectors), origin, write)


def write_categories(
    folder: Path,
    name: str,
    values: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.int64],
    names: Sequence[str],
    origin: FeatureOrigin,
) -> FeatureManifest:
    """Writes jagged categories: item i has `values[offsets[i]:offsets[i + 1]]`, each below C.

    Raises:
        DataError: offsets do not fit the data set or the values.
    """
    if offsets[-1] != len(values) or (len(values) and not 0 <= values.min() <= values.max()):
        raise DataError(f"feature {name!r}: offsets and values do not belong together")
    if len(values) and values.max() >= len(names):
        raise DataError(f"feature {name!r}: an index is not among its {len(names)} names")

    def write(part: Path) -> None:
        np.save(part / "values.npy", values.astype(np.int32, copy=False))
        np.save(part / "offsets.npy", offsets.astype(np.int64, copy=False))
        write_json(part / CATEGORY_NAMES, {"names": list(names)})

    present = np.diff(offsets) > 0
    return _write(folder, name, "categories", len(names), present, len(present), origin, write)


def write_numbers(
    folder: Path,
    name: str,
    values: npt.NDArray[np.floating],
    present: npt.NDArray[np.bool_],
    origin: FeatureOrigin,
) -> FeatureManifest:
    """Writes one number per item `[N]` with its mask; numbers of absent items become zero.

    Raises:
        DataError: shapes do not fit the data set, or a present number is not finite.
    """
    values = np.where(present, values, 0).astype(np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        item = _item_id(folder, int(np.argmin(finite)))
        raise DataError(
            f"feature {name!r}: the number of item {item!r} is not finite; mark it absent"
        )

    def write(part: Path) -> None:
        np.save(part / "values.npy", values)
        np.save(part / "present.npy", present)

    return _write(folder, name, "numbers", 1, present, len(values), origin, write)


def _item_id(folder: Path, index: int) -> str:
    """What people call the item."""
    ids = pl.scan_parquet(folder / ITEMS, glob=False)
    return str(ids.filter(pl.col("item_index") == index).select("item_id").collect().item())


def _write(
    folder: Path,
    name: str,
    kind: Kind,
    size: int,
    present: npt.NDArray[np.bool_],
    num_rows: int,
    origin: FeatureOrigin,
    write: Callable[[Path], None],
) -> FeatureManifest:
    check_feature_name(name)
    num_items = load_manifest(folder).num_items
    if num_rows != num_items or present.shape != (num_items,) or present.dtype != np.bool_:
        raise DataError(
            f"feature {name!r} has {num_rows} rows and a mask of {present.shape}; {folder} has "
            f"{num_items} items. Give one row for each item_index"
        )
    with atomic_path(folder / FEATURES / name) as part:
        part.mkdir()
        write(part)
        manifest = FeatureManifest(
            name=name,
            kind=kind,
            num_items=num_items,
            num_present=int(present.sum()),
            size=size,
            item_ids_hash=item_ids_hash(folder),
            origin=origin,
            files=entries_of(part),
        )
        write_json(part / FEATURE_MANIFEST, manifest.model_dump(mode="json"))
    return manifest
