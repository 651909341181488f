"""Item-kNN: items with the same users, by cosine with shrinkage.

References: Sarwar et al., Item-based collaborative filtering, WWW 2001; shrinkage: Bell and Koren,
ICDM 2007; settings that make it strong: Ferrari Dacrema et al., RecSys 2019.
Shape legend: B users of the batch, N items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor

from recsys.arrays import Float32, Int64
from recsys.baselines.base import BaselineConfig, Choices
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.progress import progress

_BLOCK_BYTES = 256 << 20
_BYTES_PER_PAIR = 32
"""A similarity with its column, and the arrays that sort it."""
_DEAR_PAIRS = 1_000_000_000
_MOST_PAIRS = 20_000_000_000
"""Counted in some minutes."""


class ItemKNNConfig(BaselineConfig):
    """Settings of item neighbourhoods."""

    name: Literal["item_knn"] = "item_knn"
    neighbours: int = Field(default=100, ge=1)
    """Similar items kept for each item."""
    shrinkage: float = Field(default=10.0, ge=0)
    """Added to the denominator: similarities that few users vouch for are drawn towards 0."""

    choices: ClassVar[Choices] = {
        "neighbours": (20, 50, 100, 200, 500),
        "shrinkage": (0, 2, 5, 10, 20, 50, 100),
    }

    def takes_minutes(self, num_items: int, lengths: Int64) -> bool:
        """With a billion pairs of items to count."""
        return pairs_of(lengths) > _DEAR_PAIRS

    def fit(
        self, histories: Histories, num_items: int, features: ItemFeatures | None = None
    ) -> ItemWeights:
        """See `fit_item_knn`."""
        return fit_item_knn(self, histories, num_items)


@dataclass(frozen=True)
class ItemWeights:
    """Score of an item: the sum of its weights from the items of the history."""

    weights: sp.csr_matrix
    """`[N, N]` float32, row i: what item i of a history gives to others."""

    def scores(self, histories: Histories) -> Tensor:
        """`[B, N]`."""
        return torch.from_numpy(self.own_scores(histories).toarray())

    def shared_scores(self) -> Tensor:
        """`[N]`: 0 for all that has no weight from the history."""
        return torch.zeros(self.weights.shape[0])

    def own_scores(self, histories: Histories) -> sp.csr_matrix:
        """`[B, N]`: of what has."""
        found: sp.csr_matrix = histories.to_csr(self.weights.shape[0]) @ self.weights
        return found


def fit_item_knn(config: ItemKNNConfig, histories: Histories, num_items: int) -> ItemWeights:
    """Similarities `c_ij / (sqrt(c_i c_j) + shrinkage)` of binary rows, the best of each item.

    Blocked over items: at most `_BLOCK_BYTES` of similarities before the best are taken.
    """
    users = histories.to_csr(num_items)
    kept = []
    with progress() as bar:
        task = bar.add_task("item-kNN", total=num_items)
        for counts in co_occurrences(users):
            kept.append(counts.nearest(config.neighbours, config.shrinkage))
            bar.advance(task, counts.together.shape[0])
    return ItemWeights(sp.vstack(kept, format="csr"))


@dataclass(frozen=True)
class CoOccurrences:
    """How many users had both of two items, for a block of items."""

    first: int
    """The first item of the block."""
    together: sp.csr_matrix
    """`[n, N]`: row i is item `first + i`."""
    norms: Float32
    """`[N]` square roots of how many users had each item."""

    def nearest(self, neighbours: int, shrinkage: float) -> sp.csr_matrix:
        """`[n, N]`: similarities of the most similar items of each row; equals by item index."""
        block = self.together
        rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        items = rows + self.first
        values = block.data / (self.norms[items] * self.norms[block.indices] + shrinkage)
        other = items != block.indices
        rows, columns, values = rows[other], block.indices[other], values[other]
        order = np.lexsort((columns, -values, rows))
        starts = np.searchsorted(rows, np.arange(block.shape[0]))
        places = np.arange(len(rows)) - starts[rows]
        best = order[places < neighbours]
        return sp.csr_matrix((values[best], (rows[best], columns[best])), shape=block.shape)


def co_occurrences(users: sp.csr_matrix) -> Iterator[CoOccurrences]:
    """Counts of all items of `users [U, N]`, a block of items at a time."""
    items = users.T.tocsr()
    norms = np.sqrt(np.diff(items.indptr)).astype(np.float32)
    for lo, hi in pairwise(_edges(items, users)):
        yield CoOccurrences(lo, (items[lo:hi] @ users).tocsr(), norms)


def pairs_of(lengths: Int64) -> float:
    """Pairs of items in histories of `lengths [U]`."""
    return float(np.square(lengths.astype(np.float64)).sum())


def item_knn_obstacle(lengths: Int64) -> str | None:
    """Why item-kNN would take too long to be fitted unasked on histories of `lengths [U]`."""
    pairs = pairs_of(lengths)
    if pairs <= _MOST_PAIRS:
        return None
    return (
        f"item-kNN would count {pairs:.1e} pairs of items that the same users had, "
        f"{_MOST_PAIRS:.0e} are counted unasked; ask for it: recsys baselines DATA item_knn"
    )


def _edges(items: sp.csr_matrix, users: sp.csr_matrix) -> list[int]:
    """Where blocks of items begin and end that have so many pairs as are held at once, or one item.

    An item has at most as many neighbours as its users have interactions, and as there are items.
    """
    num_items, most = items.shape[0], max(1, _BLOCK_BYTES // _BYTES_PER_PAIR)
    reached = items @ np.diff(users.indptr).astype(np.float64)
    running = np.cumsum(np.minimum(reached, num_items))
    edges = [0]
    while edges[-1] < num_items:
        before = running[edges[-1] - 1] if edges[-1] else 0.0
        edges.append(max(edges[-1] + 1, int(np.searchsorted(running, before + most, "right"))))
    return edges
