"""sqlite-vec: a table of items and a virtual table of vectors, in a database file for each version.

sqlite-vec knows no dot product. Every vector gets one more coordinate, which brings all of them to
the length of the longest. A user has 0 there. Then the cosine of the two ranks as the dot product
does, and is the dot product when it is multiplied by both lengths. The prefix gets such a
coordinate, too, by the length of the longest prefix.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from recsys.arrays import Float32
from recsys.extras import extra
from recsys.stores.files.version_folders import InFolders, VersionFolders
from recsys.stores.plan import Plan, Rows, quoted
from recsys.stores.store import Hits, ItemId, Query, Version

FILE = "items.db"
_MOST = 4096
"""Neighbours that sqlite-vec finds at most."""

# --8<-- [start:query]
FOUND = """
  SELECT item_index, distance FROM vectors WHERE prefix MATCH :prefix AND k = :keep_and_seen
"""
TWO_STAGES = """
WITH found AS MATERIALIZED ({found}),
candidates AS MATERIALIZED (
  SELECT item_index FROM found JOIN items USING (item_index)
  WHERE item_id NOT IN (SELECT value FROM json_each(:seen))
  ORDER BY distance, item_index
  LIMIT :keep
)
SELECT item_id, (1 - distance) * :lengths AS score
FROM vectors JOIN items USING (item_index)
WHERE "full" MATCH :full AND k = :k AND item_index IN (SELECT item_index FROM candidates)
ORDER BY score DESC, item_index
"""


def parameters(user: Float32, seen: Sequence[ItemId], plan: Plan, k: int) -> dict[str, Any]:
    """Values for the statement; a user's added coordinate is 0."""
    prefix, full = (np.append(user[:size], np.float32(0)) for size in (plan.prefix, plan.full))
    return {
        "prefix": prefix.tobytes(),
        "full": full.tobytes(),
        "seen": json.dumps(list(seen)),
        "keep": plan.keep,
        "keep_and_seen": plan.keep + len(seen),
        "k": k,
        "lengths": float(np.linalg.norm(full)) * (plan.lengths[1] or 1),
    }


# --8<-- [end:query]

_SCANNED = """
  SELECT item_index, vec_distance_cosine(prefix, :prefix) AS distance FROM vectors
"""
_RANK = """
SELECT item_id, (1 - vec_distance_cosine("full", :full)) * :lengths
FROM vectors JOIN items USING (item_index)
WHERE item_index IN (
  SELECT item_index FROM items WHERE item_id IN (SELECT value FROM json_each(:items)))
"""


class SqliteStore(InFolders):
    """`sqlite-vec:FOLDER`: items.db in the folder of each version."""

    client: ClassVar[tuple[str, ...]] = ("apsw", "sqlite_vec")

    def __init__(self, location: str, name: str) -> None:
        with extra("sqlitevec"):
            import apsw
            import sqlite_vec
        self._apsw, self._extension = apsw, sqlite_vec.loadable_path()
        self.folders = VersionFolders(location, name)
        self._open: dict[str, Any] = {}

    def begin(self, version: Version) -> int:
        """See `Store`."""
        path = self.folders.begin(version.name, version.plan) / FILE
        database = self._connect(version.name, str(path))
        with database:
            for statement in _tables(version.plan):
                database.execute(statement)
        return self._count(version.name)

    def add(self, version: Version, rows: Rows) -> None:
        """One transaction."""
        plan, database = version.plan, self._open[version.name]
        items = plan.plain[rows.lo : rows.lo + len(rows.items)]
        numbers = items["item_index"].to_list()
        prefix = _of_length(rows.prefix, plan.lengths[0] or 1)
        full = _of_length(rows.full, plan.lengths[1] or 1)
        places = ", ".join("?" * items.width)
        with database:
            database.executemany(f"INSERT INTO items VALUES ({places})", items.rows())
            database.executemany(
                'INSERT INTO vectors (item_index, prefix, "full") VALUES (?, ?, ?)',
                (
                    (n, a.tobytes(), b.tobytes())
                    for n, a, b in zip(numbers, prefix, full, strict=True)
                ),
            )

    def finish(self, version: Version) -> int:
        """See `Store`."""
        return self._count(version.name)

    def drop(self, version: str) -> None:
        """See `Store`."""
        if version in self._open:
            self._open.pop(version).close()
        self.folders.drop(version)

    def close(self) -> None:
        """See `Store`."""
        for database in self._open.values():
            database.close()
        self._open.clear()
        self.folders.close()

    def search(self, version: Version, query: Query, k: int) -> Hits:
        """See `Answering`; beyond what sqlite-vec finds at once, every prefix is compared."""
        values = parameters(query.user, query.excluded, version.plan, k)
        found = FOUND if values["keep_and_seen"] <= _MOST else _SCANNED
        return self._ask(version, TWO_STAGES.format(found=found), values)

    def rank(self, version: Version, query: Query, items: Sequence[ItemId]) -> Hits:
        """See `Answering`."""
        values = parameters(query.user, (), version.plan, 1)
        return self._ask(version, _RANK, {**values, "items": json.dumps(list(items))})

    def _ask(self, version: Version, text: str, values: dict[str, Any]) -> Hits:
        if version.name not in self._open:
            self._connect(version.name, str(self.folders[version.name] / FILE))
        return list(self._open[version.name].execute(text, values))

    def _connect(self, version: str, path: str) -> Any:
        if version not in self._open:
            database = self._apsw.Connection(path)
            database.enable_load_extension(True)
            database.load_extension(self._extension)
            self._open[version] = database
        return self._open[version]

    def _count(self, version: str) -> int:
        (count,) = next(self._open[version].execute("SELECT count(*) FROM items"))
        return int(count)


def _tables(plan: Plan) -> tuple[str, str]:
    kinds = {"Int64": "INTEGER", "Float64": "REAL", "Boolean": "INTEGER"}
    told = "".join(
        f", {quoted(name)} {kinds.get(str(plan.plain[name].dtype), 'TEXT')}"
        for name in plan.columns
    )
    kind = "INTEGER" if plan.integer_ids else "TEXT"
    return (
        "CREATE TABLE IF NOT EXISTS items (item_index INTEGER PRIMARY KEY, "
        f"item_id {kind} UNIQUE NOT NULL{told})",
        "CREATE VIRTUAL TABLE IF NOT EXISTS vectors USING vec0(item_index INTEGER PRIMARY KEY, "
        f"prefix float[{plan.prefix + 1}] distance_metric=cosine, "
        f"full float[{plan.full + 1}] distance_metric=cosine)",
    )


def _of_length(vectors: Float32, length: float) -> Float32:
    """`[n, d + 1]` vectors, all of this length."""
    squares = length**2 - np.sum(vectors.astype(np.float64) ** 2, axis=1)
    added = np.sqrt(np.maximum(squares, 0)).astype(np.float32)
    return np.concatenate([vectors, added[:, None]], axis=1)
