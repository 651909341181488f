"""OpenSearch and Elasticsearch: a mapping, bulk files, the query, and the move of the alias."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from recsys.stores.feeds.feed_folder import FeedFolder, each_row
from recsys.stores.plan import Plan, Rows
from recsys.stores.store import Version

LOAD = """With ENGINE as the address of the server:
  curl -XPUT ENGINE/{version} -H 'Content-Type: application/json' -d @index.json
  for part in feed-*.ndjson; do
    curl -XPOST ENGINE/{version}/_bulk -H 'Content-Type: application/x-ndjson' --data-binary @$part
  done
  curl -XPOST ENGINE/{version}/_refresh
  curl ENGINE/{version}/_count      # {count} documents? Only then:
  curl -XPOST ENGINE/_aliases -H 'Content-Type: application/json' -d @alias.json
  curl ENGINE/{alias}/_search -H 'Content-Type: application/json' -d @query.json
The scores of a search are s + 1 where the dot product s is not negative, else 1 / (1 - s).
"""


# --8<-- [start:opensearch]
def opensearch_query(plan: Plan) -> dict[str, Any]:
    """The body of a search request; the two vectors and the items that were seen are filled in."""
    left = {"bool": {"must_not": {"terms": {"item_id": ["SEEN"]}}}}
    if plan.index == "exact":
        candidates = {"script_score": {"query": left, "script": _knn("prefix", plan.prefix)}}
    else:
        found = {"vector": [0.0] * plan.prefix, "k": plan.keep, "filter": left}
        candidates = {"knn": {"prefix": found}}
    ranked = {"script_score": {"query": {"match_all": {}}, "script": _knn("full", plan.full)}}
    return _rescored(plan, candidates, ranked)


def _knn(field: str, size: int) -> dict[str, Any]:
    values = {"field": field, "query_value": [0.0] * size, "space_type": "innerproduct"}
    return {"source": "knn_score", "lang": "knn", "params": values}


# --8<-- [end:opensearch]


# --8<-- [start:elasticsearch]
def elasticsearch_query(plan: Plan) -> dict[str, Any]:
    """The body of a search request; the two vectors and the items that were seen are filled in."""
    found = {
        "field": "prefix",
        "query_vector": [0.0] * plan.prefix,
        "k": plan.keep,
        "num_candidates": min(10_000, 2 * plan.keep),
        "filter": {"bool": {"must_not": {"terms": {"item_id": ["SEEN"]}}}},
    }
    script = {
        "source": "double s = dotProduct(params.user, 'full'); return s < 0 ? 1 / (1 - s) : s + 1",
        "params": {"user": [0.0] * plan.full},
    }
    ranked = {"script_score": {"query": {"match_all": {}}, "script": script}}
    return _rescored(plan, {"knn": found}, ranked)


# --8<-- [end:elasticsearch]


def _rescored(plan: Plan, candidates: Any, ranked: Any) -> dict[str, Any]:
    second = {"rescore_query": ranked, "query_weight": 0, "rescore_query_weight": 1}
    return {
        "size": 10,
        "_source": ["item_id"],
        "query": candidates,
        "rescore": {"window_size": plan.keep, "query": second},
    }


def opensearch_index(plan: Plan) -> dict[str, Any]:
    """Settings and mapping."""
    prefix: dict[str, Any] = {"type": "knn_vector", "dimension": plan.prefix}
    if plan.index == "hnsw":
        prefix["method"] = {"name": "hnsw", "engine": "lucene", "space_type": "innerproduct"}
    full = {"type": "knn_vector", "dimension": plan.full}
    # Without a graph over `full`, which is read for candidates alone.
    settings = {"index": {"knn": plan.index == "hnsw"}}
    if plan.index == "hnsw":
        full["index"] = False
    return {"settings": settings, "mappings": _mapping(plan, prefix, full)}


def elasticsearch_index(plan: Plan) -> dict[str, Any]:
    """Mapping."""
    kind = "hnsw" if plan.index == "hnsw" else "flat"
    prefix = {
        "type": "dense_vector",
        "dims": plan.prefix,
        "similarity": "max_inner_product",
        "index_options": {"type": kind},
    }
    full = {"type": "dense_vector", "dims": plan.full, "index": False}
    return {"mappings": _mapping(plan, prefix, full)}


def _mapping(plan: Plan, prefix: Any, full: Any) -> dict[str, Any]:
    kinds = {"Int64": "long", "Float64": "double", "Boolean": "boolean"}
    told = {name: {"type": kinds.get(str(plan.plain[name].dtype), "text")} for name in plan.columns}
    own = {
        "item_index": {"type": "integer"},
        "item_id": {"type": "long" if plan.integer_ids else "keyword"},
    }
    return {"properties": {**told, **own, "prefix": prefix, "full": full}}


class _Feed(FeedFolder):
    index: Callable[[Plan], dict[str, Any]]
    query: Callable[[Plan], dict[str, Any]]

    def __init__(self, location: str, name: str) -> None:
        super().__init__(location, name, "ndjson", self._files, _documents)

    def _files(self, alias: str, version: Version) -> dict[str, str]:
        plan, kind = version.plan, type(self)
        old = {"index": f"{alias}_v*", "alias": alias, "must_exist": False}
        new = {"index": version.name, "alias": alias}
        steps = {"actions": [{"remove": old}, {"add": new}]}
        files = {"index": kind.index(plan), "query": kind.query(plan), "alias": steps}
        texts = {f"{file}.json": json.dumps(tree, indent=1) + "\n" for file, tree in files.items()}
        count = f"{plan.num_items:,}"
        return {**texts, "LOAD.txt": LOAD.format(version=version.name, alias=alias, count=count)}


class OpenSearchFeed(_Feed):
    """`opensearch:FOLDER`: index, bulk files, query, alias."""

    index, query = staticmethod(opensearch_index), staticmethod(opensearch_query)


class ElasticsearchFeed(_Feed):
    """`elasticsearch:FOLDER`: index, bulk files, query, alias."""

    index, query = staticmethod(elasticsearch_index), staticmethod(elasticsearch_query)


def _documents(_version: Version, rows: Rows) -> Iterator[bytes]:
    for told, prefix, full in each_row(rows.items, rows):
        document = {**told, "prefix": prefix.tolist(), "full": full.tolist()}
        head = json.dumps({"index": {"_id": str(told["item_index"])}})
        yield f"{head}\n{json.dumps(document, ensure_ascii=False, default=str)}\n".encode()
