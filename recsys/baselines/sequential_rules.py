"""Sequential rules: what came soon after the items that the user had last; or a Markov chain.

References: Ludewig and Jannach, Evaluation of session-based recommendation algorithms, UMUAI 2018
(sequential rules); with one step and one item, the first-order Markov chain of Rendle et al., WWW
2010, before it is factorized.
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

from recsys.arrays import Float32, Int64
from recsys.baselines.base import BaselineConfig, Choices
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories

_PAIRS = 20_000_000
"""Counted at once."""
_TINY = 1e-6
_DEAR_ROWS, _MOST_ROWS = 3_000_000, 30_000_000


class SequentialRulesConfig(BaselineConfig):
    """Pairs of items in their order; with `reach=1` and `last=1` a first-order Markov chain."""

    name: Literal["sequential_rules"] = "sequential_rules"
    order_free: ClassVar[bool] = False
    reach: int = Field(default=10, ge=1)
    """Steps ahead that count as what came next: a pair `s` steps apart weighs `1 / s`."""
    last: int = Field(default=10, ge=1)
    """Most recent items that are asked what comes next: the one `s` places back weighs `1 / s`."""
    shrinkage: float = Field(default=100.0, ge=0)
    """Added to how often an item was left: what few users vouch for is drawn towards 0."""

    choices: ClassVar[Choices] = {"reach": (1, 3, 10, 20), "last": (1, 3, 10, 20)}

    def takes_minutes(self, num_items: int, lengths: Int64) -> bool:
        """With millions of interactions."""
        return int(lengths.sum()) > _DEAR_ROWS

    def fit(
        self,
        histories: Histories,
        num_items: int,
        features: ItemFeatures | None = None,
    ) -> SequentialRules:
        """See `fit_sequential_rules`."""
        return fit_sequential_rules(self, histories, num_items)


@dataclass(frozen=True)
class SequentialRules:
    """Score of an item: how often it came soon after, as a share; where never, its popularity."""

    transitions: sp.csr_matrix
    """`[N, N]` float32, row i: what followed item i."""
    popularity: Float32
    """`[N]` shares so small that they order nothing but items without a transition."""
    last: int

    def scores(self, histories: Histories) -> Tensor:
        """`[B, N]`."""
        own, scores = self.own_scores(histories), self.popularity
        rows = np.repeat(np.arange(len(histories)), np.diff(own.indptr))
        dense = np.repeat(scores[None], len(histories), axis=0)
        dense[rows, own.indices] = own.data
        return torch.from_numpy(dense)

    def shared_scores(self) -> Tensor:
        """`[N]`: of what has never come next."""
        return torch.from_numpy(self.popularity)

    def own_scores(self, histories: Histories) -> sp.csr_matrix:
        """`[B, N]`: of what has."""
        recent = histories.last(self.last)
        rows = np.repeat(np.arange(len(recent)), recent.lengths)
        back = recent.offsets[rows + 1] - np.arange(len(rows))
        asked = sp.csr_matrix(
            ((1.0 / back).astype(np.float32), recent.items, recent.offsets),
            shape=(len(recent), len(self.popularity)),
        )
        found: sp.csr_matrix = (asked @ self.transitions).tocsr()
        found.data += self.popularity[found.indices]
        return found


def fit_sequential_rules(
    config: SequentialRulesConfig, histories: Histories, num_items: int
) -> SequentialRules:
    """Counts what followed what, up to `reach` steps later, in every history."""
    rows = np.repeat(np.arange(len(histories)), histories.lengths)
    at_once = max(1, _PAIRS // max(1, len(rows)))
    counts, *more = (
        _counted(rows, histories, range(first, min(first + at_once, config.reach + 1)), num_items)
        for first in range(1, config.reach + 1, at_once)
    )
    for part in more:
        counts = counts + part
    left = np.asarray(counts.sum(axis=1)).ravel()
    share = (1.0 / (left + config.shrinkage).clip(1e-9)).astype(np.float32)
    transitions = (sp.diags(share) @ counts).tocsr().astype(np.float32)
    had = np.bincount(histories.items, minlength=num_items)
    # Far below the share of a transition, and still apart from each other.
    popularity = (had / max(1, had.max()) * _TINY).astype(np.float32)
    return SequentialRules(transitions, popularity, config.last)


def _counted(rows: Int64, histories: Histories, steps: range, num_items: int) -> sp.csr_matrix:
    """`[N, N]` pairs of one history that are so many steps apart, each weighed by its distance.

    Args:
        rows: `[T]` whose interaction each is.
        histories: the interactions.
        steps: distances.
        num_items: N.
    """
    before = [np.flatnonzero(rows[step:] == rows[:-step]) for step in steps]
    later = [part + step for part, step in zip(before, steps, strict=True)]
    weights = np.repeat([1.0 / step for step in steps], [len(part) for part in before])
    pairs = histories.items[np.concatenate(before)], histories.items[np.concatenate(later)]
    found = sp.coo_matrix((weights.astype(np.float32), pairs), shape=(num_items, num_items))
    return found.tocsr()


def sequential_rules_obstacle(lengths: Int64) -> str | None:
    """Why rules would take too long to be fitted unasked on histories of `lengths [U]`."""
    rows = int(lengths.sum())
    if rows <= _MOST_ROWS:
        return None
    return (
        f"sequential rules would count pairs of {rows:,} interactions, those of {_MOST_ROWS:,} are "
        "counted unasked; ask for it: recsys baselines DATA sequential_rules"
    )
