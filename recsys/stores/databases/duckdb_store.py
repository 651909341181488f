"""DuckDB: a table with two array columns, in a database file for each version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pyarrow as pa

from recsys.extras import extra
from recsys.stores.files.version_folders import InFolders, VersionFolders
from recsys.stores.plan import Plan, Rows, quoted
from recsys.stores.store import Hits, ItemId, Query, Version

FILE = "items.duckdb"

# --8<-- [start:query]
TWO_STAGES = """
WITH candidates AS MATERIALIZED (
  SELECT item_index FROM items
  WHERE item_id NOT IN (SELECT unnest($seen))
  ORDER BY array_inner_product(prefix, $user[1:{d}]::FLOAT[{d}]) DESC, item_index
  LIMIT $keep
)
SELECT item_id, array_inner_product("full", $user[1:{D}]::FLOAT[{D}]) AS score
FROM items SEMI JOIN candidates USING (item_index)
ORDER BY score DESC, item_index
LIMIT $k
"""
# --8<-- [end:query]

RANK = """
SELECT item_id, array_inner_product("full", $user[1:{D}]::FLOAT[{D}]) AS score
FROM items WHERE item_id IN (SELECT unnest($items))
"""


class DuckStore(InFolders):
    """`duckdb:FOLDER`: items.duckdb in the folder of each version."""

    client: ClassVar[tuple[str, ...]] = ("duckdb", "_duckdb")

    def __init__(self, location: str, name: str) -> None:
        with extra("duckdb"):
            import duckdb
        self._duckdb = duckdb
        self.folders = VersionFolders(location, name)
        self._open: dict[str, Any] = {}

    def begin(self, version: Version) -> int:
        """See `Store`."""
        path = self.folders.begin(version.name, version.plan) / FILE
        self._open[version.name] = connection = self._duckdb.connect(str(path))
        connection.execute(_table(version.plan)).fetchall()
        return self._count(version.name)

    def add(self, version: Version, rows: Rows) -> None:
        """One statement, one transaction."""
        connection = self._open[version.name]
        connection.register("block", arrow_of(version.plan, rows))
        connection.execute("INSERT INTO items SELECT * FROM block").fetchall()
        connection.unregister("block")

    def finish(self, version: Version) -> int:
        """Puts all into the file itself, and lets readers open it."""
        count = self._count(version.name)
        self._open[version.name].execute("CHECKPOINT").fetchall()
        self._open.pop(version.name).close()
        return count

    def drop(self, version: str) -> None:
        """See `Store`."""
        if version in self._open:
            self._open.pop(version).close()
        self.folders.drop(version)

    def close(self) -> None:
        """See `Store`."""
        for connection in self._open.values():
            connection.close()
        self._open.clear()
        self.folders.close()

    def search(self, version: Version, query: Query, k: int) -> Hits:
        """See `Answering`."""
        own = {"seen": list(query.excluded), "keep": version.plan.keep, "k": k}
        return self._ask(version, TWO_STAGES, query, own)

    def rank(self, version: Version, query: Query, items: Sequence[ItemId]) -> Hits:
        """See `Answering`."""
        return self._ask(version, RANK, query, {"items": list(items)})

    def _ask(self, version: Version, text: str, query: Query, own: dict[str, Any]) -> Hits:
        if version.name not in self._open:
            path = self.folders[version.name] / FILE
            self._open[version.name] = self._duckdb.connect(str(path), read_only=True)
        plan = version.plan
        kind = "BIGINT[]" if plan.integer_ids else "VARCHAR[]"
        text = text.format(d=plan.prefix, D=plan.full)
        text = text.replace("unnest($seen)", f"unnest($seen::{kind})")
        answer = self._open[version.name].execute(text, {"user": query.user.tolist(), **own})
        return [(item, score) for item, score in answer.fetchall()]

    def _count(self, version: str) -> int:
        ((count,),) = self._open[version].execute("SELECT count(*) FROM items").fetchall()
        return int(count)


def _table(plan: Plan) -> str:
    kinds = {"Int64": "BIGINT", "Float64": "DOUBLE", "Boolean": "BOOLEAN"}
    told = "".join(
        f"{quoted(name)} {kinds.get(str(plan.plain[name].dtype), 'VARCHAR')}, "
        for name in plan.columns
    )
    kind = "BIGINT" if plan.integer_ids else "VARCHAR"
    return (
        f"CREATE TABLE IF NOT EXISTS items (item_index INTEGER, item_id {kind}, {told}"
        f'prefix FLOAT[{plan.prefix}], "full" FLOAT[{plan.full}])'
    )


def arrow_of(plan: Plan, rows: Rows) -> pa.Table:
    """Rows as an Arrow table: item_index, item_id, columns, prefix, full."""
    table = plan.plain[rows.lo : rows.lo + len(rows.items)].to_arrow()
    for name, block in (("prefix", rows.prefix), ("full", rows.full)):
        flat = pa.array(block.reshape(-1), pa.float32())
        table = table.append_column(name, pa.FixedSizeListArray.from_arrays(flat, block.shape[1]))
    return table
