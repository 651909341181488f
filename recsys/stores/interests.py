"""Users of several vectors in stores that take one vector a query: as many queries, one merge.

Exact as far as each query is: whatever is among the best K by its best interest is among the best K
of that interest's own list.

Shape legend: B users, I interests of a user, D coordinates, K length of the lists, n listed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.arrays import Float32
from recsys.retrieval.filters import Filters, rows_of
from recsys.retrieval.funnel import Candidates, Funnel
from recsys.retrieval.interests import interests_in, lengths_of
from recsys.stores.store import Answering, Hits, ItemId, Query, Version


def asked_vectors(user: Float32, full: int, metric: str) -> Float32:
    """`[I, D]` what a store is asked for one user, `[D]` or `[I, D]`.

    Of several interests each is taken of length 1 in its first `full` coordinates where the
    bundle's metric is cosine, so that their scores can be compared; a single one goes as it is.
    """
    if user.ndim == 1:
        return user[None]
    return user / lengths_of(user[:, :full]) if metric == "cosine" else user


def ask(
    store: Answering, version: Version, user: Float32, excluded: Sequence[ItemId], k: int
) -> Hits:
    """The best `k` items of a user `[D]` or `[I, D]`: a query for each vector, and their merge."""
    plan = version.plan
    vectors = asked_vectors(user, plan.full, plan.metric)
    lists = [store.search(version, Query(vector, excluded), k) for vector in vectors]
    return lists[0] if len(lists) == 1 else merged(lists, k)


def scores_for(store: Answering, version: Version, user: Float32, items: Sequence[ItemId]) -> Hits:
    """Scores of given items for a user `[D]` or `[I, D]`, likewise."""
    plan = version.plan
    vectors = asked_vectors(user, plan.full, plan.metric)
    lists = [store.rank(version, Query(vector, items), items) for vector in vectors]
    return lists[0] if len(lists) == 1 else merged(lists, len(items))


def merged(lists: Sequence[Hits], k: int) -> Hits:
    """The best `k` of several lists, each item once with its best score."""
    best: dict[ItemId, float] = {}
    for item, score in (hit for hits in lists for hit in hits):
        best[item] = max(score, best.get(item, score))
    return sorted(best.items(), key=lambda hit: -hit[1])[:k]


def searched_apart(funnel: Funnel, users: Float32, filters: Filters, metric: str) -> Candidates:
    """What a funnel finds where every vector is a query of its own, as a store is asked.

    A funnel that is given `users [B, I, D]` keeps fewer candidates of each interest: the best of
    all of them together. So its lists may be others than a store's.
    """
    if users.ndim == 2:
        return funnel.search(users, filters=filters)
    full, count = funnel.stages[-1].granularity, interests_in(users)
    asked = users / lengths_of(users[:, :, :full]) if metric == "cosine" else users
    owners = np.repeat(np.arange(len(users)), count)
    found = funnel.search(asked.reshape(-1, asked.shape[2]), filters=rows_of(filters, owners))
    items = found.items.reshape(len(users), -1)
    scores = found.scores.reshape(len(users), -1)
    rows, order = np.arange(len(users))[:, None], np.lexsort((items, -scores), axis=1)
    items, scores = items[rows, order], scores[rows, order]
    earlier = np.tril(items[:, :, None] == items[:, None, :], -1).any(axis=2)
    gone = earlier | (items < 0)
    order = np.argsort(gone, axis=1, kind="stable")[:, : found.items.shape[1]]
    kept = ~gone[rows, order]
    return Candidates(
        np.where(kept, items[rows, order], -1),
        np.where(kept, scores[rows, order], -np.inf).astype(np.float32),
        found.widths[::count],
    )
