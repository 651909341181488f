"""The item tower at serving: vectors of new items from features, by numpy.

    tower = open_item_tower("bundles/beauty")
    tower.vectors({"text": encoded, "categories": [["Hair", "Shampoo"], ["Skin"]]})  # [2, D]

It is the content side of the item tower that was trained (`recsys.towers.items`): a few small
matrices in `item_tower.safetensors`. New items have no id; whatever else they lack is missing in
the same way. The vectors stand in the space of the bundle's own: append them to any index.

Shape legend: n new items, M modalities (the id may be the first), D embedding_dim, W width of a
frozen vector.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors import SafetensorError, safe_open

from recsys.arrays import Float32
from recsys.errors import DataError
from recsys.retrieval.bundle.manifest import REMEDY, read_manifest
from recsys.retrieval.bundle.versions import find_bundle

ITEM_TOWER = "item_tower.safetensors"
NewFeatures = Mapping[str, Any]
"""name -> vectors `[n, W]` (a row of zeros or NaN: absent), or n lists of category names (unknown
ones are passed over; also a column of polars), or n numbers (NaN: absent)."""
_Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class NewItemTower:
    """Computes nested vectors of new items from their features."""

    names: tuple[str, ...]
    """The modalities, id and all, in the order of the fusion's rows."""
    kinds: dict[str, str]
    """name -> vectors, categories or numbers."""
    categories: dict[str, tuple[str, ...]]
    """name -> what each index stands for."""
    arrays: dict[str, Float32]

    def vectors(self, features: NewFeatures) -> Float32:
        """`[n, D]`; a feature that is left out is one that no new item has.

        Raises:
            DataError: an unknown feature, none at all, different numbers of items, wrong widths,
                text for numbers, infinite values, or one text where a list of names is expected.
        """
        num = self._count(features)
        dim = self.arrays["missing"].shape[1]
        there = np.zeros((num, len(self.names)), np.float32)
        parts = np.zeros((len(self.names), num, dim), np.float32)
        for name, given in features.items():
            m = self.names.index(name)
            parts[m], present = self._part(name, given)
            there[:, m] = present
        fused = (1.0 - there) @ self.arrays["missing"]
        for m, part in enumerate(parts):
            fused += there[:, m, None] * self._weighed(m, part, there)
        result: Float32 = fused.astype(np.float32)
        return result

    def _count(self, features: NewFeatures) -> int:
        known = list(self.kinds)
        if not isinstance(features, Mapping):
            raise DataError(
                f"features are a {type(features).__name__}; a mapping of names to what n items "
                f"have is expected, some of {', '.join(known)}"
            )
        if strangers := sorted(str(name) for name in set(features) - set(known)):
            raise DataError(
                f"item vectors are not made from {', '.join(strangers)}; they are made from "
                f"{', '.join(known)}"
            )
        for name, given in features.items():
            if isinstance(given, str | bytes) or not hasattr(given, "__len__"):
                raise DataError(f"{name} is {given!r}; one entry for each new item is expected")
        lengths = {name: len(given) for name, given in features.items()}
        if len(set(lengths.values())) != 1:
            raise DataError(
                f"features of as many items each are needed, found {lengths or 'none at all'}; "
                f"give some of {', '.join(known)}"
            )
        return next(iter(lengths.values()))

    def _weighed(self, m: int, part: Float32, there: Float32) -> Float32:
        """A part as it enters the sum."""
        if "gate" not in self.arrays:
            projected: Float32 = part @ self.arrays["projection"][m]
            return projected
        logits = self.arrays["bias"][m] + there @ self.arrays["gate"][m]
        gated: Float32 = part * (2.0 / (1.0 + np.exp(-logits)))
        return gated

    def _part(self, name: str, given: Any) -> tuple[Float32, _Bool]:
        """`[n, D]`, and which items have it."""
        weight = self.arrays[f"{name}/weight"]
        if self.kinds[name] == "vectors":
            rows, present = self._whitened(name, _numbers(name, given))
        elif self.kinds[name] == "categories":
            rows, present = _shares(name, given, self.categories[name])
        else:
            rows, present = _filled(name, _numbers(name, given), self.arrays[f"{name}/edges"])
        part: Float32 = rows @ weight
        return part, present

    def _whitened(self, name: str, given: Float32) -> tuple[Float32, _Bool]:
        centre = self.arrays[f"{name}/centre"]
        if given.ndim != 2 or given.shape[1] != len(centre):
            raise DataError(
                f"{name} has the shape {given.shape}; [n, {len(centre)}] is expected, made by the "
                "encoder of the training data"
            )
        present = np.isfinite(given).all(axis=1) & (given != 0).any(axis=1)
        whitened = (np.where(present[:, None], given, 0) - centre) @ self.arrays[
            f"{name}/whitening"
        ]
        return whitened / np.linalg.norm(whitened, axis=1, keepdims=True).clip(1e-12), present


