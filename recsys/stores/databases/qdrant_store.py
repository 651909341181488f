"""Qdrant: a collection with two named vectors, asked by one request with a prefetch."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from recsys.arrays import Float32
from recsys.errors import ConfigError
from recsys.extras import extra
from recsys.stores.plan import BATCH, Rows
from recsys.stores.store import Hits, ItemId, Query, Version, in_order

_WAIT = 0.5


# --8<-- [start:query]
def two_stages(
    client: Any,
    collection: str,
    user: Float32,
    seen: Sequence[ItemId],
    stages: tuple[int, int, int],
    k: int,
    params: Any = None,
) -> Hits:
    """Items and their scores, by one request.

    Args:
        client: a QdrantClient.
        collection: its name, or the alias.
        user: the user's vector.
        seen: ids that shall not be found.
        stages: prefix, candidates, full: 32, 200, 256.
        k: how many.
        params: models.SearchParams of the first stage: exact=True, or hnsw_ef=400.
    """
    from qdrant_client import models

    prefix, keep, full = stages
    had = models.FieldCondition(key="item_id", match=models.MatchAny(any=list(seen)))
    candidates = models.Prefetch(
        query=user[:prefix].tolist(),
        using="prefix",
        limit=keep,
        filter=models.Filter(must_not=[had]) if len(seen) else None,
        params=params,
    )
    found = client.query_points(
        collection,
        prefetch=candidates,
        query=user[:full].tolist(),
        using="full",
        limit=k,
        with_payload=["item_id"],
    )
    points = sorted(found.points, key=lambda point: (-point.score, point.id))
    return [(point.payload["item_id"], point.score) for point in points]


# --8<-- [end:query]


class QdrantStore:
    """`qdrant:http://localhost:6333`, `qdrant:FOLDER` or `qdrant::memory:`.

    A key is taken from the environment: QDRANT_API_KEY. FOLDER is the client's local mode, which
    syncs its file after every point: it is meant for trials.
    """

    client: ClassVar[tuple[str, ...]] = ("qdrant_client", "portalocker")

    def __init__(self, location: str, name: str) -> None:
        with extra("qdrant"):
            from qdrant_client import QdrantClient, models
        self._models: Any = models
        self._name, self._local = name, not location.startswith(("http://", "https://"))
        if location == ":memory:":
            self._client = QdrantClient(location)
        elif self._local:
            try:
                self._client = QdrantClient(path=location)
            except RuntimeError as error:
                raise ConfigError(
                    f"{location} is opened by another process ({error}); the local mode of Qdrant "
                    "serves one at a time"
                ) from error
        else:
            key = os.environ.get("QDRANT_API_KEY")
            self._client = QdrantClient(url=location, api_key=key, timeout=60)

    def versions(self) -> list[str]:
        """See `Store`."""
        found = self._client.get_collections().collections
        return in_order(self._name, [each.name for each in found])

    def current(self) -> str | None:
        """See `Store`."""
        aliases = self._client.get_aliases().aliases
        return next((a.collection_name for a in aliases if a.alias_name == self._name), None)

    def begin(self, version: Version) -> int:
        """See `Store`."""
        models, plan = self._models, version.plan
        if not self._client.collection_exists(version.name):
            dot = models.Distance.DOT
            self._client.create_collection(
                version.name,
                vectors_config={
                    "prefix": models.VectorParams(size=plan.prefix, distance=dot),
                    # It is read for candidates alone: no graph over it.
                    "full": models.VectorParams(
                        size=plan.full,
                        distance=dot,
                        on_disk=True,
                        hnsw_config=models.HnswConfigDiff(m=0),
                    ),
                },
                metadata=plan.card(),
            )
        if not self._local:  # the seen filter reads it
            kind = models.PayloadSchemaType
            schema = kind.INTEGER if plan.integer_ids else kind.KEYWORD
            self._client.create_payload_index(version.name, "item_id", schema, wait=True)
        count = self._client.count(version.name, exact=True).count
        # A block that a kill broke into is written again.
        return count if count == plan.num_items else count - count % BATCH

    def add(self, version: Version, rows: Rows) -> None:
        """See `Store`."""
        names = [name for name in rows.items.columns if name != "item_index"]
        self._client.upsert(
            version.name,
            points=self._models.Batch(
                ids=rows.items["item_index"].to_list(),
                vectors={"prefix": rows.prefix.tolist(), "full": rows.full.tolist()},
                payloads=rows.items.select(names).to_dicts(),
            ),
            wait=True,
        )

    def finish(self, version: Version) -> int:
        """Waits until the server has built its graphs."""
        yellow = self._models.CollectionStatus.YELLOW
        while self._client.get_collection(version.name).status == yellow:
            time.sleep(_WAIT)
        return int(self._client.count(version.name, exact=True).count)

    def switch(self, version: str) -> None:
        """One request, which is one step for readers."""
        models, steps = self._models, []
        if self.current() is not None:
            gone = models.DeleteAlias(alias_name=self._name)
            steps.append(models.DeleteAliasOperation(delete_alias=gone))
        made = models.CreateAlias(collection_name=version, alias_name=self._name)
        steps.append(models.CreateAliasOperation(create_alias=made))
        self._client.update_collection_aliases(steps)

    def drop(self, version: str) -> None:
        """See `Store`."""
        self._client.delete_collection(version)

    def close(self) -> None:
        """See `Store`."""
        self._client.close()

    def search(self, version: Version, query: Query, k: int) -> Hits:
        """See `Answering`."""
        plan = version.plan
        stages = plan.prefix, plan.keep, plan.full
        params = None  # the local mode compares all
        if not self._local:
            exact = plan.index == "exact"
            params = self._models.SearchParams(
                exact=exact, hnsw_ef=None if exact else 2 * plan.keep
            )
        return two_stages(self._client, version.name, query.user, query.excluded, stages, k, params)

    def rank(self, version: Version, query: Query, items: Sequence[ItemId]) -> Hits:
        """See `Answering`."""
        if not items:
            return []
        models = self._models
        these = models.FieldCondition(key="item_id", match=models.MatchAny(any=list(items)))
        found = self._client.query_points(
            version.name,
            query=query.user.tolist(),
            using="full",
            query_filter=models.Filter(must=[these]),
            limit=len(items),
            with_payload=["item_id"],
        )
        points: list[Any] = found.points
        return [(point.payload["item_id"], point.score) for point in points]
