"""Small bundles for tests."""

import numpy as np
import polars as pl

from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.writing import BundleSource, UserSource, write_bundle

TIERS = "0:8:int8:ram,8:16:fp16:ram,16:32:fp16:mmap"


def vectors(rows, dim=32, seed=0):
    """`[rows, dim]` whose first coordinates matter most."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, dim)) * np.geomspace(2, 0.2, dim)).astype(np.float32)


def source(num_items=300, num_users=20, dim=32, normalize=False, seed=0):
    rng = np.random.default_rng(seed + 1)
    lengths = rng.integers(1, 9, num_users)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    users = UserSource(
        vectors=vectors(num_users, dim, seed + 2),
        ids=pl.Series([f"u{i}" for i in range(num_users)]),
        seen_items=rng.integers(0, num_items, offsets[-1]).astype(np.int32),
        seen_offsets=offsets,
    )
    return BundleSource(
        items=vectors(num_items, dim, seed),
        item_ids=pl.Series([f"i{i}" for i in range(num_items)]),
        sizes=(4, 8, 16, 32),
        normalize=normalize,
        users=users,
    )


def write(shelf, tiers=TIERS, **options):
    made = source(**options)
    return write_bundle(shelf, made, parse_tiers(tiers, made.items.shape[1])), made
