"""Indexes by Faiss over a prefix of the item vectors.

Lists are not visited by number: a user visits those whose centroids' cosines are within a margin of
the best one's, since some users need many lists and most need few.

An index finds items; their scores are taken from the tiers again, so what an index rounds away
costs recall, never correctness.

Shape legend: N rows, d coordinates, B users.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.arrays import Float32, Int64
from recsys.errors import DataError
from recsys.progress import progress
from recsys.retrieval.codecs.base import blocks_of
from recsys.retrieval.codecs.codebooks import faiss, use_threads
from recsys.retrieval.filters import Filters
from recsys.retrieval.index.kinds import MOST, Kind, fill, num_lists_for, without

FILE = "index.faiss"
_LINKS = 16
_POINTS = 64
"""Rows that a centroid is learned of: four times fewer than Faiss' own, as good, sooner."""
_FEWEST = {8: 256, 4: 16}
_LONGER = np.float32(3)
"""Length of users for RaBitQ, whose error does not grow with the user: among errors of a fixed size
a short user finds nothing.
"""
_USERS = 1024
"""Rows to choose lists for at once."""
_MARGIN = 20
_ASKED = 32
"""Lists that every user asks for first, best first; who needs more asks again."""
ALL_LISTS = 2000
"""Centroids are of norm 1: no two cosines are farther apart than 2.000."""


