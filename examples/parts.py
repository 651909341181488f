"""A loss, a metric, a baseline and a reader from outside the package, each found by its place.

    loss: {name: "examples.parts:Hinge", margin: 0.2}
    trainer: {metric: "examples.parts:rank_biased_precision@10"}
    recsys baselines data/demo examples.parts:MarkovChain
    recsys prepare examples.parts:DIARY --source diary.json --out data/diary

Shape legend: B users, M their targets, T tokens, N items, K negatives, G granularities.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor

from data_prep import Columns, PrepareOptions, RawData, Source, Table
from recsys.arrays import Float64, Int64
from recsys.baselines import BaselineConfig
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.data.negatives import NegativesConfig
from recsys.errors import DataError
from recsys.granularity import Granularities
from recsys.losses import LossConfig
from recsys.losses.base import Objective
from recsys.losses.softmax import Negatives, NestedLossOutput
from recsys.prefixes import truncate


class Hinge(LossConfig):
    """The target shall score above each negative by a margin, at every granularity."""

    name: str = "examples.parts:Hinge"
    negatives: NegativesConfig = NegativesConfig()
    margin: float = Field(default=0.2, gt=0)

    def objective(self, num_items: int, num_sizes: int) -> Objective:
        """What the model is trained on; an nn.Module's parameters would be trained with it."""
        return self._loss

    def _loss(
        self,
        users: Tensor,
        items: Tensor,
        targets: Tensor,
        scales: Tensor,
        granularities: Granularities,
        *,
        negatives: Negatives,
    ) -> NestedLossOutput:
        """`users [T, D]`, `items [K + T, D]`: of the negatives, then of each token's target."""
        k, losses = len(negatives.items), []
        own = negatives.items == targets[:, None]  # a target is not a negative of itself
        for size in granularities.sizes:
            u, v = (truncate(x, size, normalize=granularities.normalize) for x in (users, items))
            missing = self.margin + u @ v[:k].T - (u * v[k:]).sum(1, keepdim=True)
            losses.append(missing.relu().masked_fill(own, 0.0).mean())
        per_granularity = torch.stack(losses)
        weights = users.new_tensor(granularities.normalized_weights)
        return NestedLossOutput(weights @ per_granularity, per_granularity.detach())


def rank_biased_precision(ranks: Int64, offsets: Int64, ks: Sequence[int]) -> Float64:
    """Moffat and Zobel, TOIS 2008: the patience of a reader who goes on with chance 0.8: `[B, K]`.

    `ranks [M]` from 1; the targets of user b are `offsets[b]:offsets[b + 1]`.
    """
    gains = 0.2 * 0.8 ** (ranks - 1.0)
    columns = [np.add.reduceat(np.where(ranks <= k, gains, 0.0), offsets[:-1]) for k in ks]
    return np.stack(columns, axis=1)


class MarkovChain(BaselineConfig):
    """Items by how often they followed the user's last one."""

    name: str = "examples.parts:MarkovChain"
    reach: int = Field(default=1, ge=1)
    """Items that count as following one, at most."""

    def fit(
        self, histories: Histories, num_items: int, features: ItemFeatures | None = None
    ) -> Transitions:
        """Counts pairs."""
        users = np.repeat(np.arange(len(histories)), histories.lengths)
        counts = sp.csr_matrix((num_items, num_items), dtype=np.float32)
        for step in range(1, self.reach + 1):
            same = users[step:] == users[:-step]
            pairs = histories.items[:-step][same], histories.items[step:][same]
            ones = np.ones(len(pairs[0]), np.float32)
            counts += sp.csr_matrix((ones, pairs), shape=(num_items, num_items))
        return Transitions(counts)


class Transitions:
    """What the evaluator ranks: a model with `scores`, or one with vectors."""

    def __init__(self, counts: sp.csr_matrix) -> None:
        self.counts = counts

    def scores(self, histories: Histories) -> Tensor:
        """`[B, N]`, higher is better."""
        last = histories.items[histories.offsets[1:] - 1]
        return torch.from_numpy(self.counts[last].toarray())


def read_diary(source: Path | None, options: PrepareOptions, workspace: Path) -> RawData:
    """`{"user": ["item", ...]}` in a JSON file, each list in the order of the history."""
    if source is None:
        raise DataError("a diary has no place to be downloaded from; give --source FILE")
    pairs = [(u, i) for u, items in json.loads(source.read_text()).items() for i in items]
    frame = pl.LazyFrame(pairs, schema=["user", "item"], orient="row")
    table = Table(source.name, frame, lambda row: f"{source.name}, pair {row + 1}")
    return RawData(
        table, Columns(user="user", item="item"), items=None, source=source.name, licence="unknown"
    )


DIARY = Source(
    "diary, JSON lists of items by user", {"min_user_count", "min_item_count"}, read_diary
)