def _numbers(name: str, given: Any) -> Float32:
    """Float32 of numbers; NaN stands for what is absent."""
    try:
        array = np.asarray(given)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} is not an array of numbers: {error}") from error
    if array.size and array.dtype.kind not in "fiu":
        raise DataError(
            f"{name} is {array.dtype}; numbers are expected, NaN where an item has none"
        )
    with np.errstate(over="ignore"):
        numbers: Float32 = array.astype(np.float32)
    if np.isinf(numbers).any():
        raise DataError(f"{name} holds infinite values; NaN stands for what is absent")
    return numbers


def _shares(
    name: str, given: Sequence[Sequence[str]], names: Sequence[str]
) -> tuple[Float32, _Bool]:
    """`[n, C]`: each of an item's known categories has the same share."""
    if isinstance(given, pl.Series):
        return _shares_of_lists(given, names)
    for row, wanted in enumerate(given):
        if isinstance(wanted, str) or not isinstance(wanted, Iterable):
            raise DataError(
                f"{name} of item {row} is {wanted!r}; a list of names is expected, as "
                f"[{wanted!r}], or [] where it has none"
            )
        if strange := [each for each in wanted if not isinstance(each, str)]:
            raise DataError(f"{name} of item {row} holds {strange[0]!r}; names are text")
    place = {name: index for index, name in enumerate(names)}
    shares = np.zeros((len(given), len(names)), np.float32)
    for row, wanted in enumerate(given):
        for name in wanted:
            if name in place:
                shares[row, place[name]] += 1.0
    counts = shares.sum(axis=1)
    return shares / counts.clip(1)[:, None], counts > 0


def _shares_of_lists(lists: pl.Series, names: Sequence[str]) -> tuple[Float32, _Bool]:
    """The same of a column of lists of texts, without a loop over its rows."""
    known = pl.DataFrame({"value": list(names)}, schema={"value": pl.String})
    pairs = (
        pl.DataFrame({"value": lists})
        .with_row_index("row")
        .explode("value", empty_as_null=True)
        .with_columns(pl.col("value").str.strip_chars())
        .join(known.with_row_index("place"), on="value", how="inner")
        .unique(["row", "place"])
    )
    shares = np.zeros((len(lists), len(names)), np.float32)
    shares[pairs["row"].to_numpy(), pairs["place"].to_numpy()] = 1.0
    counts = shares.sum(axis=1)
    return shares / counts.clip(1)[:, None], counts > 0


def _filled(name: str, given: Float32, edges: Float32) -> tuple[Float32, _Bool]:
    """`[n, E]`: how far each number fills each bin."""
    if given.ndim != 1:
        raise DataError(f"{name} has the shape {given.shape}; one number for each item is expected")
    present = np.isfinite(given)
    lo, hi = edges[:-1], edges[1:]
    filled = ((np.where(present, given, 0)[:, None] - lo) / (hi - lo)).clip(0, 1) - 0.5
    return (filled / len(lo) ** 0.5).astype(np.float32), present


def open_item_tower(bundle: str | Path) -> NewItemTower:
    """What a bundle makes vectors of new items by.

    Raises:
        DataError: the bundle has no such thing, or it is damaged.
    """
    folder = find_bundle(bundle)
    path = folder / ITEM_TOWER
    if ITEM_TOWER not in read_manifest(folder).files:
        raise DataError(
            f"{bundle} has no {ITEM_TOWER}: its items are ids alone, which new items do not have; "
            "train with model.items and export again"
        )
    return read_tower(path)


def read_tower(path: Path) -> NewItemTower:
    """A tower over features, as export writes it.

    Raises:
        DataError: the file is damaged.
    """
    try:
        with safe_open(path, "numpy") as stored:
            told = json.loads(stored.metadata()["recsys"])
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is damaged ({error}); {REMEDY}") from error
    categories = {name: tuple(known) for name, known in told["categories"].items()}
    return NewItemTower(tuple(told["names"]), told["kinds"], categories, arrays)
