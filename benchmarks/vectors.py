"""Made-up vectors with the spectrum of trained ones, on disk, and what an exact search finds there.

Shape legend: N items, Q queries, K of a list, D coordinates.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.files import atomic_path, write_json
from recsys.progress import progress
from recsys.retrieval.encoding import Float32, blocks_of
from recsys.retrieval.filters import Int64

DIM, K, QUERIES = 256, 10, 1024
SIZES = (8, 16, 32, 64, 128, 256)
SPREAD = 0.5
"""Of the noise around trained vectors, in their own standard deviations."""


class Source:
    """Items and users with the first and second moments of a trained run's.

    `structured`: a smoothed bootstrap (Silverman, Density Estimation, 1986, section 6.4): a trained
    vector drawn at random, moved by noise of the same covariance, and drawn back to the mean so
    that the moments stay: groups of alike items, as catalogues have. Else: normally distributed.
    """

    def __init__(self, like: Path | None, structured: bool) -> None:
        self.normalize, self.structured = False, structured
        if like is None:
            # As the coordinates of the first trained Beauty run fell, about.
            spread = np.repeat(SIZES, np.diff([0, *SIZES])) ** -0.5
            normal = np.random.default_rng(99).standard_normal((4096, DIM))
            self.drawn_from = {"items": (normal * spread).astype(np.float32)}
            self.drawn_from["users"] = self.drawn_from["items"]
        else:
            self.normalize, self.drawn_from = _trained(like)
        self.moments = {name: _moments(vectors) for name, vectors in self.drawn_from.items()}

    def draw(self, what: str, count: int, seed: int, out: Float32 | None = None) -> Float32:
        """`[count, D]`, block by block, into `out` where that is given; of norm 1 for cosines."""
        rng = np.random.default_rng(seed)
        mean, root = self.moments[what]
        drawn = np.empty((count, DIM), np.float32) if out is None else out
        with progress() as bar:
            task = bar.add_task(f"draw {what}", total=count)
            for rows in blocks_of(count):
                size = rows.stop - rows.start
                block = rng.standard_normal((size, DIM), np.float32) @ root
                if self.structured:
                    chosen = self.drawn_from[what][
                        rng.integers(0, len(self.drawn_from[what]), size)
                    ]
                    block = (chosen - mean + SPREAD * block) / np.float32(1 + SPREAD**2) ** 0.5
                block += mean
                if self.normalize:
                    block /= np.linalg.norm(block, axis=1, keepdims=True)
                drawn[rows] = block
                bar.advance(task, size)
        return drawn


def _trained(like: Path) -> tuple[bool, dict[str, Float32]]:
    from recsys.data.histories import Histories
    from recsys.recipes.run import load_run
    from recsys.serving.export import user_vectors

    run = load_run(like)
    data = run.dataset
    every = Histories(np.arange(data.num_users), data.items, data.offsets)
    users = user_vectors(run.model, every.rows(np.arange(0, data.num_users, 5)))
    items = run.model.item_vectors().detach().float().numpy()
    if items.shape[1] != DIM:
        raise ValueError(f"{like} has {items.shape[1]} coordinates, the benchmark wants {DIM}")
    return run.model.granularities.normalize, {"items": items, "users": users}


def _moments(vectors: Float32) -> tuple[Float32, Float32]:
    mean = vectors.mean(0)
    values, axes = np.linalg.eigh(np.cov(vectors, rowvar=False))
    root = (axes * np.sqrt(values.clip(0))) @ axes.T
    return mean.astype(np.float32), root.astype(np.float32)


@dataclass(frozen=True)
class Drawn:
    """Vectors in a folder: drawn once, used by all ways to search them."""

    folder: Path
    normalize: bool

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


def draw(num_items: int, like: Path | None, structured: bool, folder: Path) -> Drawn:
    """The vectors in `folder`, drawn where they are not there yet.

    Raises:
        ValueError: other vectors stand there.
    """
    card = {"num_items": num_items, "like": str(like or ""), "structured": structured}
    known = folder / "drawn.json"
    if known.is_file():
        found = json.loads(known.read_text())
        if {name: found[name] for name in card} != card:
            raise ValueError(f"{folder} holds vectors drawn as {found}; choose another --folder")
        return Drawn(folder, found["normalize"])
    folder.mkdir(parents=True, exist_ok=True)
    source = Source(like, structured)
    with atomic_path(folder / "items.npy") as path:
        items = np.lib.format.open_memmap(path, "w+", np.float32, (num_items, DIM))
        source.draw("items", num_items, 0, items)
        items.flush()
        del items
    drawn = Drawn(folder, source.normalize)
    for name, listed, seed in (("users", "wanted", 1), ("others", "tuning", 2)):
        np.save(folder / f"{name}.npy", source.draw("users", QUERIES, seed))
        users = np.load(folder / f"{name}.npy")
        np.save(folder / f"{listed}.npy", exact_lists(drawn.items, users))
    write_json(known, card | {"normalize": source.normalize})
    return drawn


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
