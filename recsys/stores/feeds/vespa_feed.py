"""Vespa: a schema with a ranking profile of two phases, and documents as JSON lines.

Vespa has no aliases. Every version is a schema of its own; the query names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from recsys.stores.feeds.feed_folder import FeedFolder, each_row
from recsys.stores.plan import Plan, Rows
from recsys.stores.store import Version

SCHEMA = """schema {version} {{
  document {version} {{
    field item_index type int {{ indexing: attribute | summary }}
    field item_id type {kind} {{ indexing: attribute | summary  attribute: fast-search }}
{columns}    field prefix type tensor<float>(x[{d}]) {{
      indexing: attribute{index}
      attribute {{ distance-metric: dotproduct }}
    }}
    field full type tensor<float>(x[{D}]) {{ indexing: attribute }}
  }}
  rank-profile two_stages {{
    inputs {{
      query(prefix) tensor<float>(x[{d}])
      query(full) tensor<float>(x[{D}])
    }}
    first-phase {{ expression: sum(query(prefix) * attribute(prefix)) }}
    second-phase {{
      expression: sum(query(full) * attribute(full))
      rerank-count: {keep}
    }}
  }}
}}
"""

LOAD = """Add the schema {version}.sd to the application package, and to services.xml:
  <document type="{version}" mode="index" />
then deploy, feed and ask by the new name:
  vespa deploy && cat feed-*.jsonl | vespa feed -
  vespa query "$(cat query.json)"
The old schema and its documents stay until they are taken out of the package.
"""


class VespaFeed(FeedFolder):
    """`vespa:FOLDER`: schema, feed and query."""

    def __init__(self, location: str, name: str) -> None:
        super().__init__(location, name, "jsonl", _texts, _documents)


# --8<-- [start:query]
def query(plan: Plan, version: str) -> dict[str, object]:
    """The body of a search request; the two vectors and the items that were seen are filled in."""
    exact = ", approximate: false" if plan.index == "exact" else ""
    return {
        "yql": f"select item_id from {version} where "
        f"{{targetHits: {plan.keep}{exact}}}nearestNeighbor(prefix, prefix) "
        'and !(item_id in ("SEEN", "SEEN"))',
        "input.query(prefix)": [0.0] * plan.prefix,
        "input.query(full)": [0.0] * plan.full,
        "ranking.profile": "two_stages",
        "hits": 10,
    }


# --8<-- [end:query]


def _texts(_alias: str, version: Version) -> dict[str, str]:
    plan = version.plan
    kinds = {"Int64": "long", "Float64": "double", "Boolean": "bool"}
    columns = "".join(
        f"    field {name} type {kinds.get(str(plan.plain[name].dtype), 'string')} "
        "{ indexing: summary }\n"
        for name in plan.columns
    )
    schema = SCHEMA.format(
        version=version.name,
        kind="long" if plan.integer_ids else "string",
        columns=columns,
        index=" | index" if plan.index == "hnsw" else "",
        d=plan.prefix,
        D=plan.full,
        keep=plan.keep,
    )
    asked = query(plan, version.name)
    return {
        f"{version.name}.sd": schema,
        "query.json": json.dumps(asked, indent=1) + "\n",
        "LOAD.txt": LOAD.format(version=version.name),
    }


def _documents(version: Version, rows: Rows) -> Iterator[bytes]:
    plain = version.plan.plain[rows.lo : rows.lo + len(rows.items)]
    for fields, prefix, full in each_row(plain, rows):
        known = {name: value for name, value in fields.items() if value is not None}
        known |= {"prefix": prefix.tolist(), "full": full.tolist()}
        put = f"id:recsys:{version.name}::{fields['item_index']}"
        yield json.dumps({"put": put, "fields": known}, ensure_ascii=False).encode() + b"\n"