@dataclass
class FaissIndex:
    """A faiss index over `[N, d]` by inner product."""

    kind: Kind
    inner: Any
    search: dict[str, int]
    """`margin` (ivf, in thousandths) or `efSearch` (hnsw); empty for flat."""
    threads: int | None = None

    @property
    def limit(self) -> int:
        """The most that the search parameter can be: with it all lists, all items are visited."""
        return ALL_LISTS if "margin" in self.search else int(self.inner.ntotal)

    @property
    def size(self) -> tuple[int, int]:
        """N and d."""
        return int(self.inner.ntotal), int(self.inner.d)

    @cached_property
    def nbytes(self) -> int:
        """Bytes it takes in memory, which are those of its file."""
        count = _Counter()
        faiss().write_index(self.inner, faiss().PyCallbackIOWriter(count.add))
        return count.total

    @property
    def extra_bytes(self) -> int:
        """Bytes in memory beside the tiers."""
        return self.nbytes

    def find(self, users: Float32, keep: int, filters: Filters) -> Int64:
        """`[B, <= keep]` items, in no order, -1 where fewer were found.

        Hidden items are never visited, or as many more are asked for; of what each row has seen,
        so many more are asked for.
        """
        hidden = filters.hidden
        longest = int(np.diff(filters.offsets).max(initial=0))
        if self._ignores_filters and len(hidden):
            most = min(self.inner.ntotal, max(keep + longest, MOST // max(1, len(users))))
            return fill(lambda asked: self._ask(users, asked, hidden[:0]), keep, most, filters)
        items = self._ask(users, min(self.inner.ntotal, keep + longest), hidden)
        return without(items, filters)[:, :keep] if longest else items

    @property
    def _ignores_filters(self) -> bool:
        """Product codes without lists take no selector."""
        return self.kind.structure == "flat" and self.kind.codes == "pq"

    def _ask(self, users: Float32, asked: int, hidden: npt.NDArray[np.uint8]) -> Int64:
        options: dict[str, Any] = {}
        if len(hidden):
            # The selector reads this very array while the search runs.
            shown = np.packbits(1 - hidden, bitorder="little")
            options["sel"] = faiss().IDSelectorBitmap(shown)
        use_threads(self.threads)
        if self.kind.codes == "rabitq":
            lengths = np.linalg.norm(users, axis=1, keepdims=True)
            users = users * (_LONGER / np.maximum(lengths, np.finfo(np.float32).tiny))
        if "margin" in self.search:
            if len(users) <= _USERS:
                return self._visit(users, asked, options)
            parts = (users[lo : lo + _USERS] for lo in range(0, len(users), _USERS))
            return np.concatenate([self._visit(part, asked, options) for part in parts])
        found: Int64
        if "efSearch" in self.search:
            options["efSearch"] = max(self.search["efSearch"], asked)
            found = self.inner.search(users, asked, params=faiss().SearchParametersHNSW(**options))[
                1
            ]
        else:
            given = faiss().SearchParameters(**options) if options else None
            found = self.inner.search(users, asked, params=given)[1]
        return found

    def _visit(self, users: Float32, asked: int, options: dict[str, Any]) -> Int64:
        """The best of the lists that lie within the margin."""
        turned, numbers, scores = self._chosen(users)
        turned, count = np.ascontiguousarray(turned), len(users)
        distances, found = np.empty((count, asked), np.float32), np.empty((count, asked), np.int64)
        parameters = faiss().SearchParametersIVF(nprobe=numbers.shape[1], **options)
        given = (turned, asked, scores, numbers, distances, found)
        # Faiss' own wrapper takes no parameters, and the number of lists must not be kept in the
        # index: several threads may search it.
        x, k, near, keys, out, labels = (
            faiss().swig_ptr(each) if isinstance(each, np.ndarray) else each for each in given
        )
        self._lists.search_preassigned_c(count, x, k, keys, near, out, labels, False, parameters)
        return found

    def _chosen(self, users: Float32) -> tuple[Float32, Int64, Float32]:
        """Users as the lists see them, the lists to visit `[B, P]`, -1 behind them, and scores."""
        if self.kind.rotated:
            users = self.inner.chain.at(0).apply(users)
        users, wide = np.ascontiguousarray(users), self.search["margin"] >= ALL_LISTS
        if len(users) == 1:
            return self._chosen_of_one(users)
        margins = np.sqrt(np.einsum("bd,bd->b", users, users)) * (self.search["margin"] / 1000)
        count = self._lists.nlist
        asked = count if wide else min(_ASKED, count)
        scores, numbers = self._lists.quantizer.search(users, asked)
        floors = np.full(len(users), -np.inf) if wide else scores[:, 0] - margins
        while asked < count and (more := scores[:, -1] >= floors).any():
            rows = np.flatnonzero(more)
            asked = min(4 * asked, count)
            found = self._lists.quantizer.search(users[rows], asked)
            scores, numbers = (_widened(old, asked) for old in (scores, numbers))
            scores[rows], numbers[rows] = found
        inside = scores >= floors[:, None]
        longest = int(inside.sum(axis=1).max(initial=1))
        inside, scores, numbers = (each[:, :longest] for each in (inside, scores, numbers))
        # Small codes are scanned with numbers of 8 bits, whose range is that of all scores of a
        # row: behind its end stands its best.
        scores = np.where(inside, scores, scores[:, :1])
        return users, np.where(inside, numbers, -1), scores

    def _chosen_of_one(self, users: Float32) -> tuple[Float32, Int64, Float32]:
        """The same for `users [1, d]`: all cosines at once cost less than to keep the best ones."""
        scores, wanted = np.empty(self._lists.nlist, np.float32), self.search["margin"]
        faiss().fvec_inner_products_ny(
            faiss().swig_ptr(scores),
            faiss().swig_ptr(users),
            self._centroids.get_xb(),
            users.shape[1],
            len(scores),
        )
        margin = float("inf") if wanted >= ALL_LISTS else wanted / 1000 * np.linalg.norm(users)
        near = np.flatnonzero(scores >= scores.max() - margin)
        near = near[np.argsort(-scores[near], kind="stable")]
        return users, near[None], scores[None, near]

    @cached_property
    def _centroids(self) -> Any:
        """The flat index of them."""
        return faiss().downcast_index(self._lists.quantizer)

    @cached_property
    def _lists(self) -> Any:
        """The index of lists; it is inside a rotation, where there is one."""
        return faiss().extract_index_ivf(self.inner)

    def multiply_adds(self, users: Float32, keep: int) -> float:
        """For one user, counted while `users [B, d]` are searched."""
        dim = self.inner.d
        each, once = self.kind.work_of(dim)
        if "margin" in self.search:
            numbers = self._chosen(users)[1]
            held = self._lists.invlists
            sizes = np.array([*map(held.list_size, range(self._lists.nlist)), 0])  # -1: no list
            visited = float(sizes[numbers].sum(axis=1).mean())
            return float(self._lists.nlist * dim + visited * each + once)
        if "efSearch" in self.search:
            faiss().cvar.hnsw_stats.reset()
            self._ask(users, min(keep, self.inner.ntotal), np.zeros(0, np.uint8))
            return float(faiss().cvar.hnsw_stats.ndis / len(users) * each + once)
        return float(self.inner.ntotal * each + once)

    def save(self, folder: Path) -> str:
        """Writes the index in faiss's own format."""
        faiss().write_index(self.inner, str(folder / FILE))
        return FILE


def _widened(values: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
    """`[B, width]`: what is new scores -inf, or has number -1."""
    nothing = -np.inf if values.dtype.kind == "f" else -1
    more = ((0, 0), (0, width - values.shape[1]))
    return np.pad(values, more, constant_values=nothing)


class _Counter:
    """Counts the bytes of an index instead of writing them."""

    def __init__(self) -> None:
        self.total = 0

    def add(self, data: bytes) -> int:
        """Takes a piece."""
        self.total += len(data)
        return len(data)


def _recipe(kind: Kind, dim: int, num_rows: int) -> str:
    """As faiss's index_factory writes it."""
    if kind.bits == 4:
        stored = f"PQ{kind.parts}x4fs" + ("r" if kind.structure == "ivf" else "")
    elif kind.bits == 8:
        # np: no polysemous training, which takes minutes and serves a search by bits alone.
        stored = f"PQ{kind.parts}np"
    else:
        stored = {"": "Flat", "sq8": "SQ8", "rabitq": "RaBitQ"}[kind.codes]
    first = {"flat": "", "hnsw": f"HNSW{_LINKS},", "ivf": f"IVF{num_lists_for(num_rows)},"}
    turned = f"OPQ{kind.parts}_{dim}," if kind.rotated else ""
    return turned + first[kind.structure] + stored


def build_faiss(
    read: Callable[[Any], Float32], num_rows: int, kind: Kind, *, threads: int | None = None
) -> FaissIndex:
    """An index that visits little; `kinds.tune` raises that.

    Args:
        read: `[n, d]` of the rows that a slice or an array chooses; called block by block.
        num_rows: N.
        kind: of Faiss.
        threads: None: all cores.

    Raises:
        DataError: too few rows for a product quantizer.
    """
    if num_rows < (fewest := _FEWEST.get(kind.bits, 1)):
        raise DataError(
            f"index {kind.name!r} learns {fewest} centroids, {num_rows} items are too few; "
            "choose flat, or ivf,sq8"
        )
    dim = read(slice(0, 1)).shape[1]
    if kind.rotated and num_rows < dim:  # Faiss would write beyond its memory
        raise DataError(
            f"index {kind.name!r} learns a rotation of {dim} coordinates, {num_rows} items are too "
            f"few; leave opq out ({kind.name.removeprefix('opq,')})"
        )
    use_threads(threads)
    inner = faiss().index_factory(dim, _recipe(kind, dim, num_rows), faiss().METRIC_INNER_PRODUCT)
    most = max(1 << 16, _POINTS * num_lists_for(num_rows))
    _train(inner, kind, read(np.arange(0, num_rows, -(-num_rows // most))))
    with progress() as bar:
        task = bar.add_task(f"build {kind.name}", total=num_rows)
        for rows in blocks_of(num_rows):
            inner.add(read(rows))
            bar.advance(task, rows.stop - rows.start)
    search = {"ivf": {"margin": _MARGIN}, "hnsw": {"efSearch": 16}}.get(kind.structure, {})
    return FaissIndex(kind, inner, search, threads)


def _train(inner: Any, kind: Kind, rows: Float32) -> None:
    """Learns lists, rotation and codes of `rows [n, d]`, however few there are."""
    core = inner
    if kind.rotated:
        # Of as many centroids as the codes have: Faiss would turn the space for 256.
        quantizer = faiss().ProductQuantizer(inner.d, kind.parts, kind.bits)
        quantizer.cp.min_points_per_centroid = 1
        rotation, core = inner.chain.at(0), faiss().downcast_index(inner.index)
        rotation = faiss().downcast_VectorTransform(rotation)
        rotation.pq = quantizer
    if kind.structure == "ivf":
        core.cp.max_points_per_centroid = _POINTS
        core.cp.min_points_per_centroid = 1
    if kind.parts:
        core.pq.cp.min_points_per_centroid = 1
    inner.train(rows)
    if kind.rotated:
        rotation.pq = None


def load_faiss(
    path: Path, kind: Kind, search: dict[str, int], *, threads: int | None = None
) -> FaissIndex:
    """Reads what `FaissIndex.save` wrote.

    Raises:
        DataError: faiss cannot read it.
    """
    try:
        inner = faiss().read_index(str(path))
    except RuntimeError as error:
        raise DataError(f"{path} cannot be read by faiss ({error}); export it again") from error
    return FaissIndex(kind, inner, dict(search), threads)
