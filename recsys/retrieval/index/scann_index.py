"""Indexes by ScaNN over a prefix of the item vectors.

What an item loses along its own direction costs more than what it loses across, since that is what
moves the scores of those who want it: Guo et al., Accelerating Large-Scale Inference with
Anisotropic Vector Quantization, ICML 2020. ScaNN's own reordering is left out: the funnel ranks
by the tiers.

ScaNN is an extra, of Linux alone: `pip install 'recsys[scann]'`.

Shape legend: N rows, d coordinates, M codes of d / M coordinates, L leaves, B users.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.errors import DataError
from recsys.extras import extra
from recsys.files.named import inside
from recsys.progress import progress
from recsys.retrieval.codecs.base import blocks_of
from recsys.retrieval.filters import Filters
from recsys.retrieval.index.kinds import MOST, Kind, fill, num_lists_for

FOLDER, FILE = "scann", "scann_assets.pbtxt"
_FEWEST = 16
"""Centroids of a code."""
_TRAINED_ON, _THRESHOLD = 100_000, 0.2
_PADDED = 16
"""Items that the last block of a leaf lacks, at the mean."""
_BATCH = 256
"""Users that a thread takes at once."""
_COUNTED = 32
"""Users whose visits are counted: each alone."""
_ASSETS = {
    "AH_CENTERS": "ah_codebook.pb",
    "AH_DATASET_NPY": "hashed_dataset.npy",
    "PARTITIONER": "serialized_partitioner.pb",
    "TOKENIZATION_NPY": "datapoint_to_token.npy",
}
_WRITTEN = re.compile(r'assets\s*\{\s*asset_type:\s*(\w+)\s*asset_path:\s*"([\w.]+)"\s*\}\s*')


@dataclass
class ScannIndex:
    """A ScaNN searcher over `[N, d]` by inner product."""

    kind: Kind
    inner: Any
    search: dict[str, int]
    """`leaves`: so many are visited."""
    threads: int | None = None
    _process: int = field(default_factory=os.getpid)

    def __post_init__(self) -> None:
        """Starts its threads."""
        self.inner.set_num_threads(self.threads or os.cpu_count() or 1)

    @property
    def limit(self) -> int:
        """The most that the search parameter can be: with it all leaves, all items are visited."""
        return self._told("num_children")

    @property
    def size(self) -> tuple[int, int]:
        """N and d."""
        return int(self.inner.size()), self._told("input_dim")

    @property
    def nbytes(self) -> int:
        """Bytes it takes in memory: codes in blocks of 32, two numbers for each item, centroids.

        ScaNN does not tell, so they are counted.
        """
        num_rows, dim = self.size
        coded = num_rows + _PADDED * self.limit
        codes = coded * ((self.kind.parts + 1) // 2)
        return codes + 8 * num_rows + 4 * dim * (self.limit + _FEWEST)

    @property
    def extra_bytes(self) -> int:
        """Bytes in memory beside the tiers."""
        return self.nbytes

    def _told(self, name: str) -> int:
        found = re.search(rf"\b{name}: (\d+)", self.inner.config())
        if found is None:
            raise DataError(f"ScaNN's configuration has no {name}; export the index again")
        return int(found[1])

    def find(self, users: Float32, keep: int, filters: Filters) -> Int64:
        """`[B, <= keep]` items, best first, -1 where fewer were found.

        ScaNN knows no filters: more is asked for, until a row is full or its leaves hold no more,
        or 8 million for all rows together do not help; the funnel scans for rows that stay short.
        """
        longest = int(np.diff(filters.offsets).max(initial=0))
        most = max(keep + longest, MOST // max(1, len(users)))
        num_rows = int(self.inner.size())
        return fill(
            lambda asked: self._ask(users, asked), min(keep, num_rows), min(num_rows, most), filters
        )

    def _ask(self, users: Float32, asked: int) -> Int64:
        if not len(users):  # ScaNN refuses none
            return np.empty((0, asked), np.int64)
        leaves = self.search["leaves"]
        if len(users) == 1:
            found = self.inner.search(users[0], asked, asked, leaves)[0].astype(np.int64)
            return np.pad(found, (0, asked - len(found)), constant_values=-1)[None]
        # Threads do not live on in a process that is forked after they were started.
        if self.threads == 1 or os.getpid() != self._process:
            items, scores = self.inner.search_batched(users, asked, asked, leaves)
        else:
            each = min(_BATCH, -(-len(users) // (self.threads or os.cpu_count() or 1)))
            items, scores = self.inner.search_batched_parallel(users, asked, asked, leaves, each)
        # Behind the end of a row stands item 0 with a score that is not a number.
        return np.where(np.isnan(scores), -1, items.astype(np.int64))

    def multiply_adds(self, users: Float32, keep: int) -> float:
        """For one user: the leaves' centroids, the table of codes and the items of the leaves that
        are visited, counted for up to 32 of `users [B, d]`.
        """
        num_rows, dim = self.size
        chosen = np.unique(np.linspace(0, len(users) - 1, _COUNTED).astype(np.int64))
        visited = [(self._ask(users[row : row + 1], num_rows) >= 0).sum() for row in chosen]
        each, once = self.kind.work_of(dim)
        return float(self.limit * dim + np.mean(visited) * each + once)

    def save(self, folder: Path) -> str:
        """Writes the files of ScaNN into a folder of their own."""
        (folder / FOLDER).mkdir()
        self.inner.serialize(str(folder / FOLDER), relative_path=True)
        return f"{FOLDER}/{FILE}"


def build_scann(
    read: Callable[[Any], Float32], num_rows: int, kind: Kind, *, threads: int | None = None
) -> ScannIndex:
    """An index that visits one leaf; `kinds.tune` raises that.

    ScaNN takes all rows at once: 4 bytes a coordinate are held while it is built. It draws its
    first centroids anew each time: two builds find about the same, not the very same.

    Args:
        read: `[n, d]` of the rows that a slice or an array chooses; called block by block.
        num_rows: N.
        kind: of ScaNN.
        threads: None: all cores.

    Raises:
        InstallationError: ScaNN is not installed.
        DataError: too few rows for 4-bit codes, or ScaNN cannot build it.
    """
    scann = import_scann()
    if num_rows < _FEWEST:
        raise DataError(
            f"index {kind.name!r} learns {_FEWEST} centroids, {num_rows} items are too few; "
            "choose flat"
        )
    vectors = np.empty((num_rows, read(slice(0, 1)).shape[1]), np.float32)
    with progress() as bar:
        task = bar.add_task(f"read vectors for {kind.name}", total=num_rows)
        for rows in blocks_of(num_rows):
            vectors[rows] = read(rows)
            bar.advance(task, rows.stop - rows.start)
    builder = scann.builder(vectors, 10, "dot_product").tree(
        num_lists_for(num_rows), 1, spherical=True, training_sample_size=_TRAINED_ON
    )
    builder = builder.score_ah(
        vectors.shape[1] // kind.parts,
        anisotropic_quantization_threshold=_THRESHOLD,
        training_sample_size=_TRAINED_ON,
    )
    try:
        inner = builder.set_n_training_threads(threads or os.cpu_count() or 1).build()
    except (RuntimeError, ValueError) as error:
        raise DataError(
            f"index {kind.name!r} of {num_rows} items cannot be built by ScaNN ({error}); "
            "choose another, like ivf,pqx4"
        ) from error
    return ScannIndex(kind, inner, {"leaves": 1}, threads)


def load_scann(
    path: Path, kind: Kind, search: dict[str, int], *, threads: int | None = None
) -> ScannIndex:
    """Reads what `ScannIndex.save` wrote, and nothing else: no pickle, no file elsewhere.

    Raises:
        InstallationError: ScaNN is not installed.
        DataError: the folder holds or names other files, or ScaNN cannot read it.
    """
    scann, folder = import_scann(), path.parent
    for name in (*_ASSETS.values(), "scann_config.pb", FILE):
        inside(folder, name)
    try:
        text = path.read_text(encoding="ascii")
        if (
            path.name != FILE
            or _WRITTEN.sub("", text)
            or dict(_WRITTEN.findall(text)) != _ASSETS
            or (folder / "scann_docids.pkl").exists()
        ):
            raise DataError(
                f"{folder} holds or names other files than recsys writes; do not use it"
            )
        inner = scann.load_searcher(str(folder), assets_backcompat_shim=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{folder} cannot be read by ScaNN ({error}); export it again") from error
    return ScannIndex(kind, inner, dict(search), threads)


def import_scann() -> Any:
    """ScaNN's module of searchers.

    Raises:
        InstallationError: it is not installed.
    """
    with extra("scann"):
        from scann.scann_ops.py import scann_ops_pybind
    return scann_ops_pybind
