"""Ranking by scores that all users share, apart from a few items of each user.

The shared scores are ordered once. A user's list is made of what comes first in that order and of
the user's own items; a rank is a place in that order, corrected by the items that are scored
otherwise or hidden.

Shape legend: B users of a batch, M targets, N items, E own scores of a batch, K length of lists.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from recsys.arrays import Float32, Int32, Int64
from recsys.data.histories import Histories
from recsys.evaluation.metrics import MISS


class SharedScores:
    """Scores `[N]` shared by all users, sorted."""

    def __init__(self, scores: Float32) -> None:
        """Orders them: best first, equals by item index."""
        self.scores = scores
        self.order = np.argsort(-scores, kind="stable")
        self._ascending = scores[self.order[::-1]]

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.scores)

    def count(self, least: Float32) -> Int64:
        """`[M]` how many items have a shared score of at least that."""
        found: Int64 = self.num_items - np.searchsorted(self._ascending, least)
        return found


def rank_shared(
    shared: SharedScores, own: sp.csr_matrix, targets: Histories, hidden: Histories
) -> Int64:
    """Ranks `[M]` of targets: how many items that are not hidden are scored as high.

    Args:
        shared: what everyone's items are scored by.
        own: `[B, N]`: what is stored stands in the place of the shared score.
        targets: of B users.
        hidden: of B users, the items that are taken out.
    """
    num_items = shared.num_items
    scored = _keys(own.indptr.astype(np.int64), own.indices, num_items)
    order = np.argsort(scored)
    scored, values = scored[order], own.data[order]
    out = _distinct(_keys(hidden.offsets, hidden.items, num_items))
    wanted = _keys(targets.offsets, targets.items, num_items)
    least = _scores_of(wanted, scored, values, shared)
    ranks = shared.count(least)
    # Items that the shared order does not speak of: scored apart, or taken out.
    apart = _distinct(np.concatenate([scored, out]))
    ranks -= _reaching(apart, shared.scores[apart % num_items], wanted, least, num_items)
    shown = ~np.isin(scored, out)
    ranks += _reaching(scored[shown], values[shown], wanted, least, num_items)
    return np.where(np.isin(wanted, out) | (least == -np.inf), MISS, ranks)


def list_shared(shared: SharedScores, own: sp.csr_matrix, hidden: Histories, k: int) -> Int32:
    """Lists `[B, K]` of the items that are not hidden, equals by index; -1 behind their end."""
    num_users, num_items = own.shape
    lists = np.full((num_users, min(k, num_items)), -1, np.int32)
    for row in range(num_users):
        apart = own.indices[own.indptr[row] : own.indptr[row + 1]]
        scores = own.data[own.indptr[row] : own.indptr[row + 1]]
        out = np.unique(hidden.items[hidden.offsets[row] : hidden.offsets[row + 1]])
        shown = ~np.isin(apart, out)
        first = shared.order[: k + len(apart) + len(out)]
        first = first[~np.isin(first, np.concatenate([apart, out]))][:k]
        items = np.concatenate([apart[shown], first])
        scores = np.concatenate([scores[shown], shared.scores[first]])
        items, scores = items[scores > -np.inf], scores[scores > -np.inf]
        best = items[np.lexsort((items, -scores))[:k]]
        lists[row, : len(best)] = best
    return lists


def _distinct(keys: Int64) -> Int64:
    """Each once, ascending: by sorting, as numpy's hash of such numbers is twenty times slower."""
    ordered = np.sort(keys)
    return ordered[np.diff(ordered, prepend=-1) > 0]


def shared_pair_scores(
    shared: SharedScores, own: sp.csr_matrix, rows: Int64, items: Int64
) -> Float32:
    """`[M]` scores of the pairs `rows [M]`, `items [M]`: their own, or the shared one."""
    scored = _keys(own.indptr.astype(np.int64), own.indices, shared.num_items)
    order = np.argsort(scored)
    wanted = rows * shared.num_items + items
    return _scores_of(wanted, scored[order], own.data[order], shared)


def _keys(offsets: Int64, items: Int32, num_items: int) -> Int64:
    """`row * N + item` of jagged items."""
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    keys: Int64 = rows * num_items + items
    return keys


def _scores_of(wanted: Int64, scored: Int64, values: Float32, shared: SharedScores) -> Float32:
    """`[M]` scores of pairs: their own where there is one, the shared one elsewhere."""
    found = shared.scores[wanted % shared.num_items]
    if len(scored):
        places = np.searchsorted(scored, wanted).clip(max=len(scored) - 1)
        found = np.where(scored[places] == wanted, values[places], found)
    return found


def _reaching(keys: Int64, scores: Float32, wanted: Int64, least: Float32, num_items: int) -> Int64:
    """`[M]` how many of the pairs `keys`, ascending, of its user are scored as high as a target."""
    rows = wanted // num_items
    lo, hi = (np.searchsorted(keys, edge * num_items) for edge in (rows, rows + 1))
    lengths = hi - lo
    pairs = np.repeat(np.arange(len(wanted)), lengths)
    places = np.arange(len(pairs)) - np.repeat(np.cumsum(lengths) - lengths - lo, lengths)
    return np.bincount(pairs, scores[places] >= least[pairs], len(wanted)).astype(np.int64)
