"""First stages of recsys: an index finds candidates, mapped tiers rank them.

OURS is the table of them: an index kind of `recsys export --index`, the granularity that it sees,
and a grid: `keep` candidates are ranked at full width, the rest goes to the index's search.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.retrieval.vectors import K, Vectors
from benchmarks.retrieval.way import Opened, Part, Point, Search, Way, grid_of
from recsys.arrays import Float32, Int64
from recsys.retrieval.bundle.loading import load_bundle
from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.writing import BundleSource, write_bundle
from recsys.retrieval.funnel import Funnel, Stage
from recsys.retrieval.index.building import index_of, open_index

_LEAVES = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200)
_KEEPS = (30, 60, 100, 200, 400)
_MANY = (200, 400, 800, 1600)
_MARGINS = (1, 5, 10, 20, 35, 50, 65, 80, 100, 120, 140, 170, 200, 300)


@dataclass(frozen=True)
class Ours:
    """One line of the table."""

    kind: str
    size: int
    """Granularity of the index."""
    item_bytes: float
    """About; of the index."""
    search: str = "margin"
    """The parameter of the index."""
    work: tuple[int, ...] = _MARGINS
    keeps: tuple[int, ...] = _KEEPS
    middle: int | None = None
    """Granularity that ranks before the full width does: a quarter of what is kept goes on."""

    @property
    def folder(self) -> str:
        """Where it is built."""
        return f"ours-{self.kind.replace(',', '-')}-{self.size}"

    @property
    def name(self) -> str:
        """Of the way."""
        return self.folder + (f"-by-{self.middle}" if self.middle else "")


OURS = (
    Ours("ivf,pqx4", 256, 76),
    Ours("ivf,pq64x4", 256, 44),
    Ours("ivf,pqx4", 128, 42),
    Ours("ivf,pqx4", 128, 42, keeps=_MANY, middle=64),
    Ours("scann", 256, 76, search="leaves", work=_LEAVES),
    Ours("scann", 128, 44, search="leaves", work=_LEAVES),
)


def _build(ours: Ours, vectors: Vectors, folder: Path, threads: int) -> None:  # noqa: ARG001
    source = BundleSource(
        vectors.items, pl.Series(np.arange(len(vectors.items))), vectors.sizes, vectors.normalize
    )
    tiers = parse_tiers(f"0:{vectors.dim}:fp16:mmap", vectors.dim)
    write_bundle(folder / "bundle", source, tiers, additions=[index_of(ours.kind, ours.size, None)])


def _open(ours: Ours, vectors: Vectors, threads: int) -> Opened:
    bundle = load_bundle(vectors.folder / ours.folder / "bundle", verify=False)
    index = open_index(bundle, threads=threads)

    def funnel_of(keep: int) -> Funnel:
        stages = [Stage(ours.size, keep), Stage(vectors.dim, K)]
        if ours.middle:
            stages.insert(1, Stage(ours.middle, max(K, keep // 4)))
        return Funnel(bundle, stages, finder=index, threads=threads)

    def at(point: Point) -> Search:
        funnel = funnel_of(point["keep"])
        value = min(point[ours.search], index.limit)

        def search(users: Float32) -> Int64:
            index.search[ours.search] = value
            return funnel.search(users).items

        return search

    funnel = funnel_of(K)
    return Opened(at, funnel.hot_bytes, funnel.cold_bytes)


def _way(ours: Ours) -> Way:
    return Way(
        name=ours.name,
        title=f"ours: {ours.kind} at {ours.size}"
        + (f", ranked by {ours.middle} before" if ours.middle else ""),
        parts=(Part(ours.folder, partial(_build, ours)),),
        open=partial(_open, ours),
        grid=grid_of("keep", ours.keeps, ours.search, ours.work),
        item_bytes=lambda dim: ours.item_bytes,  # noqa: ARG005
        ours=True,
    )


WAYS = tuple(_way(ours) for ours in OURS)
