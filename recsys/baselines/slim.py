"""SLIM: sparse item-item weights, one non-negative elastic net for each item.

Ning and Karypis, SLIM: Sparse Linear Methods for Top-N Recommender Systems, ICDM 2011. With A the
0/1 matrix of users and items, the weights minimize `1/2 ||A - A W||^2 + l2/2 ||W||^2 + l1 ||W||_1`
over `W >= 0` with a zero diagonal (equation 3). A column of W does not depend on the others
(equation 4), and most of it is 0.

A column weighs an item only if more than `l1` users had it together with the column's own: at 0
that many pull the weight up, and no other weight, none being below 0, adds to them. So the other
items are left out beforehand, and nothing is lost. With `neighbours` only the nearest of what is
left are candidates (fSLIM, section IV-C).

Shape legend: N items.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

import scipy.sparse as sp
import torch
from pydantic import Field

from recsys.arrays import Int64
from recsys.baselines.base import BaselineConfig, Choices
from recsys.baselines.item_knn import CoOccurrences, ItemWeights, co_occurrences, pairs_of
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.kernels.solvers.elastic_net import solve
from recsys.kernels.threads import in_parts
from recsys.progress import progress

_AT_ONCE = 256
"""Items solved from one move of the bar to the next."""
_DEAR_PAIRS = 20_000_000


class SlimConfig(BaselineConfig):
    """One elastic net for every item, solved by coordinate descent."""

    name: Literal["slim"] = "slim"
    l1: float = Field(default=1.0, ge=0)
    """How sparse the weights are, lambda in the paper."""
    l2: float = Field(default=20.0, ge=0)
    """Strength of the ridge, beta in the paper."""
    neighbours: int | None = Field(default=None, ge=1)
    """Candidates of each item, the nearest by cosine (fSLIM); None: all that can get a weight."""
    sweeps: int = Field(default=100, ge=1)
    """Over all candidates of an item, at most."""
    tolerance: float = Field(default=1e-4, gt=0)
    """An item is done when no weight moves further in a sweep."""

    choices: ClassVar[Choices] = {
        "l2": (1, 2, 5, 10, 20, 50, 100, 200, 500),
        "l1": (0, 0.5, 1, 2, 5, 10, 20),
    }

    def takes_minutes(self, num_items: int, lengths: Int64) -> bool:
        """With tens of millions of pairs of items that the same users had."""
        return pairs_of(lengths) > _DEAR_PAIRS

    def fit(
        self, histories: Histories, num_items: int, features: ItemFeatures | None = None
    ) -> ItemWeights:
        """See `fit_slim`."""
        return fit_slim(self, histories, num_items)


def fit_slim(config: SlimConfig, histories: Histories, num_items: int) -> ItemWeights:
    """Solves all columns, as many at once as torch has threads.

    What is held at once beside the weights: the interactions, and the pairs of one block of items.
    """
    users = histories.to_csr(num_items)
    items = users.tocsc()
    solved = []
    with progress() as bar:
        task = bar.add_task("SLIM", total=num_items)
        for counts in co_occurrences(users):
            found = _candidates(counts, config)
            problem = (
                items.indices, items.indptr, len(histories), found.indices, found.indptr,
                counts.first, config.l1, config.l2, config.sweeps, config.tolerance, found.data,
            )  # fmt: skip
            for lo in range(0, found.shape[0], _AT_ONCE):
                some = min(_AT_ONCE, found.shape[0] - lo)
                in_parts(partial(_solve, lo), some, torch.get_num_threads(), *problem)
                bar.advance(task, some)
            found.eliminate_zeros()
            solved.append(found)
    return ItemWeights(sp.vstack(solved, format="csr").T.tocsr())


def _solve(lo: int, part: tuple[int, int], *problem: Any) -> None:
    solve(lo + part[0], lo + part[1], *problem)


def _candidates(counts: CoOccurrences, config: SlimConfig) -> sp.csr_matrix:
    """`[n, N]`: what the columns of a block of items may weigh, and themselves."""
    together = counts.together
    together.data[together.data <= config.l1] = 0
    together.eliminate_zeros()
    if config.neighbours is None:
        return together
    return counts.nearest(config.neighbours, 0.0)
