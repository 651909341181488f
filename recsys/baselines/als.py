"""ALS and BPR matrix factorization by the package `implicit`.

Their coordinates are not trained to be nested: what a prefix of them keeps is a control for what
nesting brings. References: Hu et al., ICDM 2008 (ALS); Rendle et al., UAI 2009 (BPR).
Shape legend: B users of the batch, U users fitted, N items, D coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from recsys.arrays import Float32
from recsys.baselines.base import BaselineConfig
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.extras import require
from recsys.granularity import Granularities
from recsys.progress import progress

if TYPE_CHECKING:
    from implicit.cpu.als import AlternatingLeastSquares
    from implicit.cpu.bpr import BayesianPersonalizedRanking


class AlsConfig(BaselineConfig):
    """Weighted matrix factorization by alternating least squares."""

    name: Literal["als"] = "als"
    granularities: Granularities = Granularities(sizes=(8, 16, 32, 64))
    """Prefixes to evaluate; the last is the number of factors."""
    regularization: float = Field(default=0.01, ge=0)
    alpha: float = Field(default=10.0, gt=0)
    """Weight of an interaction, where the absence of one weighs 1."""
    iterations: int = Field(default=15, ge=1)
    seed: int = 0

    def fit(
        self, histories: Histories, num_items: int, features: ItemFeatures | None = None
    ) -> Als:
        """See `fit_als`."""
        return fit_als(self, histories, num_items)


class BprConfig(BaselineConfig):
    """Matrix factorization, trained to rank items of the history above other items."""

    name: Literal["bpr"] = "bpr"
    granularities: Granularities = Granularities(sizes=(8, 16, 32, 64))
    """Prefixes to evaluate; the last counts the factors and the bias of an item."""
    learning_rate: float = Field(default=0.05, gt=0)
    regularization: float = Field(default=0.01, ge=0)
    iterations: int = Field(default=100, ge=1)
    """Passes over the interactions."""
    seed: int = 0

    def fit(
        self, histories: Histories, num_items: int, features: ItemFeatures | None = None
    ) -> Bpr:
        """See `fit_bpr`."""
        return fit_bpr(self, histories, num_items)


@dataclass(frozen=True)
class Als:
    """ALS: user vectors are computed from the given history, also for users not in training."""

    granularities: Granularities
    solver: AlternatingLeastSquares

    def item_vectors(self) -> Tensor:
        """`[N, D]`."""
        return torch.from_numpy(self.solver.item_factors)

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]`."""
        rows = np.arange(len(histories))
        with _one_thread():
            vectors = self.solver.recalculate_user(
                rows, histories.to_csr(len(self.solver.item_factors))
            )
        return torch.from_numpy(vectors)


@dataclass(frozen=True)
class Bpr:
    """BPR: user vectors are the trained rows; interactions after training are ignored."""

    granularities: Granularities
    items: Float32
    """`[N, D]`, the bias in the first coordinate, so that every prefix holds it."""
    users: Float32
    """`[U + 1, D]`, 1 in the first coordinate; the last row is for users that were not fitted."""
    by_index: ClassVar[bool] = True
    """Users are known by index; their histories are not looked at."""

    def item_vectors(self) -> Tensor:
        """`[N, D]`."""
        return torch.from_numpy(self.items)

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]`; unknown users are served by the biases alone."""
        known = np.minimum(histories.users, len(self.users) - 1)
        return torch.from_numpy(self.users[known])


def _one_thread() -> Any:
    """BLAS in one thread; raises InstallationError where the extra `baselines` is missing."""
    require("baselines")
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, "blas")


def fit_als(config: AlsConfig, histories: Histories, num_items: int) -> Als:
    """Fits on the binary interactions; the same seed gives the same vectors."""
    with _one_thread():  # implicit runs its own threads, and warns of BLAS's
        from implicit.cpu.als import AlternatingLeastSquares

        solver = AlternatingLeastSquares(
            factors=config.granularities.embedding_dim,
            regularization=config.regularization,
            alpha=config.alpha,
            iterations=config.iterations,
            random_state=config.seed,
        )
        _fit(solver, histories, num_items)
    return Als(config.granularities, solver)


def fit_bpr(config: BprConfig, histories: Histories, num_items: int) -> Bpr:
    """Fits on the binary interactions, in one thread: several write over each other at random."""
    with _one_thread():
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        solver = BayesianPersonalizedRanking(
            factors=config.granularities.embedding_dim - 1,
            learning_rate=config.learning_rate,
            regularization=config.regularization,
            iterations=config.iterations,
            num_threads=1,
            random_state=config.seed,
        )
        _fit(solver, histories, num_items)
    trained = np.roll(solver.user_factors, 1, axis=1)
    trained[histories.lengths == 0] = 0.0  # never moved from its first, random values
    users = np.zeros((histories.users.max() + 2, trained.shape[1]), np.float32)
    users[histories.users] = trained
    users[:, 0] = 1
    return Bpr(config.granularities, np.roll(solver.item_factors, 1, axis=1), users)


def _fit(
    solver: AlternatingLeastSquares | BayesianPersonalizedRanking,
    histories: Histories,
    num_items: int,
) -> None:
    with progress() as bar:
        task = bar.add_task(type(solver).__name__, total=solver.iterations)
        solver.fit(
            histories.to_csr(num_items),
            show_progress=False,
            callback=lambda *_: bar.advance(task),
        )
