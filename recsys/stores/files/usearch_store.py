"""USearch: an index of the prefixes, and the full vectors in a mapped file beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.extras import extra
from recsys.files.atomic import atomic_path
from recsys.progress import progress
from recsys.retrieval.codecs.base import blocks_of
from recsys.stores.files.row_files import ItemFile, RowFiles
from recsys.stores.files.version_folders import InFolders, VersionFolders
from recsys.stores.plan import Rows
from recsys.stores.store import Hits, ItemId, Query, Version

_BLOCK, _INDEX = 20_000, "prefix.usearch"


# --8<-- [start:query]
def two_stages(
    index: Any, full: Float32, user: Float32, seen: Int64, keep: int, k: int, exact: bool = True
) -> tuple[Int64, Float32]:
    """Items (rows of the files) and their scores; `seen` are rows, too."""
    # USearch filters nothing, so as many more are found as could be left out.
    found = index.search(user[: index.ndim], keep + len(seen), exact=exact).keys.astype(np.int64)
    candidates = found[~np.isin(found, seen)][:keep]
    scores = full[candidates] @ user
    best = np.lexsort((candidates, -scores))[:k]  # equal scores: the smaller row first
    return candidates[best], scores[best]


# --8<-- [end:query]


class UsearchStore(InFolders):
    """`usearch:FOLDER`: prefix.usearch, full.f32, items.parquet."""

    client: ClassVar[tuple[str, ...]] = ("usearch",)

    def __init__(self, location: str, name: str) -> None:
        with extra("usearch"):
            from usearch.index import Index
        self._index_class: Any = Index
        self.folders = VersionFolders(location, name)
        self._opened: dict[str, tuple[Any, Float32, ItemFile]] = {}

    def begin(self, version: Version) -> int:
        """See `Store`."""
        return RowFiles(self.folders.begin(version.name, version.plan), version.plan).count()

    def add(self, version: Version, rows: Rows) -> None:
        """See `Store`."""
        RowFiles(self.folders[version.name], version.plan).append(rows)

    def finish(self, version: Version) -> int:
        """Builds the index from the prefixes, unless it is there."""
        folder, plan = self.folders[version.name], version.plan
        prefix, full = RowFiles(folder, plan).mapped()
        ItemFile(folder).write(plan)
        if not (folder / _INDEX).is_file() and len(prefix) == plan.num_items:
            index = self._index_class(ndim=plan.prefix, metric="ip", dtype="f32")
            with progress() as bar:
                task = bar.add_task("building the index", total=len(prefix))
                for rows in blocks_of(len(prefix), _BLOCK):
                    index.add(np.arange(rows.start, rows.stop), np.array(prefix[rows]))
                    bar.advance(task, rows.stop - rows.start)
            with atomic_path(folder / _INDEX) as temporary:
                index.save(str(temporary))
        return len(full)

    def search(self, version: Version, query: Query, k: int) -> Hits:
        """See `Answering`."""
        (index, full, items), plan = self._open(version), version.plan
        seen = items.rows(query.excluded)
        exact = plan.index == "exact"
        return items.hits(*two_stages(index, full, query.user, seen, plan.keep, k, exact))

    def rank(self, version: Version, query: Query, items: Sequence[ItemId]) -> Hits:
        """See `Answering`."""
        _, full, file = self._open(version)
        rows = file.rows(items)
        return file.hits(rows, full[rows] @ query.user)

    def _open(self, version: Version) -> tuple[Any, Float32, ItemFile]:
        if version.name not in self._opened:
            folder, plan = self.folders[version.name], version.plan
            index = self._index_class.restore(str(folder / _INDEX), view=True)
            index.expansion_search = max(index.expansion_search, plan.keep)
            full = RowFiles(folder, plan).mapped()[1]
            self._opened[version.name] = index, full, ItemFile(folder)
        return self._opened[version.name]
