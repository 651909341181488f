"""Popularity baselines: all-time and recent counts, the same list for every user.

Reference: Ji et al., A Re-visit of the Popularity Baseline in Recommender Systems, SIGIR 2020.
Shape legend: B users of the batch, N items, T interactions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor

from recsys.arrays import Int64
from recsys.baselines.base import BaselineConfig, Choices
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories


class PopularityConfig(BaselineConfig):
    """Items by the number of their interactions."""

    name: Literal["popularity"] = "popularity"

    def fit(
        self, histories: Histories, num_items: int, features: ItemFeatures | None = None
    ) -> Popularity:
        """Counts interactions."""
        counts = np.bincount(histories.items, minlength=num_items)
        return Popularity(_as_scores(counts[None]))


class RecentPopularityConfig(BaselineConfig):
    """Items by the number of their recent interactions; ties by the number of all of them."""

    name: Literal["recent_popularity"] = "recent_popularity"
    order_free: ClassVar[bool] = False
    share: float = Field(default=0.1, gt=0, le=1)
    """With timestamps: the latest share of all interactions is recent."""
    last: int = Field(default=3, ge=1)
    """Without timestamps there is no common clock: the last interactions of every user are recent.
    """

    choices: ClassVar[Choices] = {
        "share": (0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
        "last": (1, 2, 3, 5, 10),
    }

    def open_choices(self, *, timed: bool) -> Choices:
        """`share` with times, `last` without."""
        read = "share" if timed else "last"
        return {read: self.choices[read]}

    def fit(
        self, histories: Histories, num_items: int, features: ItemFeatures | None = None
    ) -> Popularity:
        """Counts recent interactions, then all."""
        if histories.timestamps is None:
            recent = histories.last(self.last).items
        else:
            since = np.quantile(histories.timestamps, 1 - self.share, method="higher")
            recent = histories.items[histories.timestamps >= since]
        counts = [np.bincount(items, minlength=num_items) for items in (recent, histories.items)]
        return Popularity(_as_scores(np.stack(counts)))


@dataclass(frozen=True)
class Popularity:
    """A model with the same scores for every user."""

    item_scores: Tensor
    """`[N]` float32."""

    def scores(self, histories: Histories) -> Tensor:
        """`[B, N]`."""
        return self.item_scores.expand(len(histories), -1)

    def shared_scores(self) -> Tensor:
        """`[N]`."""
        return self.item_scores

    def own_scores(self, histories: Histories) -> sp.csr_matrix:
        """`[B, N]`: none."""
        nothing = np.zeros((0, 2), dtype=np.int64)
        shape = (len(histories), len(self.item_scores))
        return sp.csr_matrix((np.zeros(0, np.float32), nothing.T), shape=shape)


def _as_scores(counts: Int64) -> Tensor:
    """Places in the order by `counts [C, N]`, the first row first: exact in float32, where a
    count plus a fraction of another would not be. Equal counts are equal places.
    """
    order = np.lexsort(counts[::-1])
    ordered = counts[:, order]
    higher = (ordered[:, 1:] != ordered[:, :-1]).any(axis=0)
    places = np.empty(counts.shape[1], np.float32)
    places[order] = np.concatenate([[0], np.cumsum(higher)])
    return torch.from_numpy(places)
