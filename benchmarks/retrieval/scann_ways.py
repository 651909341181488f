"""Rivals by ScaNN: a tree and 4-bit codes, with reordering.

Guo et al., Accelerating Large-Scale Inference with Anisotropic Vector Quantization, ICML 2020;
Sun et al., SOAR, NeurIPS 2023. ScaNN holds all that it stores in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.retrieval.vectors import K, Vectors
from benchmarks.retrieval.way import Opened, Part, Point, Search, Way, grid_of, size_of
from recsys.arrays import Float32, Int64

_TRAINED_ON = 100_000
_LEAVES = (5, 8, 12, 16, 20, 25, 30, 40, 50, 65, 80, 120, 200, 320, 500, 800)
_REORDERED = (30, 60, 100, 200, 400)


@dataclass(frozen=True)
class Kind:
    """What distinguishes one of ScaNN's ways from another."""

    reorder: str
    """FLOAT32, INT8 or BFLOAT16."""
    reorder_bytes: int
    """A coordinate."""
    spherical: bool | None = None
    """Leaves by direction; None: where scores are cosines."""
    soar: float | None = None
    prefix: int | None = None
    """Coordinates that tree and codes see; the reordering sees all."""


KINDS = {
    "f32": Kind("FLOAT32", 4, spherical=False),
    "f32-spherical": Kind("FLOAT32", 4, spherical=True),
    "int8": Kind("INT8", 1),
    "bf16": Kind("BFLOAT16", 2),
    "soar": Kind("BFLOAT16", 2, soar=1.5),
    "prefix128": Kind("BFLOAT16", 2, prefix=128),
}


def _build(kind: Kind, vectors: Vectors, folder: Path, threads: int) -> None:
    from scann.scann_ops.py import scann_ops_pybind
    from scann.scann_ops.py.scann_builder import ReorderType

    leaves = round(2 * len(vectors.items) ** 0.5)
    builder = scann_ops_pybind.builder(np.asarray(vectors.items), K, "dot_product")
    builder = builder.set_n_training_threads(threads).tree(
        leaves,
        leaves // 100 + 1,
        training_sample_size=_TRAINED_ON,
        spherical=vectors.normalize if kind.spherical is None else kind.spherical,
        soar_lambda=kind.soar,
    )
    if kind.prefix:
        builder = builder.truncate(kind.prefix)
    builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2)
    searcher = builder.reorder(100, quantize=ReorderType[kind.reorder]).build()
    searcher.serialize(str(folder), relative_path=True)


def _open(name: str, vectors: Vectors, threads: int) -> Opened:
    from scann.scann_ops.py import scann_ops_pybind

    folder = vectors.folder / name
    searcher = scann_ops_pybind.load_searcher(str(folder))
    searcher.set_num_threads(threads)
    many = searcher.search_batched if threads == 1 else searcher.search_batched_parallel

    def at(point: Point) -> Search:
        reorder, leaves = point["reorder"], point["leaves"]

        def search(users: Float32) -> Int64:
            if len(users) == 1:
                return np.asarray(searcher.search(users[0], K, reorder, leaves)[0], np.int64)[None]
            return np.asarray(many(users, K, reorder, leaves)[0], np.int64)

        return search

    return Opened(at, size_of(folder))


def _way(name: str, kind: Kind) -> Way:
    title = f"ScaNN, reordered in {kind.reorder.lower()}"
    title += ", spherical" if kind.spherical else ""
    title += f", SOAR {kind.soar}" if kind.soar else ""
    title += f", tree and codes of the first {kind.prefix}" if kind.prefix else ""
    copies = 2 if kind.soar else 1
    return Way(
        name=f"scann-{name}",
        title=title,
        parts=(Part(f"scann-{name}", partial(_build, kind)),),
        open=partial(_open, f"scann-{name}"),
        grid=grid_of("reorder", _REORDERED, "leaves", _LEAVES),
        item_bytes=lambda dim: copies * ((kind.prefix or dim) / 4 + 4) + kind.reorder_bytes * dim,
        needs=("scann", "scann"),
    )


WAYS = tuple(_way(name, kind) for name, kind in KINDS.items())
