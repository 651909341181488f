"""Faiss: one index file that finds by the prefix and ranks by the full vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.files.atomic import atomic_path
from recsys.progress import progress
from recsys.retrieval.codecs.base import blocks_of
from recsys.retrieval.codecs.codebooks import faiss
from recsys.stores.files.row_files import ItemFile, RowFiles
from recsys.stores.files.version_folders import InFolders, VersionFolders
from recsys.stores.plan import Plan, Rows
from recsys.stores.store import Hits, ItemId, Query, Version

_BLOCK, _NEIGHBOURS, _INDEX = 20_000, 32, "index.faiss"


# --8<-- [start:query]
def two_stages(
    faiss: Any, index: Any, user: Float32, seen: Int64, keep: int, k: int
) -> tuple[Int64, Float32]:
    """Items (positions in the index) and their scores; `seen` are positions, too."""
    left = faiss.IDSelectorNot(faiss.IDSelectorBatch(seen)) if len(seen) else None
    base = faiss.downcast_index(faiss.downcast_index(index.base_index).index)
    if isinstance(base, faiss.IndexHNSW):
        first = faiss.SearchParametersHNSW(efSearch=2 * keep, sel=left)
    else:
        first = faiss.SearchParameters(sel=left)
    candidates = faiss.IndexRefineSearchParameters(
        k_factor=1.0, base_index_params=faiss.SearchParametersPreTransform(index_params=first)
    )
    scores, found = index.search(user[None], min(keep, index.ntotal), params=candidates)
    count = min(k, int((found[0] >= 0).sum()))
    return found[0][:count], scores[0][:count]


# --8<-- [end:query]


class FaissStore(InFolders):
    """`faiss:FOLDER`: index.faiss, items.parquet."""

    client: ClassVar[tuple[str, ...]] = ("faiss",)

    def __init__(self, location: str, name: str) -> None:
        self._faiss = faiss()
        self.folders = VersionFolders(location, name)
        self._opened: dict[str, tuple[Any, ItemFile]] = {}

    def begin(self, version: Version) -> int:
        """See `Store`."""
        folder = self.folders.begin(version.name, version.plan)
        if (folder / _INDEX).is_file():
            return version.plan.num_items
        return RowFiles(folder, version.plan).count()

    def add(self, version: Version, rows: Rows) -> None:
        """See `Store`."""
        RowFiles(self.folders[version.name], version.plan).append(rows)

    def finish(self, version: Version) -> int:
        """Builds the index, unless it is there; the vectors are in it, so their files go."""
        folder, plan = self.folders[version.name], version.plan
        ItemFile(folder).write(plan)
        files = RowFiles(folder, plan)
        if not (folder / _INDEX).is_file():
            if (count := files.count()) != plan.num_items:
                return count
            index = self._build(plan, *files.mapped())
            with atomic_path(folder / _INDEX) as temporary:
                self._faiss.write_index(index, str(temporary))
        files.remove()
        return int(self._index(folder).ntotal)

    def search(self, version: Version, query: Query, k: int) -> Hits:
        """See `Answering`."""
        index, items = self._open(version)
        seen, keep = items.rows(query.excluded), version.plan.keep
        return items.hits(*two_stages(self._faiss, index, query.user, seen, keep, k))

    def rank(self, version: Version, query: Query, items: Sequence[ItemId]) -> Hits:
        """See `Answering`."""
        index, file = self._open(version)
        rows = file.rows(items)
        return file.hits(rows, index.refine_index.reconstruct_batch(rows) @ query.user)

    def _build(self, plan: Plan, prefix: Float32, full: Float32) -> Any:
        """The prefixes and the full vectors go in apart: each may be divided by its own norm."""
        lib = self._faiss
        inner = lib.METRIC_INNER_PRODUCT
        short = (
            lib.IndexFlatIP(plan.prefix)
            if plan.index == "exact"
            else lib.IndexHNSWFlat(plan.prefix, _NEIGHBOURS, inner)
        )
        whole = lib.IndexFlatIP(plan.full)
        with progress() as bar:
            task = bar.add_task("building the index", total=len(full))
            for rows in blocks_of(len(full), _BLOCK):
                short.add(np.array(prefix[rows]))
                whole.add(np.array(full[rows]))
                bar.advance(task, rows.stop - rows.start)
        cut = lib.RemapDimensionsTransform(plan.full, plan.prefix, False)
        self._parts = (cut, short, whole)  # Faiss holds no references of its own
        self._base = lib.IndexPreTransform(cut, short)
        return lib.IndexRefine(self._base, whole)

    def _index(self, folder: Any) -> Any:
        return self._faiss.read_index(str(folder / _INDEX))

    def _open(self, version: Version) -> tuple[Any, ItemFile]:
        if version.name not in self._opened:
            folder = self.folders[version.name]
            self._opened[version.name] = self._index(folder), ItemFile(folder)
        return self._opened[version.name]
