"""Scorers: models with their item vectors and memory limits, ready for ranking.

Shape legend: B users of a batch, K interests of a user, N items, D coordinates, G granularities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.arrays import Int64
from recsys.data.histories import Histories
from recsys.evaluation.ranking.compiled import CompiledRanking
from recsys.evaluation.ranking.distributed import SharedRanking
from recsys.evaluation.ranking.shared_scores import SharedScores

BlockScores = Callable[[int, int], Iterator[Tensor]]
"""`(lo, hi)` -> scores `[B, hi - lo]` of the items `lo..hi-1`, one tensor per granularity.

A tensor is only good until the next one is asked for, and is not to be written to.
"""


@dataclass(frozen=True)
class Scorer:
    """A model prepared for ranking."""

    sizes: tuple[int | None, ...]
    """The granularities, ascending; `(None,)` for a ScoreModel."""
    num_users: int
    """Users to score at once."""
    width: int
    """Items to score at once."""
    num_items: int
    """N."""
    device: torch.device
    blocks: Callable[[Histories], BlockScores]

    def batches(self, order: Int64) -> Iterator[Int64]:
        """`order` in pieces of `num_users`."""
        for start in range(0, len(order), self.num_users):
            yield order[start : start + self.num_users]


@dataclass(frozen=True)
class VectorScorer(Scorer):
    """Scorer of a VectorModel."""

    users: Callable[[Histories], Tensor]
    """`[B, D]` float32 user vectors, known to be finite; `[B, K, D]` of K interests."""
    compiled: CompiledRanking | SharedRanking | None
    """The item vectors as the kernels take them; None: they are not on a CPU."""
    repeat_bias: Callable[[Tensor], Tensor] | None = None
    """User vectors `[B, D]` -> `[G, B]`, added to the scores of what the users have had."""


@dataclass(frozen=True)
class SharedScorer(Scorer):
    """Scorer of a SharedModel."""

    shared: SharedScores
    own: Callable[[Histories], sp.csr_matrix]
