"""Vectors for the benchmark: drawn like a run's, or a run's own.

Shape legend: N items, D coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.progress import progress
from recsys.retrieval.codecs.base import blocks_of

SIZES: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
DIM = SIZES[-1]
SPREAD = 0.5
"""Of the noise around trained vectors, in their own standard deviations."""


class Source(Protocol):
    """Items, and users in two groups: one to tune with, one to measure with."""

    normalize: bool
    """Scores are cosines: vectors have norm 1."""
    sizes: tuple[int, ...]
    """Granularities."""
    num_items: int

    def write_items(self, out: Float32) -> None:
        """Fills `[N, D]`, which may be mapped from disk, block by block."""
        ...

    def users(self, count: int) -> tuple[Float32, Float32]:
        """`[count, D]` to measure with, `[count, D]` to tune with."""
        ...


class Drawn:
    """Items and users with the first and second moments of a trained run's.

    `structured`: a smoothed bootstrap (Silverman, Density Estimation, 1986, section 6.4): a trained
    vector drawn at random, moved by noise of the same covariance, and drawn back to the mean so
    that the moments stay: groups of alike items, as catalogues have. Else: normally distributed.
    """

    def __init__(self, num_items: int, like: Path | None, structured: bool) -> None:
        self.num_items, self.sizes = num_items, SIZES
        self.normalize, self.structured = False, structured
        if like is None:
            # As the coordinates of the first trained Beauty run fell, about.
            spread = np.repeat(SIZES, np.diff([0, *SIZES])) ** -0.5
            normal = np.random.default_rng(99).standard_normal((4096, DIM))
            items = users = (normal * spread).astype(np.float32)
        else:
            run = Trained(like)
            if run.sizes[-1] != DIM:
                raise ValueError(f"{like} has {run.sizes[-1]} coordinates; {DIM} are drawn")
            self.normalize, items, users = run.normalize, run.items, run.every_user(5)
        self.drawn_from = {"items": items, "users": users}
        self.moments = {name: _moments(vectors) for name, vectors in self.drawn_from.items()}

    def write_items(self, out: Float32) -> None:
        """Draws `[N, D]`."""
        self._draw("items", 0, out)

    def users(self, count: int) -> tuple[Float32, Float32]:
        """Two groups, drawn alike."""
        groups = np.empty((2, count, DIM), np.float32)
        for seed, group in enumerate(groups, start=1):
            self._draw("users", seed, group)
        return groups[0], groups[1]

    def _draw(self, what: str, seed: int, out: Float32) -> None:
        """Fills `out`, block by block; of norm 1 for cosines."""
        rng = np.random.default_rng(seed)
        mean, root = self.moments[what]
        with progress() as bar:
            task = bar.add_task(f"draw {what}", total=len(out))
            for rows in blocks_of(len(out)):
                size = rows.stop - rows.start
                block = rng.standard_normal((size, DIM), np.float32) @ root
                if self.structured:
                    trained = self.drawn_from[what]
                    chosen = trained[rng.integers(0, len(trained), size)]
                    block = (chosen - mean + SPREAD * block) / np.float32(1 + SPREAD**2) ** 0.5
                block += mean
                out[rows] = _unit(block) if self.normalize else block
                bar.advance(task, size)


@dataclass
class Trained:
    """The vectors of a run as they are: all its items, and users spread evenly over its users."""

    path: Path

    def __post_init__(self) -> None:
        from recsys.runs.loading import load_run

        self.run = load_run(self.path)
        granularities = self.run.model.granularities
        self.normalize: bool = granularities.normalize
        self.sizes: tuple[int, ...] = tuple(granularities.sizes)
        self.items: Float32 = self.run.model.item_vectors().detach().float().numpy()
        self.num_items: int = len(self.items)

    def write_items(self, out: Float32) -> None:
        """Copies `[N, D]`; of norm 1 for cosines."""
        for rows in blocks_of(self.num_items):
            out[rows] = _unit(self.items[rows]) if self.normalize else self.items[rows]

    def users(self, count: int) -> tuple[Float32, Float32]:
        """Neighbours in the order of the dataset go to different groups."""
        total = self.run.dataset.num_users
        if total < 2 * count:
            raise ValueError(f"{self.path} has {total} users, {2 * count} are needed")
        chosen = self._vectors(np.linspace(0, total - 1, 2 * count).astype(np.int64))
        chosen = _unit(chosen) if self.normalize else chosen
        return chosen[::2], chosen[1::2]

    def every_user(self, step: int) -> Float32:
        """Of every `step`-th user."""
        return self._vectors(np.arange(0, self.run.dataset.num_users, step))

    def _vectors(self, users: Int64) -> Float32:
        from recsys.data.histories import Histories
        from recsys.serving.export import user_vectors

        data = self.run.dataset
        every = Histories(np.arange(data.num_users), data.items, data.offsets)
        return user_vectors(self.run.model, every.rows(users))


def _unit(vectors: Float32) -> Float32:
    unit: Float32 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    return unit


def _moments(vectors: Float32) -> tuple[Float32, Float32]:
    mean = vectors.mean(0)
    values, axes = np.linalg.eigh(np.cov(vectors, rowvar=False))
    root = (axes * np.sqrt(values.clip(0))) @ axes.T
    return mean.astype(np.float32), root.astype(np.float32)
