"""Milvus: a collection with two vector fields, asked twice."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from recsys.arrays import Float32
from recsys.errors import ConfigError
from recsys.extras import extra
from recsys.stores.plan import BATCH, Plan, Rows
from recsys.stores.store import Hits, ItemId, Query, Version, in_order

_ID_BYTES, _MOST = 65535, 16384


# --8<-- [start:query]
def listed(ids: Sequence[ItemId]) -> str:
    """Ids as Milvus has them in a filter."""
    return json.dumps(list(ids), ensure_ascii=False)


def two_stages(
    client: Any,
    collection: str,
    user: Float32,
    seen: Sequence[ItemId],
    stages: tuple[int, int, int],
    k: int,
) -> Hits:
    """Items and their scores; stages are prefix, candidates, full: 32, 200, 256."""
    prefix, keep, full = stages
    (found,) = client.search(
        collection,
        data=[user[:prefix].tolist()],
        anns_field="prefix",
        limit=keep,
        filter=f"item_id not in {listed(seen)}" if len(seen) else "",
        search_params={"params": {"ef": 2 * keep}},
    )
    if not found:
        return []
    (ranked,) = client.search(
        collection,
        data=[user[:full].tolist()],
        anns_field="full",
        limit=k,
        filter=f"item_id in {listed([hit['item_id'] for hit in found])}",
        output_fields=["item_index"],
    )
    hits = sorted(ranked, key=lambda hit: (-hit["distance"], hit["entity"]["item_index"]))
    return [(hit["item_id"], hit["distance"]) for hit in hits]


# --8<-- [end:query]


class MilvusStore:
    """`milvus:http://localhost:19530`, or `milvus:FILE.db` for Milvus Lite.

    A token is taken from the environment: MILVUS_TOKEN.
    """

    client: ClassVar[tuple[str, ...]] = ("pymilvus", "milvus_lite")

    def __init__(self, location: str, name: str) -> None:
        with extra("milvus"):
            import pymilvus
        remote = location.startswith(("http://", "https://", "tcp://"))
        if not remote:
            if not location.endswith(".db"):
                raise ConfigError(f"milvus:{location} is no address and no file; name it FILE.db")
            with extra("milvus"):
                import milvus_lite  # noqa: F401
            Path(location).absolute().parent.mkdir(parents=True, exist_ok=True)
        self._milvus: Any = pymilvus
        self._remote = remote
        token = os.environ.get("MILVUS_TOKEN", "") if remote else ""
        self._client: Any = pymilvus.MilvusClient(location, token=token)
        self._name, self._loaded = name, set[str]()

    def versions(self) -> list[str]:
        """See `Store`."""
        return in_order(self._name, self._client.list_collections())

    def current(self) -> str | None:
        """See `Store`."""
        for version in self.versions():
            if self._name in self._client.list_aliases(version).get("aliases", ()):
                return version
        return None

    def begin(self, version: Version) -> int:
        """See `Store`."""
        plan = version.plan
        if plan.keep > _MOST:
            raise ConfigError(f"Milvus finds {_MOST} candidates at most, {plan.keep} are asked for")
        if not self._client.has_collection(version.name):
            self._create(version.name, plan)
        self._load(version)
        count = self._count(version.name)
        # A block that a kill broke into is written again.
        return count if count == plan.num_items else count - count % BATCH

    def add(self, version: Version, rows: Rows) -> None:
        """See `Store`; a row that is there is replaced."""
        data = rows.items.to_dicts()
        for told, prefix, full in zip(data, rows.prefix.tolist(), rows.full.tolist(), strict=True):
            told.update(prefix=prefix, full=full)
        self._client.upsert(version.name, data)

    def finish(self, version: Version) -> int:
        """See `Store`."""
        self._client.flush(version.name)
        return self._count(version.name)

    def switch(self, version: str) -> None:
        """See `Store`."""
        now = self.current()
        if now is None:
            self._client.create_alias(version, self._name)
        elif now != version:
            self._client.alter_alias(version, self._name)

    def drop(self, version: str) -> None:
        """See `Store`."""
        self._client.drop_collection(version)

    def close(self) -> None:
        """See `Store`."""
        self._client.close()

    def search(self, version: Version, query: Query, k: int) -> Hits:
        """See `Answering`."""
        plan = version.plan
        self._load(version)
        stages = plan.prefix, plan.keep, plan.full
        return two_stages(self._client, version.name, query.user, query.excluded, stages, k)

    def rank(self, version: Version, query: Query, items: Sequence[ItemId]) -> Hits:
        """See `Answering`."""
        if not items:
            return []
        self._load(version)
        (found,) = self._client.search(
            version.name,
            data=[query.user.tolist()],
            anns_field="full",
            limit=len(items),
            filter=f"item_id in {listed(items)}",
        )
        return [(hit["item_id"], hit["distance"]) for hit in found]

    def _load(self, version: Version) -> None:
        """Into the server's memory; Milvus Lite forgets it when its process ends.

        A kill may leave Milvus Lite with half of an index file, which it cannot read; its rows are
        elsewhere and complete, so that the indexes are made again.
        """
        if version.name in self._loaded:
            return
        try:
            self._client.load_collection(version.name)
        except self._milvus.MilvusException:
            if self._remote:
                raise
            for name in self._client.list_indexes(version.name):
                with suppress(self._milvus.MilvusException):  # the first call may drop them all
                    self._client.drop_index(version.name, name)
            self._client.create_index(version.name, self._indexes(version.plan))
            self._client.load_collection(version.name)
        self._loaded.add(version.name)

    def _count(self, version: str) -> int:
        # A strong count sees every acknowledged row.
        found = self._client.query(
            version, filter="", output_fields=["count(*)"], consistency_level="Strong"
        )
        return int(found[0]["count(*)"])

    def _create(self, name: str, plan: Plan) -> None:
        kinds = self._milvus.DataType
        card = json.dumps(plan.card())
        schema = self._client.create_schema(enable_dynamic_field=True, description=card)
        if plan.integer_ids:
            schema.add_field("item_id", kinds.INT64, is_primary=True)
        else:
            schema.add_field("item_id", kinds.VARCHAR, is_primary=True, max_length=_ID_BYTES)
        schema.add_field("item_index", kinds.INT64)
        schema.add_field("prefix", kinds.FLOAT_VECTOR, dim=plan.prefix)
        schema.add_field("full", kinds.FLOAT_VECTOR, dim=plan.full)
        self._client.create_collection(
            name, schema=schema, index_params=self._indexes(plan), consistency_level="Strong"
        )

    def _indexes(self, plan: Plan) -> Any:
        indexes = self._client.prepare_index_params()
        graph = {"M": 32, "efConstruction": 200} if plan.index == "hnsw" else {}
        kind = "HNSW" if graph else "FLAT"
        indexes.add_index("prefix", index_type=kind, metric_type="IP", params=graph)
        indexes.add_index("full", index_type="FLAT", metric_type="IP")
        return indexes
