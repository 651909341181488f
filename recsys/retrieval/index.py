"""The only importer of faiss: product quantization, k-means, and indexes over the items' prefixes.

An index finds items; their scores are taken from the tiers again, so what an index rounds away
costs recall, never correctness.

Shape legend: N rows, d coordinates, M parts of d / M coordinates, B users.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import faiss as untyped_faiss
import numpy as np
import numpy.typing as npt

from recsys.errors import ConfigError, DataError
from recsys.retrieval.encoding import Float32
from recsys.retrieval.filters import Filters, Int64, make_filters
from recsys.retrieval.routing import overlaps

faiss: Any = untyped_faiss  # what it tells of its types is a part, and wrong in places
_BITS = 8
_SEED = 1234
_LINKS = 16
_POINTS = 64
POINTS, _ROUNDS = 40, 8
"""Rows that a centroid of `train_centroids` is learned of, and how often."""
_NO_GAIN, _PATIENCE = 5e-4, 64
_KINDS = re.compile(r"(flat|ivf|hnsw)(?:,(sq8|pq[1-9]\d*))?|(ivf),(int8)")
KINDS = "flat, ivf or hnsw, followed by nothing, ,sq8 or ,pqM; or ivf,int8, which is scanned here"


def _use(threads: int | None) -> None:
    """Sets how many threads faiss takes, None: all cores; one in a forked process.

    OpenMP's threads do not live on in a process that is forked after they were used: it would wait
    for them for ever.
    """
    process, most = _first_use()
    faiss.omp_set_num_threads((threads or most) if os.getpid() == process else 1)


@cache
def _first_use() -> tuple[int, int]:
    return os.getpid(), faiss.omp_get_max_threads()


def train_codebooks(vectors: Float32, num_parts: int) -> Float32:
    """k-means of every part: `[N, d]` -> `[M, 256, d / M]`; the same rows give the same."""
    dim = vectors.shape[1]
    quantizer = faiss.ProductQuantizer(dim, num_parts, _BITS)
    quantizer.cp.min_points_per_centroid = 1  # fewer rows than faiss likes are still quantized
    quantizer.cp.seed = _SEED
    _use(None)
    quantizer.train(vectors)
    shape = (num_parts, 1 << _BITS, dim // num_parts)
    codebooks: Float32 = faiss.vector_to_array(quantizer.centroids).reshape(shape)
    return codebooks


def assign_codes(vectors: Float32, codebooks: Float32) -> npt.NDArray[np.uint8]:
    """The nearest centroid of each part: `[N, M]`."""
    num_parts, _, width = codebooks.shape
    quantizer = faiss.ProductQuantizer(num_parts * width, num_parts, _BITS)
    faiss.copy_array_to_vector(codebooks.ravel(), quantizer.centroids)
    _use(None)
    codes: npt.NDArray[np.uint8] = quantizer.compute_codes(vectors)
    return codes


def check_kind(kind: str, dim: int) -> tuple[str, str]:
    """Structure (`flat`, `ivf`, `hnsw`) and storage (``, `sq8`, `pqM`, `int8`).

    Raises:
        ConfigError: there is no such index, or M does not divide the coordinates.
    """
    match = _KINDS.fullmatch(kind)
    if match is None:
        raise ConfigError(f"index {kind!r} is not among {KINDS}")
    storage = match[2] or match[4] or ""
    if storage.startswith("pq") and dim % int(storage[2:]):
        raise ConfigError(f"index {kind!r}: {storage[2:]} is no divisor of {dim} coordinates")
    return match[1] or match[3], storage


def _recipe(kind: str, dim: int, num_rows: int) -> str:
    """As faiss's index_factory writes it."""
    structure, storage = check_kind(kind, dim)
    # np: without the polysemous training, which takes minutes and serves a search by bits alone.
    stored = {"": "Flat", "sq8": "SQ8"}.get(storage, f"{storage.upper()}np")
    if structure == "flat":
        return stored
    if structure == "hnsw":
        return f"HNSW{_LINKS},{stored}"
    return f"IVF{num_lists_for(num_rows)},{stored}"


