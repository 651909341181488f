"""Vectors in a folder with their exact neighbours.

Shape legend: N items, Q users, K of a list, D coordinates.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.retrieval.sources import SIZES, Source
from recsys.arrays import Float32, Int64
from recsys.files.atomic import atomic_path, write_json
from recsys.progress import progress
from recsys.retrieval.codecs.base import blocks_of

K, QUERIES = 10, 1024
CARD = "drawn.json"


@dataclass(frozen=True)
class Vectors:
    """`items.npy`, `users.npy` and `others.npy`, their lists `wanted.npy` and `tuning.npy`."""

    folder: Path

    @property
    def card(self) -> dict[str, Any]:
        """What the vectors are."""
        card: dict[str, Any] = json.loads((self.folder / CARD).read_text())
        return card

    @property
    def normalize(self) -> bool:
        """Scores are cosines; items are of norm 1."""
        return bool(self.card["normalize"])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Granularities, ascending; the last one is D."""
        return tuple(self.card.get("sizes", SIZES))

    @property
    def dim(self) -> int:
        """D."""
        return self.sizes[-1]

    @property
    def items(self) -> Float32:
        """`[N, D]`, mapped."""
        return self._load("items", "r")

    @property
    def users(self) -> Float32:
        """`[Q, D]` to measure with."""
        return self._load("users")

    @property
    def others(self) -> Float32:
        """`[Q, D]` to tune with."""
        return self._load("others")

    @property
    def wanted(self) -> Int64:
        """`[Q, K]` what `users` should find."""
        return self._load("wanted")

    @property
    def tuning(self) -> Int64:
        """`[Q, K]` what `others` should find."""
        return self._load("tuning")

    def _load(self, name: str, mode: Any = None) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode=mode)
        return found


def write_vectors(folder: Path, source: Source, card: dict[str, Any]) -> Vectors:
    """Writes what `source` gives; the card is last, so that half a folder is none."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = (source.num_items, source.sizes[-1])
    with atomic_path(folder / "items.npy") as path:
        items = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        source.write_items(items)
        items.flush()
        del items
    vectors = Vectors(folder)
    names = (("users", "wanted"), ("others", "tuning"))
    for (name, listed), group in zip(names, source.users(QUERIES), strict=True):
        np.save(folder / f"{name}.npy", np.ascontiguousarray(group))
        np.save(folder / f"{listed}.npy", exact_lists(vectors.items, group))
    more = {"normalize": source.normalize, "sizes": source.sizes}
    write_json(folder / CARD, card | {"num_items": source.num_items} | more)
    return vectors


def exact_lists(items: Float32, users: Float32) -> Int64:
    """`[Q, K]` of vectors larger than memory; those of a cosine model are of norm 1 already."""
    best, listed = np.zeros((len(users), 0), np.float32), np.zeros((len(users), 0), np.int64)
    with progress() as bar:
        task = bar.add_task("exact lists", total=len(items))
        for rows in blocks_of(len(items)):
            scores = users @ np.asarray(items[rows]).T
            first = np.argpartition(-scores, min(K, scores.shape[1] - 1), axis=1)[:, :K]
            best = np.concatenate([best, np.take_along_axis(scores, first, axis=1)], axis=1)
            listed = np.concatenate([listed, first + rows.start], axis=1)
            order = np.lexsort((listed, -best), axis=1)[:, :K]
            best = np.take_along_axis(best, order, axis=1)
            listed = np.take_along_axis(listed, order, axis=1)
            bar.advance(task, rows.stop - rows.start)
    return listed
