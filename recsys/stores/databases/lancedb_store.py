"""LanceDB: a table with two vector columns, in a folder or an object store.

LanceDB has no aliases. The table NAME_current has one row, with the name of the current version.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from recsys.arrays import Float32
from recsys.extras import extra
from recsys.stores.databases.duckdb_store import arrow_of
from recsys.stores.plan import Rows
from recsys.stores.store import Hits, ItemId, Query, Version, in_order


# --8<-- [start:query]
def listed(ids: Iterable[ItemId]) -> str:
    """Ids as SQL has them."""
    shown = (str(i) if isinstance(i, int) else "'" + i.replace("'", "''") + "'" for i in ids)
    return f"({', '.join(shown)})"


def two_stages(
    table: Any, user: Float32, seen: Sequence[ItemId], sizes: tuple[int, int], keep: int, k: int
) -> Hits:
    """Items and their scores; LanceDB gives 1 - dot product as the distance."""
    first = table.search(user[: sizes[0]], vector_column_name="prefix").distance_type("dot")
    if seen:
        first = first.where(f"item_id NOT IN {listed(seen)}", prefilter=True)
    found = first.limit(keep).select(["item_id", "_distance"]).to_list()
    if not found:
        return []
    second = table.search(user[: sizes[1]], vector_column_name="full").distance_type("dot")
    second = second.where(f"item_id IN {listed(row['item_id'] for row in found)}", prefilter=True)
    rows = second.limit(k).select(["item_id", "item_index", "_distance"]).to_list()
    rows.sort(key=lambda row: (row["_distance"], row["item_index"]))
    return [(row["item_id"], 1 - row["_distance"]) for row in rows]


# --8<-- [end:query]


class LanceStore:
    """`lancedb:FOLDER` or any address that LanceDB connects to."""

    client: ClassVar[tuple[str, ...]] = ("lancedb", "lance", "pyarrow")

    def __init__(self, location: str, name: str) -> None:
        with extra("lancedb"):
            import lancedb
        self._database = lancedb.connect(location)
        self._name, self._pointer = name, f"{name}_current"

    def versions(self) -> list[str]:
        """See `Store`."""
        return in_order(self._name, self._tables())

    def current(self) -> str | None:
        """See `Store`."""
        if self._pointer not in self._tables():
            return None
        rows = self._database.open_table(self._pointer).to_arrow().to_pylist()
        return str(rows[0]["version"]) if rows else None

    def begin(self, version: Version) -> int:
        """See `Store`."""
        plan = version.plan
        none = np.zeros((0, plan.prefix), np.float32), np.zeros((0, plan.full), np.float32)
        schema = arrow_of(plan, Rows(0, plan.items[:0], *none)).schema
        if version.name not in self._tables():
            self._database.create_table(version.name, schema=schema, exist_ok=True)
        return int(self._table(version).count_rows())

    def add(self, version: Version, rows: Rows) -> None:
        """One commit."""
        self._table(version).add(arrow_of(version.plan, rows))

    def finish(self, version: Version) -> int:
        """Joins the pieces that were added, and builds the graph where one is wanted."""
        table = self._table(version)
        table.optimize()
        if version.plan.index == "hnsw" and not table.list_indices():
            from lancedb.index import HnswSq

            table.create_index("prefix", config=HnswSq(distance_type="dot"))
        return int(table.count_rows())

    def switch(self, version: str) -> None:
        """One commit."""
        self._database.create_table(
            self._pointer, pa.table({"version": [version]}), mode="overwrite"
        )

    def drop(self, version: str) -> None:
        """See `Store`."""
        if version in self._tables():
            self._database.drop_table(version)

    def close(self) -> None:
        """Nothing is held."""

    def search(self, version: Version, query: Query, k: int) -> Hits:
        """See `Answering`."""
        plan = version.plan
        sizes = plan.prefix, plan.full
        return two_stages(self._table(version), query.user, query.excluded, sizes, plan.keep, k)

    def rank(self, version: Version, query: Query, items: Sequence[ItemId]) -> Hits:
        """See `Answering`."""
        if not items:
            return []
        search = self._table(version).search(query.user, vector_column_name="full")
        search = search.distance_type("dot").where(f"item_id IN {listed(items)}", prefilter=True)
        rows = search.limit(len(items)).select(["item_id", "_distance"]).to_list()
        return [(row["item_id"], 1 - row["_distance"]) for row in rows]

    def _table(self, version: Version) -> Any:
        return self._database.open_table(version.name)

    def _tables(self) -> list[str]:
        page = self._database.list_tables()
        found = list(page.tables)
        while page.page_token:
            page = self._database.list_tables(page_token=page.page_token)
            found += page.tables
        return found
