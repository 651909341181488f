"""Small catalogues and indexes over them, each built once, for tests."""

from functools import cache

import numpy as np

from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.unwritten_tiers import InMemory
from recsys.retrieval.index.building import build_index, prefixes
from tests.retrieval.bundles import TIERS, vectors

N, SIZE = 700, 8
KINDS = [
    "flat", "flat,sq8", "flat,pq4", "flat,pqx4", "flat,rabitq", "ivf", "ivf,sq8", "ivf,pq4",
    "ivf,pqx4", "ivf,pq2x4", "ivf,rabitq", "hnsw", "hnsw,sq8", "opq,flat,pqx4", "opq,ivf,pqx4",
]  # fmt: skip


@cache
def catalogue(normalize, num_items=N):
    """Items of unequal norms in three tiers."""
    return InMemory(vectors(num_items), parse_tiers(TIERS, 32), (4, 8, 16, 32), normalize=normalize)


@cache
def _built(kind, normalize):
    index = build_index(catalogue(normalize), kind, SIZE, threads=1)
    return index, dict(index.search)


def built(kind, normalize=False, **search):
    """An index over 8 coordinates as it is built, or searched by another parameter."""
    index, start = _built(kind, normalize)
    index.search.update({**start, **search})
    return index


def widest(kind, normalize=False):
    """An index that visits all it has."""
    index = built(kind, normalize)
    index.search.update(dict.fromkeys(index.search, index.limit))
    return index


def users_of(count, seed=7, size=SIZE):
    return np.ascontiguousarray(vectors(count, 32, seed)[:, :size])


def exact(items, users, k):
    """`[B, k]` the best by their prefixes."""
    scores = users @ prefixes(items, users.shape[1]).T
    return np.argsort(-scores, axis=1)[:, :k]
