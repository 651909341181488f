"""What features are computed from, beside the request: counts of interactions, items, users.

Everything in it was known at one moment, so nothing that is computed from it knows more.
Shape legend: N items, U users, T interactions, C categories, D coordinates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recsys.arrays import Arrays, Float32, Int32, Int64
from recsys.errors import DataError
from recsys.rankers.features.events import Events
from recsys.rankers.features.pairs import Pairs

ARRAYS, SIZES = "knowledge.safetensors", "knowledge.json"


@dataclass(frozen=True)
class Categories:
    """Categories of items, jagged: item i has `values[offsets[i]:offsets[i + 1]]`, each below C."""

    values: Int32
    offsets: Int64
    size: int
    """C."""

    @cached_property
    def most(self) -> int:
        """Categories of the item that has most of them."""
        return int(np.diff(self.offsets).max(initial=0))

    def codes(self, items: Int64, width: int) -> Int32:
        """`[..., width]` the first categories of items, from 1; 0: there are no more."""
        if not len(self.values):
            return np.zeros((*items.shape, width), np.int32)
        first, places = self.offsets[items][..., None], np.arange(width)
        there = places < (self.offsets[items + 1][..., None] - first)
        found = self.values[np.where(there, first + places, 0)] + 1
        return np.where(there, found, 0).astype(np.int32)


@dataclass(frozen=True)
class UserColumn:
    """A categorical column of the users."""

    values: Int32
    """`[U]` from 1; 0: missing."""
    size: int
    """Number of categories, 0 among them."""


@dataclass(frozen=True)
class Knowledge:
    """What was known."""

    counts: Int64
    """`[N]` interactions of each item."""
    events: Events | None = None
    """Their times; None: the data has none."""
    rules: Pairs | None = None
    neighbours: Pairs | None = None
    item_numbers: Mapping[str, Float32] = field(default_factory=dict)
    """`[N]` each; NaN: missing."""
    item_categories: Mapping[str, Categories] = field(default_factory=dict)
    item_vectors: Mapping[str, npt.NDArray[np.float16]] = field(default_factory=dict)
    """`[N, D]` each, of length 1; zeros: missing."""
    user_numbers: Mapping[str, Float32] = field(default_factory=dict)
    """`[U]` each; NaN: missing."""
    user_categories: Mapping[str, UserColumn] = field(default_factory=dict)
    history_times: Int64 | None = None
    """`[T]` times of a bundle's histories, in their order; None: they are not known."""

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.counts)

    def save(self, folder: Path) -> None:
        """Writes two files into a folder that is not in place yet."""
        arrays: dict[str, npt.NDArray[np.generic]] = {"counts": self.counts}
        if self.events is not None:
            arrays |= {"events.offsets": self.events.offsets, "events.times": self.events.times}
        for name, pairs in (("rules", self.rules), ("neighbours", self.neighbours)):
            if pairs is not None:
                arrays |= {f"{name}.keys": pairs.keys, f"{name}.weights": pairs.weights}
        for group in ("item_numbers", "item_vectors", "user_numbers"):
            arrays |= {f"{group}/{name}": rows for name, rows in getattr(self, group).items()}
        for name, found in self.item_categories.items():
            arrays[f"item_categories/{name}/values"] = found.values
            arrays[f"item_categories/{name}/offsets"] = found.offsets
        for name, column in self.user_categories.items():
            arrays[f"user_categories/{name}"] = column.values
        if self.history_times is not None:
            arrays["history_times"] = self.history_times
        save_file(
            {name: np.ascontiguousarray(rows) for name, rows in arrays.items()}, folder / ARRAYS
        )
        sizes = {f"item_categories/{name}": c.size for name, c in self.item_categories.items()}
        sizes |= {f"user_categories/{name}": c.size for name, c in self.user_categories.items()}
        (folder / SIZES).write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")


def load_knowledge(folder: Path) -> Knowledge:
    """Reads what `Knowledge.save` wrote.

    Raises:
        DataError: the files are absent or damaged.
    """
    try:
        arrays: Arrays = load_file(folder / ARRAYS)
        sizes = json.loads((folder / SIZES).read_text(encoding="utf-8"))
        return _of_arrays(arrays, sizes)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise DataError(
            f"{folder} does not hold what a ranker knows ({error}); fit it again (recsys rank fit)"
        ) from error


def _of_arrays(arrays: Arrays, sizes: Mapping[str, int]) -> Knowledge:
    counts = arrays["counts"]

    def pairs(name: str) -> Pairs | None:
        if f"{name}.keys" not in arrays:
            return None
        return Pairs(arrays[f"{name}.keys"], arrays[f"{name}.weights"], len(counts))

    def group(name: str) -> dict[str, npt.NDArray[np.generic]]:
        start = f"{name}/"
        return {
            key.removeprefix(start): rows for key, rows in arrays.items() if key.startswith(start)
        }

    timed = "events.times" in arrays
    categories = {
        key.removeprefix("item_categories/"): Categories(
            arrays[f"{key}/values"], arrays[f"{key}/offsets"], size
        )
        for key, size in sizes.items()
        if key.startswith("item_categories/")
    }
    columns = {
        key.removeprefix("user_categories/"): UserColumn(arrays[key], size)
        for key, size in sizes.items()
        if key.startswith("user_categories/")
    }
    return Knowledge(
        counts=counts,
        events=Events(arrays["events.offsets"], arrays["events.times"]) if timed else None,
        rules=pairs("rules"),
        neighbours=pairs("neighbours"),
        item_numbers=group("item_numbers"),  # type: ignore[arg-type]
        item_categories=categories,
        item_vectors=group("item_vectors"),  # type: ignore[arg-type]
        user_numbers=group("user_numbers"),  # type: ignore[arg-type]
        user_categories=columns,
        history_times=arrays.get("history_times"),
    )
