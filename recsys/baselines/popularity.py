"""Popularity, all-time and recent: what everyone gets without being known.

Reference: Ji et al., A Re-visit of the Popularity Baseline in Recommender Systems, SIGIR 2020.
Shape legend: B users of the batch, N items, T interactions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor

from recsys.config import StrictModel
from recsys.data.dataset import Int64
from recsys.data.histories import Histories


class PopularityConfig(StrictModel):
    """Items by the number of their interactions."""

    name: Literal["popularity"] = "popularity"


class RecentPopularityConfig(StrictModel):
    """Items by the number of their recent interactions, equals by all of them."""

    name: Literal["recent_popularity"] = "recent_popularity"
    share: float = Field(default=0.1, gt=0, le=1)
    """With timestamps: the latest share of all interactions is recent."""
    last: int = Field(default=3, ge=1)
    """Without timestamps there is no common clock: the last interactions of every user are recent.
    """


@dataclass(frozen=True)
class Popularity:
    """The same scores for everyone."""

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


def fit_popularity(
    config: PopularityConfig,  # noqa: ARG001 (every baseline is fitted by the same three)
    histories: Histories,
    num_items: int,
) -> Popularity:
    """Counts interactions."""
    counts = np.bincount(histories.items, minlength=num_items)
    return Popularity(_as_scores(counts[None]))


def fit_recent_popularity(
    config: RecentPopularityConfig, histories: Histories, num_items: int
) -> Popularity:
    """Counts recent interactions, then all."""
    if histories.timestamps is None:
        recent = histories.last(config.last).items
    else:
        since = np.quantile(histories.timestamps, 1 - config.share, method="higher")
        recent = histories.items[histories.timestamps >= since]
    counts = [np.bincount(items, minlength=num_items) for items in (recent, histories.items)]
    return Popularity(_as_scores(np.stack(counts)))


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
