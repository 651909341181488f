"""Redis: commands that make an index, and hashes as Redis' own protocol for `redis-cli --pipe`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from recsys.arrays import Float32
from recsys.stores.feeds.feed_folder import FeedFolder, each_row
from recsys.stores.plan import Rows
from recsys.stores.store import Hits, ItemId, Version

LOAD = """redis-cli < index.redis
cat feed-*.resp | redis-cli --pipe
redis-cli FT.INFO {version}        # num_docs: {count}, and indexing: 0? Only then:
redis-cli FT.ALIASUPDATE {alias} {version}
An older version is removed by FT.DROPINDEX VERSION DD.
"""


# --8<-- [start:query]
def two_stages(
    client: Any,
    index: str,
    user: Float32,
    seen: Sequence[ItemId],
    stages: tuple[int, int, int],
    k: int,
) -> Hits:
    """Items and their scores; client: redis.Redis(); stages: 32, 200, 256."""
    prefix, keep, full = stages
    left = f"-@item_id:{{{_any(seen)}}}" if seen else "*"
    found = _nearest(client, index, left, "prefix", user[:prefix], keep)
    ranked = _nearest(
        client, index, f"@item_id:{{{_any([i for i, _ in found])}}}", "full", user[:full], k
    )
    return [(item, 1 - distance) for item, distance in ranked]  # Redis gives 1 - dot product


def _any(ids: Sequence[ItemId]) -> str:
    return "|".join(re.sub(r"([^A-Za-z0-9_])", r"\\\1", str(each)) for each in ids)


def _nearest(
    client: Any, index: str, among: str, field: str, vector: Float32, count: int
) -> list[tuple[str, float]]:
    query = f"({among})=>[KNN {count} @{field} $vector AS distance]"
    answer = client.execute_command(
        *("FT.SEARCH", index, query, "PARAMS", 2, "vector", vector.tobytes()),
        *("SORTBY", "distance", "RETURN", 2, "item_id", "distance"),
        *("LIMIT", 0, count, "DIALECT", 2),
    )
    rows = [dict(zip(row[::2], row[1::2], strict=True)) for row in answer[2::2]]
    return [(row[b"item_id"].decode(), float(row[b"distance"])) for row in rows]


# --8<-- [end:query]


class RedisFeed(FeedFolder):
    """`redis:FOLDER`: index.redis and feed files."""

    def __init__(self, location: str, name: str) -> None:
        super().__init__(location, name, "resp", _texts, _hashes)


def _texts(alias: str, version: Version) -> dict[str, str]:
    plan = version.plan
    kind = "HNSW" if plan.index == "hnsw" else "FLAT"
    parts = [
        f"FT.CREATE {version.name} ON HASH PREFIX 1 {version.name}: SCHEMA",
        "item_index NUMERIC SORTABLE item_id TAG CASESENSITIVE",
        f"prefix VECTOR {kind} 6 TYPE FLOAT32 DIM {plan.prefix} DISTANCE_METRIC IP",
        f"full VECTOR FLAT 6 TYPE FLOAT32 DIM {plan.full} DISTANCE_METRIC IP",
    ]
    told = LOAD.format(version=version.name, alias=alias, count=plan.num_items)
    return {"index.redis": " ".join(parts) + "\n", "LOAD.txt": told}


def _hashes(version: Version, rows: Rows) -> Iterator[bytes]:
    for told, prefix, full in each_row(rows.items, rows):
        fields: list[bytes] = []
        for name, value in told.items():
            if value is not None:
                text = value if isinstance(value, str) else json.dumps(value, default=str)
                fields += [name.encode(), text.encode()]
        fields += [b"prefix", _bytes(prefix), b"full", _bytes(full)]
        yield _command(b"HSET", f"{version.name}:{told['item_index']}".encode(), *fields)


def _bytes(vector: Float32) -> bytes:
    return np.ascontiguousarray(vector, "<f4").tobytes()


def _command(*words: bytes) -> bytes:
    """A command as an array of the protocol."""
    parts = (b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n" % len(words) + b"".join(parts)