def num_lists_for(num_rows: int) -> int:
    """At least 64 items a list: the centroids stay below a sixteenth of float32 vectors."""
    return int(np.clip(4 * num_rows**0.5, 1, max(1, num_rows // 64)))


def train_centroids(vectors: Float32, num_lists: int, threads: int | None = None) -> Float32:
    """Spherical k-means: `[n, d]` -> `[num_lists, d]` of norm 1; the same rows give the same."""
    _use(threads)
    means = faiss.Kmeans(
        vectors.shape[1], num_lists, niter=_ROUNDS, spherical=True, seed=_SEED,
        min_points_per_centroid=1, max_points_per_centroid=POINTS,
    )  # fmt: skip
    means.train(vectors)
    centroids: Float32 = means.centroids
    return centroids


class Index(Protocol):
    """A first stage that can be tuned and saved: `FaissIndex`, or `inverted.Inverted`."""

    kind: str
    search: dict[str, int]
    """The search parameter, where there is one."""

    @property
    def limit(self) -> int:
        """The most that the search parameter can be."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes it takes in memory."""
        ...

    @property
    def extra_bytes(self) -> int:
        """Bytes in memory beside the tiers."""
        ...

    def find(self, users: Float32, keep: int, filters: Filters) -> Int64:
        """`[B, <= keep]` items, in no order, -1 where fewer were found."""
        ...

    def multiply_adds(self, users: Float32, keep: int) -> float:
        """For one user, counted of what `users [B, d]` visit."""
        ...

    def save(self, path: Path) -> None:
        """Writes it as one file."""
        ...


@dataclass
class FaissIndex:
    """A faiss index over `[N, d]` by inner product."""

    kind: str
    inner: Any
    search: dict[str, int]
    """`nprobe` (ivf) or `efSearch` (hnsw); empty for flat."""
    threads: int | None = None

    @property
    def limit(self) -> int:
        """The most that the search parameter can be."""
        return int(self.inner.nlist if "nprobe" in self.search else self.inner.ntotal)

    @property
    def nbytes(self) -> int:
        """Bytes it takes in memory, which are those of its file."""
        return len(faiss.serialize_index(self.inner))

    @property
    def extra_bytes(self) -> int:
        """Bytes in memory beside the tiers."""
        return self.nbytes

    def find(self, users: Float32, keep: int, filters: Filters) -> Int64:
        """`[B, <= keep]` items, in no order, -1 where fewer were found.

        Hidden items are never visited; of what each row has seen, so many more are asked for.
        """
        longest = int(np.diff(filters.offsets).max(initial=0))
        asked = min(self.inner.ntotal, keep + longest)
        items = self._ask(users, asked, filters.hidden)
        if longest:
            rows = np.repeat(np.arange(len(users)), np.diff(filters.offsets))
            pairs = np.arange(len(users))[:, None] * self.inner.ntotal + items
            seen = np.isin(pairs, rows * self.inner.ntotal + filters.seen)
            items = np.where(seen, -1, items)
            order = np.argsort(items < 0, axis=1, kind="stable")
            items = np.take_along_axis(items, order, axis=1)
        return items[:, :keep]

    def _ask(self, users: Float32, asked: int, hidden: npt.NDArray[np.uint8]) -> Int64:
        options: dict[str, Any] = dict(self.search)
        if "efSearch" in options:
            options["efSearch"] = max(options["efSearch"], asked)
        if len(hidden):
            # The selector reads this very array while the search runs.
            shown = np.packbits(1 - hidden, bitorder="little")
            options["sel"] = faiss.IDSelectorBitmap(shown)
        _use(self.threads)
        found: Int64 = self.inner.search(users, asked, params=self._parameters(options))[1]
        return found

    def _parameters(self, options: dict[str, Any]) -> Any:
        if "nprobe" in self.search:
            return faiss.SearchParametersIVF(**options)
        if "efSearch" in self.search:
            return faiss.SearchParametersHNSW(**options)
        return faiss.SearchParameters(**options) if options else None

    def multiply_adds(self, users: Float32, keep: int) -> float:
        """For one user, counted while `users [B, d]` are searched."""
        dim, count = self.inner.d, len(users)
        storage = check_kind(self.kind, dim)[1]
        each, once = (int(storage[2:]), 256 * dim) if storage.startswith("pq") else (dim, 0)
        faiss.cvar.indexIVF_stats.reset()
        faiss.cvar.hnsw_stats.reset()
        self._ask(users, min(keep, self.inner.ntotal), np.zeros(0, np.uint8))
        if "nprobe" in self.search:
            visited = faiss.cvar.indexIVF_stats.ndis / count
            return float(self.inner.nlist * dim + visited * each + once)
        if "efSearch" in self.search:
            return float(faiss.cvar.hnsw_stats.ndis / count * each + once)
        return float(self.inner.ntotal * each + once)

    def save(self, path: Path) -> None:
        """Writes the index in faiss's own format."""
        faiss.write_index(self.inner, str(path))


def build_index(vectors: Float32, kind: str, *, threads: int | None = None) -> FaissIndex:
    """An index over `[N, d]`, with parameters that visit little; `tune` raises them.

    Raises:
        ConfigError: there is no such kind.
        DataError: too few rows for a product quantizer.
    """
    num_rows, dim = vectors.shape
    structure, storage = check_kind(kind, dim)
    if storage == "int8":
        raise ConfigError(f"index {kind!r} is not one of faiss's; retrieval.inverted builds it")
    if storage.startswith("pq") and num_rows < 1 << _BITS:
        raise DataError(f"index {kind!r} learns 256 centroids, {num_rows} items are too few")
    _use(threads)
    inner = faiss.index_factory(dim, _recipe(kind, dim, num_rows), faiss.METRIC_INNER_PRODUCT)
    if structure == "ivf":  # four times fewer than faiss's own: centroids as good, sooner
        inner.cp.max_points_per_centroid = _POINTS
    inner.train(vectors)
    inner.add(vectors)
    search = {"ivf": {"nprobe": 1}, "hnsw": {"efSearch": 16}}.get(structure, {})
    return FaissIndex(kind, inner, search, threads)


def load_index(
    path: Path, kind: str, search: dict[str, int], *, threads: int | None = None
) -> FaissIndex:
    """Reads what `Index.save` wrote.

    Raises:
        DataError: faiss cannot read it.
    """
    try:
        inner = faiss.read_index(str(path))
    except RuntimeError as error:
        raise DataError(f"{path} cannot be read by faiss ({error}); export it again") from error
    return FaissIndex(kind, inner, dict(search), threads)


def recall_of(found: Int64, exact: Int64) -> float:
    """Mean share of `exact [B, n]` that is in `found [B, m]`; -1 stands for nothing."""
    return float(overlaps(found, exact).mean())


def tune(
    index: Index, users: Float32, exact: Int64, target: float, most: int | None = None
) -> float:
    """Raises the search parameter, as little as can be, until a recall is reached.

    Args:
        index: changed in place.
        users: `[B, d]` to measure with.
        exact: `[B, n]` what an exact search finds for them.
        target: 0..1.
        most: of the parameter; None: all lists, all items.

    Returns:
        The recall that was reached: below the target only where the index itself cannot reach it
        (its codes are too coarse: doubling the work found next to nothing more).
    """
    filters = make_filters(len(users), int(exact.max(initial=-1)) + 1)

    def measured() -> float:
        return recall_of(index.find(users, exact.shape[1], filters), exact)

    if not index.search:
        return measured()
    (name,) = index.search
    limit = index.limit if most is None else min(most, index.limit)
    low, high = 0, max(1, index.search[name])
    index.search[name], before = high, -1.0
    while (reached := measured()) < target and high < limit:
        if reached - before < _NO_GAIN and high >= _PATIENCE:
            break  # coarse codes: visiting more finds nothing more
        low, high, before = high, min(2 * high, limit), reached
        index.search[name] = high
    best = (high, reached)
    while reached >= target and high - low > max(1, low // 16):
        middle = (low + high) // 2
        index.search[name] = middle
        if (found := measured()) >= target:
            high, best = middle, (middle, found)
        else:
            low = middle
    index.search[name] = best[0]
    return best[1]
