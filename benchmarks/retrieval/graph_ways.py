"""Rivals by graphs: HNSW of USearch, Vamana of Intel's SVS.

Aguerrebere et al., Similarity Search in the Blink of an Eye with Compressed Indices (LVQ), VLDB
2023; Tepper et al., LeanVec, TMLR 2024. A search walks anywhere, so all of it must be in memory.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.retrieval.vectors import K, Vectors
from benchmarks.retrieval.way import Opened, Part, Point, Search, Way, grid_of, line_of, size_of
from recsys.arrays import Float32, Int64
from recsys.retrieval.codecs.base import blocks_of

_WINDOWS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_FILE = "index.usearch"
_DEGREE = 64
_BYTES = {"i8": 1, "f16": 2}


def _build_usearch(dtype: str, vectors: Vectors, folder: Path, threads: int) -> None:
    from usearch.index import Index

    index = Index(ndim=vectors.dim, metric="ip", dtype=dtype)
    for rows in blocks_of(len(vectors.items)):
        keys = np.arange(rows.start, rows.stop)
        index.add(keys, np.ascontiguousarray(vectors.items[rows]), threads=threads)
    index.save(str(folder / _FILE))


def _open_usearch(name: str, dtype: str, vectors: Vectors, threads: int) -> Opened:
    from usearch.index import Index

    path = vectors.folder / name / _FILE
    index: Any = Index(ndim=vectors.dim, metric="ip", dtype=dtype)
    index.load(str(path))

    def at(point: Point) -> Search:
        def search(users: Float32) -> Int64:
            index.expansion_search = point["expansion_search"]
            found = index.search(users, K, threads=min(threads, len(users)))
            return np.asarray(found.keys, np.int64).reshape(len(users), -1)

        return search

    return Opened(at, size_of(path))


def _loader(svs: Any, kind: str, data: Any) -> Any:
    """Of uncompressed `data` (a loader of float32), or of a folder that was saved."""
    if kind == "lvq":
        return svs.LVQLoader(data) if isinstance(data, str) else svs.LVQLoader(data, 4, 8)
    dims = int(kind.removeprefix("leanvec"))
    return svs.LeanVecLoader(data) if isinstance(data, str) else svs.LeanVecLoader(data, dims)


def _build_svs(kind: str, vectors: Vectors, folder: Path, threads: int) -> None:
    import svs

    flat = folder / "all.fvecs"
    svs.write_vecs(np.asarray(vectors.items), str(flat))
    data = svs.VectorDataLoader(str(flat), svs.DataType.float32, dims=vectors.dim)
    parameters = svs.VamanaBuildParameters(
        alpha=0.95, graph_max_degree=_DEGREE, window_size=2 * _DEGREE
    )
    index = svs.Vamana.build(
        parameters, _loader(svs, kind, data), svs.DistanceType.MIP, num_threads=threads
    )
    flat.unlink()
    index.save(*(str(folder / part) for part in ("config", "graph", "data")))


def _open_svs(name: str, kind: str, vectors: Vectors, threads: int) -> Opened:
    import svs

    folder = vectors.folder / name
    index = svs.Vamana(
        str(folder / "config"), svs.GraphLoader(str(folder / "graph")),
        _loader(svs, kind, str(folder / "data")), svs.DistanceType.MIP, num_threads=threads,
    )  # fmt: skip

    def at(point: Point) -> Search:
        settings = index.search_parameters
        window = point["window"]
        settings.buffer_config = svs.SearchBufferConfig(window, window * point["capacity"])

        def search(users: Float32) -> Int64:
            index.search_parameters = settings
            return np.asarray(index.search(users, K)[0], np.int64)

        return search

    return Opened(at, size_of(folder))


def _not_of_intel() -> str | None:
    """SVS ends the process where LVQ or LeanVec meets another processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file() and "GenuineIntel" in info.read_text():
        return None
    return "LVQ and LeanVec of scalable-vs run on Intel's processors alone"


def _usearch_way(dtype: str) -> Way:
    name = f"usearch-{dtype}"
    return Way(
        name, f"USearch HNSW, {dtype}", (Part(name, partial(_build_usearch, dtype)),),
        partial(_open_usearch, name, dtype), line_of("expansion_search", _WINDOWS),
        lambda dim: _BYTES[dtype] * dim + 160, ("usearch", "usearch"),
    )  # fmt: skip


def _svs_way(kind: str, title: str, codes: float) -> Way:
    """`codes`: bytes a coordinate, of both levels."""
    name = f"svs-{kind}"
    return Way(
        name, f"SVS Vamana, {title}", (Part(name, partial(_build_svs, kind)),),
        partial(_open_svs, name, kind), grid_of("capacity", (1, 3), "window", _WINDOWS),
        lambda dim: codes * dim + 4 * _DEGREE + 8, ("svs", "scalable-vs"), unfit=_not_of_intel,
    )  # fmt: skip


WAYS = (
    *(_usearch_way(dtype) for dtype in ("i8", "f16")),
    _svs_way("lvq", "LVQ 4x8", 1.5),
    _svs_way("leanvec64", "LeanVec 64", 1.25),
    _svs_way("leanvec128", "LeanVec 128", 1.5),
)
