"""Rivals by Faiss: flat, IVF with 4-bit codes or RaBitQ, HNSW, with refinement.

A refinement reads few rows of what it stores: it is mapped from disk, codes and graph are not.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import faiss as untyped_faiss
import numpy as np

from benchmarks.retrieval.vectors import K, Vectors
from benchmarks.retrieval.way import Opened, Part, Point, Search, Way, grid_of, line_of
from recsys.arrays import Float32
from recsys.retrieval.codecs.base import blocks_of

faiss: Any = untyped_faiss
FILE = "index.faiss"
_POINTS, _POINTS_OF_LIST = 100_000, 50
_HARDER = 64
"""efConstruction of HNSW; Faiss takes 40."""
_PROBES = (4, 8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512)
_FACTORS = (3, 5, 10, 20, 50)
_ITEM_ID = 8


def num_lists(num_items: int) -> int:
    """The power of 2 nearest to twice the root."""
    return 1 << max(0, round(math.log2(2 * num_items**0.5)))


def _training(vectors: Vectors, lists: int) -> Float32:
    """Rows spread evenly: enough of them for every list."""
    count = len(vectors.items)
    wanted = min(count, max(_POINTS, _POINTS_OF_LIST * lists))
    return np.ascontiguousarray(vectors.items[np.linspace(0, count - 1, wanted).astype(np.int64)])


def _part(name: str, recipe: str) -> Part:
    """`recipe` as `index_factory` reads it; {lists} and {D/2} are filled in."""

    def build(vectors: Vectors, folder: Path, threads: int) -> None:
        faiss.omp_set_num_threads(threads)
        lists, dim = num_lists(len(vectors.items)), vectors.dim
        text = recipe.format(lists=lists, half=dim // 2, quarter=dim // 4)
        index = faiss.index_factory(dim, text, faiss.METRIC_INNER_PRODUCT)
        if hasattr(index, "hnsw"):
            index.hnsw.efConstruction = _HARDER
        index.train(_training(vectors, lists))
        for rows in blocks_of(len(vectors.items)):
            index.add(np.ascontiguousarray(vectors.items[rows]))
        faiss.write_index(index, str(folder / FILE))

    return Part(name, build)


_REFINEMENTS = {"fp16": _part("refine-fp16", "SQfp16"), "sq8": _part("refine-sq8", "SQ8")}


def _read(vectors: Vectors, part: Part, *, mapped: bool) -> tuple[Any, int]:
    path = vectors.folder / part.name / FILE
    flags = faiss.IO_FLAG_MMAP_IFC if mapped else 0
    return faiss.read_index(str(path), flags), path.stat().st_size


def _parameters(point: Point) -> Any:
    """Of the index below the refinement."""
    if "nprobe" in point:
        return faiss.SearchParametersIVF(nprobe=point["nprobe"])
    if "efSearch" in point:
        asked = K * point.get("k_factor", 1)
        return faiss.SearchParametersHNSW(efSearch=max(point["efSearch"], asked))
    return None


def _searches(index: Any, threads: int) -> Any:
    def at(point: Point) -> Search:
        options = _parameters(point)
        if "k_factor" in point:
            options = faiss.IndexRefineSearchParameters(
                k_factor=point["k_factor"], base_index_params=options
            )

        def search(users: Float32) -> Any:
            faiss.omp_set_num_threads(threads)
            return index.search(users, K, params=options)[1]

        return search

    return at


def _refined(part: Part, codec: str) -> Any:
    refinement = _REFINEMENTS[codec]

    def open_way(vectors: Vectors, threads: int) -> Opened:
        base, resident = _read(vectors, part, mapped=False)
        finer, mapped = _read(vectors, refinement, mapped=True)
        index = faiss.IndexRefine(base, finer)
        return Opened(_searches(index, threads), resident, mapped, holds=(base, finer))

    return open_way


def _open_flat(vectors: Vectors, threads: int) -> Opened:
    index, resident = _read(vectors, _FLAT, mapped=False)
    return Opened(_searches(index, threads), resident)


_FLAT = _part("faiss-flat", "Flat")
_BASES = {
    "ivfpq2": ("IVF{lists},PQ{half}x4fs", lambda dim: dim / 4 + _ITEM_ID),
    "ivfpq4": ("IVF{lists},PQ{quarter}x4fs", lambda dim: dim / 8 + _ITEM_ID),
    "ivfpq2r": ("IVF{lists},PQ{half}x4fsr", lambda dim: dim / 4 + _ITEM_ID),
    "ivfpq4r": ("IVF{lists},PQ{quarter}x4fsr", lambda dim: dim / 8 + _ITEM_ID),
    "rabitq": ("IVF{lists},RaBitQfs", lambda dim: dim / 8 + 8 + _ITEM_ID),
    "hnsw": ("HNSW32,SQ8", lambda dim: dim + 272),
}


def _refined_way(base: str, codec: str) -> Way:
    recipe, item_bytes = _BASES[base]
    part = _part(f"faiss-{base}", recipe)
    if base == "hnsw":
        grid = grid_of("k_factor", (1, 2, 5), "efSearch", (16, 24, 32, 48, 64, 96, 128, 256, 512))
    else:
        grid = grid_of("k_factor", _FACTORS, "nprobe", _PROBES)
    title = recipe.format(lists="", half="(D/2)", quarter="(D/4)")
    return Way(
        name=f"faiss-{base}-{codec}",
        title=f"Faiss {title},Refine({'SQfp16' if codec == 'fp16' else 'SQ8'})",
        parts=(part, _REFINEMENTS[codec]),
        open=_refined(part, codec),
        grid=grid,
        item_bytes=item_bytes,
    )


WAYS = (
    Way("faiss-flat", "Faiss Flat: exact", (_FLAT,), _open_flat, line_of("k", (K,)),
        lambda dim: 4 * dim),
    *(_refined_way(base, codec) for base in ("ivfpq2", "ivfpq4") for codec in ("fp16", "sq8")),
    *(_refined_way(base, "fp16") for base in ("ivfpq2r", "ivfpq4r")),
    _refined_way("rabitq", "fp16"),
    _refined_way("hnsw", "fp16"),
)  # fmt: skip
