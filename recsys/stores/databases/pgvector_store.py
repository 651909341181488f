"""pgvector: a table of PostgreSQL with two vector columns, and a view that leads to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

from recsys.errors import BusyError, StoreError
from recsys.extras import extra
from recsys.stores.plan import Plan, Rows, quoted
from recsys.stores.store import Hits, ItemId, Query, Version, in_order, without_password

# --8<-- [start:query]
SETTINGS = """
SET hnsw.ef_search = {ef};
SET hnsw.iterative_scan = strict_order
"""
TWO_STAGES = """
SELECT item_id, -("full" <#> %(full)s::vector) AS score
FROM (
  SELECT item_index, item_id, "full" FROM {items}
  WHERE item_id <> ALL (%(seen)s)
  ORDER BY prefix <#> %(prefix)s::vector  -- the negative dot product
  LIMIT %(keep)s
) AS candidates
ORDER BY "full" <#> %(full)s::vector, item_index
LIMIT %(k)s
"""
# --8<-- [end:query]

_RANK = """
SELECT item_id, -("full" <#> %(full)s::vector) FROM {items} WHERE item_id = ANY (%(items)s)
"""
_MOST_EF = 1000


class PgvectorStore:
    """`pgvector:postgresql://user@host/database`; PostgreSQL's own variables (PGPASSWORD) count."""

    client: ClassVar[tuple[str, ...]] = ("psycopg",)

    def __init__(self, location: str, name: str) -> None:
        with extra("pgvector"):
            import psycopg
        self._errors = psycopg.errors
        self._name = name
        self._connection: Any = psycopg.connect(location, autocommit=True)
        held = self._one("SELECT pg_try_advisory_lock(hashtext(%s))", f"recsys {name}")
        if not held:
            self._connection.close()
            raise BusyError(
                f"{without_password(location)} is written by another push of {name}; wait for it"
            )
        with suppress(self._errors.UniqueViolation):  # two pushes at once
            self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")

    def versions(self) -> list[str]:
        """See `Store`."""
        rows = self._connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        )
        return in_order(self._name, [row[0] for row in rows])

    def current(self) -> str | None:
        """See `Store`."""
        # What the view reads, as PostgreSQL itself notes it.
        rows = self._connection.execute(
            "SELECT DISTINCT source.relname FROM pg_rewrite rule "
            "JOIN pg_depend used ON used.objid = rule.oid "
            "AND used.refclassid = 'pg_class'::regclass "
            "JOIN pg_class source ON source.oid = used.refobjid AND source.relkind = 'r' "
            "WHERE rule.ev_class = to_regclass(%s)",
            [self._name],
        )
        found = in_order(self._name, [row[0] for row in rows])
        return found[0] if found else None

    def begin(self, version: Version) -> int:
        """See `Store`."""
        with self._connection.transaction():
            self._connection.execute(_table(version.name, version.plan))
            card = json.dumps(version.plan.card()).replace("'", "''")
            self._connection.execute(f"COMMENT ON TABLE {version.name} IS '{card}'")
        return self._count(version.name)

    def add(self, version: Version, rows: Rows) -> None:
        """One COPY, one transaction."""
        items = version.plan.plain[rows.lo : rows.lo + len(rows.items)].rows()
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY {version.name} FROM STDIN") as copy,
        ):
            vectors = zip(rows.prefix.tolist(), rows.full.tolist(), strict=True)
            for told, (prefix, full) in zip(items, vectors, strict=True):
                copy.write_row((*told, str(prefix), str(full)))

    def finish(self, version: Version) -> int:
        """Builds the graph, where one is wanted, and counts for the planner."""
        name = version.name
        if version.plan.index == "hnsw":
            self._connection.execute(
                f"CREATE INDEX IF NOT EXISTS {name}_graph ON {name} "
                "USING hnsw (prefix vector_ip_ops)"
            )
        self._connection.execute(f"ANALYZE {name}")
        return self._count(name)

    def switch(self, version: str) -> None:
        """One transaction. Grants on the view stay where its columns do."""
        made = f"VIEW {self._name} AS SELECT * FROM {version}"
        with self._connection.transaction():
            try:
                with self._connection.transaction():
                    self._connection.execute(f"CREATE OR REPLACE {made}")
            except self._errors.InvalidTableDefinition:  # other columns than before
                self._connection.execute(f"DROP VIEW {self._name}")
                self._connection.execute(f"CREATE {made}")
            except self._errors.WrongObjectType as error:
                raise StoreError(
                    f"{self._name} is a table here, and it is to be a view of the current version; "
                    "rename the table, or push under another --name"
                ) from error

    def drop(self, version: str) -> None:
        """See `Store`."""
        self._connection.execute(f"DROP TABLE IF EXISTS {version}")

    def close(self) -> None:
        """See `Store`."""
        self._connection.close()

    def search(self, version: Version, query: Query, k: int) -> Hits:
        """See `Answering`."""
        plan = version.plan
        if plan.index == "hnsw":
            self._connection.execute(SETTINGS.format(ef=min(_MOST_EF, 2 * plan.keep)))
        values = {
            "prefix": str(query.user[: plan.prefix].tolist()),
            "full": str(query.user[: plan.full].tolist()),
            "seen": list(query.excluded),
            "keep": plan.keep,
            "k": k,
        }
        return self._ask(TWO_STAGES, version, values)

    def rank(self, version: Version, query: Query, items: Sequence[ItemId]) -> Hits:
        """See `Answering`."""
        full = str(query.user[: version.plan.full].tolist())
        return self._ask(_RANK, version, {"full": full, "items": list(items)})

    def _ask(self, text: str, version: Version, values: dict[str, Any]) -> Hits:
        return list(self._connection.execute(text.format(items=version.name), values).fetchall())

    def _count(self, version: str) -> int:
        return int(self._one(f"SELECT count(*) FROM {version}"))

    def _one(self, text: str, *values: Any) -> Any:
        return self._connection.execute(text, values).fetchone()[0]


def _table(name: str, plan: Plan) -> str:
    kinds = {"Int64": "bigint", "Float64": "double precision", "Boolean": "boolean"}
    told = "".join(
        f"{quoted(column)} {kinds.get(str(plan.plain[column].dtype), 'text')}, "
        for column in plan.columns
    )
    kind = "bigint" if plan.integer_ids else "text"
    return (
        f"CREATE TABLE IF NOT EXISTS {name} (item_index integer PRIMARY KEY, "
        f"item_id {kind} UNIQUE NOT NULL, {told}"
        f'prefix vector({plan.prefix}), "full" vector({plan.full}))'
    )
