"""Clusters of items: communities of the interaction graph, k-means of vectors.

Graph: users and items are the nodes, an edge is a user who had an item. Modularity (Newman and
Girvan 2004) with a resolution is maximized by the Leiden algorithm (Traag et al. 2019) of igraph;
the higher the resolution, the more clusters. Bisection finds the most that fit (Wu et al.,
GraphHash: Modularity Clustering Enables Parameter Efficiency in Recommender Systems, WWW 2025, use
Louvain). Isolated nodes would be clusters of their own: they are spread over the others.

Shape legend: U users, N items, E edges, K clusters, D coordinates.
"""

from __future__ import annotations

import random
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from recsys.arrays import Int64
from recsys.extras import extra
from recsys.progress import progress

_STEPS = 12
"""Of bisection: the resolution is then known to one part in about four thousand."""
_HIGHEST = 1e5
_BLOCK = 1 << 14


def graph_clusters(
    users: Int64,
    items: Int64,
    num_users: int,
    num_items: int,
    *,
    num_clusters: int,
    of: Literal["items", "users"] = "items",
    seed: int = 0,
) -> Tensor:
    """The communities of one side of the interaction graph, as many as fit into `num_clusters`.

    Args:
        users: `[E]` user of each training interaction.
        items: `[E]` its item.
        num_users: U.
        num_items: N.
        num_clusters: K, at most.
        of: the side that is wanted.
        seed: of the algorithm, which visits nodes in random order.

    Returns:
        `[N]` or `[U]` int64 in 0..K-1.

    Raises:
        InstallationError: igraph is not installed.
    """
    igraph = _import_igraph()
    pairs = np.unique(np.stack([users, num_users + items], axis=1), axis=0)
    graph = igraph.Graph(n=num_users + num_items, edges=pairs)
    side = slice(0, num_users) if of == "users" else slice(num_users, None)
    connected = np.asarray(graph.degree())[side] > 0
    low, high = 0.0, np.log(_HIGHEST)
    best = np.zeros(len(connected), np.int64)
    with progress() as bar:
        task = bar.add_task(f"clusters of {of}", total=_STEPS)
        for _ in range(_STEPS):
            middle = (low + high) / 2
            found = _communities(graph, float(np.exp(middle)), seed)[side]
            names, own = np.unique(found[connected], return_inverse=True)
            if len(names) <= num_clusters:
                low = middle
                best[connected] = own
            else:
                high = middle
            bar.advance(task)
    count = int(best.max()) + 1
    alone = np.flatnonzero(~connected)
    best[alone] = np.random.default_rng(seed).integers(count, size=len(alone))
    return torch.from_numpy(best)


def _communities(graph: Any, resolution: float, seed: int) -> Int64:
    """`[U + N]` of the Leiden algorithm; Python's generator, which igraph uses, is restored."""
    before = random.getstate()
    random.seed(seed)
    try:
        found = graph.community_leiden(
            objective_function="modularity", resolution=resolution, n_iterations=4
        )
    finally:
        random.setstate(before)
    return np.asarray(found.membership, np.int64)


def _import_igraph() -> Any:
    with extra("cluster"):
        import igraph
    return igraph


def vector_clusters(
    vectors: Tensor, num_clusters: int, *, seed: int = 0, num_rounds: int = 20
) -> Tensor:
    """Spherical k-means (Dhillon and Modha 2001): the cluster of every row by cosine.

    A cluster that loses its last row starts again at the row that fits its own cluster worst.
    Memory and work are those of N K products, so K is for thousands, not for millions.

    Args:
        vectors: `[N, D]`; rows of zeros (absent features) go wherever the products say.
        num_clusters: K, at most N.
        seed: of the first centres, which are rows (k-means++).
        num_rounds: of assignment and averaging.

    Returns:
        `[N]` int64 in 0..K-1.
    """
    rows = torch.nn.functional.normalize(vectors.float(), dim=1)
    count = min(num_clusters, len(rows))
    centres = _spread(rows, count, seed)
    with progress() as bar:
        task = bar.add_task("clusters of vectors", total=num_rounds)
        for _ in range(num_rounds):
            fit, found = _nearest(rows, centres)
            sums = torch.zeros_like(centres).index_add_(0, found, rows)
            empty = torch.bincount(found, minlength=count) == 0
            sums[empty] = rows[fit.argsort()[: int(empty.sum())]]
            centres = torch.nn.functional.normalize(sums, dim=1)
            bar.advance(task)
    return _nearest(rows, centres)[1]


def _spread(rows: Tensor, count: int, seed: int) -> Tensor:
    """First centres far from each other: k-means++ (Arthur and Vassilvitskii, SODA 2007)."""
    generator = torch.Generator().manual_seed(seed)
    chosen = [int(torch.randint(len(rows), (1,), generator=generator))]
    fit = rows @ rows[chosen[0]]
    for _ in range(count - 1):
        far = (1.0 - fit).clamp_min(1e-12)
        chosen.append(int(torch.multinomial(far, 1, generator=generator)))
        fit = torch.maximum(fit, rows @ rows[chosen[-1]])
    return rows[chosen]


def _nearest(rows: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine with the best centre `[N]`, and which one that is `[N]`."""
    found = [(block @ centres.T).max(1) for block in rows.split(_BLOCK)]
    return torch.cat([each.values for each in found]), torch.cat([each.indices for each in found])
