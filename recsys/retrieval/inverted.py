"""Inverted lists of int8 prefixes, scanned list by list for a whole batch: the index `ivf,int8`.

Jégou, Douze and Schmid, Product Quantization for Nearest Neighbor Search, TPAMI 2011, section 4:
items stand in the lists of their nearest centroids, a search visits the lists whose centroids score
best. Here a list is read once for all users of a batch that visit it, by matrix tiles where the
processor has them. Users are rounded to bytes like items are: what that costs is recall, as an
index's candidates are scored again from the tiers.

Shape legend: N items, L lists, B users, P lists a user visits, d coordinates in S steps of K.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from recsys.errors import DataError
from recsys.kernels.threads import in_parts, parts_of
from recsys.progress import progress
from recsys.retrieval.amx import have_tiles
from recsys.retrieval.encoding import Float32, blocks_of
from recsys.retrieval.filters import Filters, Int64, make_filters
from recsys.retrieval.index import POINTS, num_lists_for, train_centroids
from recsys.retrieval.list_scan import by_list, choose, pack, scan_lists
from recsys.retrieval.list_tiles import GROUP, TOGETHER, configurations
from recsys.retrieval.listing import Lists, join, make_lists, taken_of, worst_of

KIND = "ivf,int8"
_scan_lists: Any = scan_lists  # numba's own types take it for a function of few arguments
_LEVELS, _DEEPEST = 127, 64
_BLOCK = 8192  # rows whose scores of all centroids fit in memory
_FIRST = 4
"""The lists visited first hold so many times what is kept: enough to tell what is good."""
_ARRAYS = ("centroids", "starts", "sizes", "codes", "factors", "ids")


def shape_of(dim: int) -> tuple[int, int]:
    """S and K for d coordinates: pieces of up to 64, a multiple of 4; zeros fill the last one."""
    steps = -(-dim // _DEEPEST)
    return steps, -(-dim // (4 * steps)) * 4


@dataclass
class Inverted:
    """An index over `[N, d]` by inner product."""

    arrays: dict[str, npt.NDArray[Any]]
    """centroids `[L, d]`, starts `[L]` (blocks of 16 items), sizes `[L]`, codes (flat, packed),
    factors and ids `[16 * blocks]`."""
    search: dict[str, int]
    """`nprobe`: P."""
    threads: int | None = None
    tiled: bool = field(default_factory=have_tiles)
    kind: str = KIND

    @property
    def limit(self) -> int:
        """L, the most that P can be."""
        return len(self.arrays["sizes"])

    @property
    def num_items(self) -> int:
        """N."""
        return int(self.arrays["sizes"].sum())

    @property
    def nbytes(self) -> int:
        """Bytes it takes in memory."""
        return sum(array.nbytes for array in self.arrays.values())

    @property
    def extra_bytes(self) -> int:
        """Bytes in memory beside the tiers."""
        return self.nbytes

    def find(self, users: Float32, keep: int, filters: Filters) -> Int64:
        """`[B, keep]` items, in no order, -1 where fewer were found.

        Each user's best lists are visited first: what they hold tells what the others' items must
        exceed, so few of these enter.
        """
        threads = self.threads or os.cpu_count() or 1
        wanted = min(self.search["nprobe"], self.limit)
        first = min(wanted, self._first(keep))
        scores = np.ascontiguousarray(users @ self.arrays["centroids"].T)
        chosen = np.empty((len(users), wanted), np.int32)
        in_parts(choose, len(users), threads, scores, first, chosen)
        codes = self._coded(users)
        found = self._visit(chosen[:, :first], codes, make_lists(len(users), keep), filters)
        if first < wanted:
            lists = make_lists(len(users), keep, worst_of(join(found)))
            found += self._visit(chosen[:, first:], codes, lists, filters)
        return taken_of(join(found), threads)

    def _first(self, keep: int) -> int:
        """How many lists are visited first."""
        return -(-_FIRST * keep * self.limit // self.num_items)

    def _coded(self, users: Float32) -> npt.NDArray[np.int8]:
        """Flat `[B, S, 64]` each row in 255 levels of its own, zeros behind the K of a step."""
        steps, depth = shape_of(users.shape[1])
        peaks = np.abs(users).max(axis=1, keepdims=True).clip(np.finfo(np.float32).tiny)
        rounded = np.zeros((len(users), steps * depth), np.int8)
        rounded[:, : users.shape[1]] = np.rint(users / peaks * _LEVELS)
        codes = np.zeros((len(users), steps, _DEEPEST), np.int8)
        codes[:, :, :depth] = rounded.reshape(len(users), steps, depth)
        return codes.reshape(-1)

    def _visit(
        self, chosen: npt.NDArray[np.int32], users: npt.NDArray[np.int8], lists: Lists,
        filters: Filters,
    ) -> list[Lists]:  # fmt: skip
        """What each thread finds in lists of its own, above the floors of `lists`."""
        edges = np.empty(self.limit + 1, np.int64)
        visitors = np.empty(chosen.size, np.int32)
        by_list(chosen, edges, visitors)
        threads = self.threads or os.cpu_count() or 1
        work = np.cumsum(np.diff(edges) * (self.arrays["sizes"] + GROUP))
        spans = [
            tuple(int(edge) for edge in np.searchsorted(work, part))
            for part in parts_of(int(work[-1]), threads)
        ]
        floors = lists.floors[: len(chosen)]
        parts = [lists, *(make_lists(len(chosen), lists.keep, floors) for _ in spans[1:])]
        shape = shape_of(self.arrays["centroids"].shape[1])
        config = configurations(shape[1]) if self.tiled else None
        packed = (self.arrays["codes"], self.arrays["factors"], self.arrays["ids"])

        def task(numbers: tuple[int, int]) -> None:
            for number in range(*numbers):
                low, high = spans[number]
                _scan_lists(
                    (low, high if number + 1 < len(spans) else self.limit),
                    self.arrays["starts"], self.arrays["sizes"], edges, visitors, users, shape,
                    config, *packed, *parts[number].arguments(filters),
                )  # fmt: skip

        in_parts(task, len(spans), threads)
        return parts

    def multiply_adds(self, users: Float32, keep: int) -> float:
        """For one user, counted of what `users [B, d]` visit."""
        scores = users @ self.arrays["centroids"].T
        wanted, first = min(self.search["nprobe"], self.limit), self._first(keep)
        chosen = np.empty((len(users), wanted), np.int32)
        choose((0, len(users)), np.ascontiguousarray(scores), first, chosen)
        visited = float(self.arrays["sizes"][chosen].sum(axis=1).mean())
        return float(users.shape[1] * (self.limit + visited))

    def save(self, path: Path) -> None:
        """Writes the index as one safetensors file."""
        save_file(self.arrays, path)


def load_inverted(path: Path, search: dict[str, int], *, threads: int | None = None) -> Inverted:
    """Reads what `Inverted.save` wrote into memory.

    Raises:
        DataError: it is something else.
    """
    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in _ARRAYS}
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} holds no lists ({error}); export it again") from error
    return Inverted(arrays, dict(search), threads)


def build_inverted(
    read: Callable[[Any], Float32], num_items: int, *, threads: int | None = None
) -> Inverted:
    """Lists of items that are read block by block, so they may be larger than memory.

    Args:
        read: `[n, d]` of the items that a slice or an array chooses.
        num_items: N.
        threads: None: all cores.
    """
    num_lists = num_lists_for(num_items)
    sample = np.arange(0, num_items, max(1, num_items // (POINTS * num_lists)))
    centroids = train_centroids(read(sample), num_lists, threads)
    owners = _owners(read, num_items, centroids, threads)
    sizes = np.bincount(owners, minlength=num_lists)
    blocks = -(-sizes // GROUP)
    starts: Int64 = np.cumsum(blocks) - blocks
    arrays = _packed(read, owners, starts, sizes)
    arrays |= {"centroids": centroids, "starts": starts, "sizes": sizes}
    return Inverted(arrays, {"nprobe": 1}, threads)


def _owners(
    read: Callable[[Any], Float32], num_items: int, centroids: Float32, threads: int | None
) -> npt.NDArray[np.int32]:
    """`[N]` the list of each item: that of the best centroid, as one list of all of them says."""
    count = len(centroids)
    alone = np.zeros(1, np.int64)
    arrays = _packed(lambda rows: centroids[rows], np.zeros(count, np.int32), alone, alone + count)
    arrays |= {"centroids": centroids[:1], "starts": alone, "sizes": alone + count}
    finder = Inverted(arrays, {"nprobe": 1}, threads)
    owners = np.empty(num_items, np.int32)
    with progress() as bar:
        task = bar.add_task("assign items to lists", total=num_items)
        for rows in blocks_of(num_items, _BLOCK):
            vectors = read(rows)
            owners[rows] = finder.find(vectors, 1, make_filters(len(vectors), count))[:, 0]
            bar.advance(task, len(vectors))
    return owners


def _packed(
    read: Callable[[Any], Float32],
    owners: npt.NDArray[np.int32],
    starts: Int64,
    sizes: Int64,
) -> dict[str, npt.NDArray[Any]]:
    """codes, factors and ids; zeros and -1 where no item is."""
    order = np.argsort(owners, kind="stable")
    places = np.empty(len(owners), np.int64)
    before = np.repeat(starts * GROUP - (np.cumsum(sizes) - sizes), sizes)
    places[order] = before + np.arange(len(owners))
    steps, depth = shape_of(read(slice(0, 1)).shape[1])
    blocks = int((-(-sizes // GROUP)).sum())
    room = blocks + TOGETHER - 1  # the last list is read in fours, too
    codes = np.zeros((room, steps, depth // 4, GROUP, 4), np.int8)
    factors, ids = np.zeros(room * GROUP, np.float32), np.full(room * GROUP, -1, np.int32)
    for rows in blocks_of(len(owners)):
        vectors = read(rows)
        peaks = np.abs(vectors).max(axis=1).clip(np.finfo(np.float32).tiny)
        wide = np.zeros((len(vectors), steps * depth), np.int8)
        wide[:, : vectors.shape[1]] = np.rint(vectors / peaks[:, None] * _LEVELS)
        pack(wide, places[rows], depth, codes)
        factors[places[rows]] = peaks / _LEVELS
        ids[places[rows]] = np.arange(rows.start, rows.stop)
    return {"codes": codes.reshape(-1), "factors": factors, "ids": ids}
