"""Spectral vectors: the leading eigenvectors of the items' graph, which are nested by nature.

With `R` the interactions, `a` and `b` powers of the degrees of users and items, the normalized
matrix is `S = Du^-a R Di^-b`, and `S = U diag(s) V^T` its singular value decomposition. An item is
the row of `V diag(s^power)`, a user the sum of what was had, so that scores are
`x V diag(s^(2 power)) V^T`: a low-pass filter of the graph signal x. Power 1 (with a and b of 1/2)
is the linear filter of GF-CF (Shen et al., How Powerful is Graph Convolution for Recommendation?,
CIKM 2021), power 0 its ideal low-pass filter, both on the leading coordinates alone; the filters
of Turbo-CF (Park et al., SIGIR 2024) are polynomials of s^2. The first d coordinates are the best
of any d in least squares, so prefixes need no training.

Shape legend: U users, N items, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.errors import ConfigError
from recsys.layers.history_sums import HistorySum, history_sums
from recsys.layers.spectrum import leading, normalized
from recsys.losses.softmax import NestedLossOutput, ScoreScales, nested_softmax
from recsys.models.base import Model, ModelConfig


class SpectralConfig(ModelConfig):
    """Options of spectral vectors."""

    name: Literal["spectral"] = "spectral"
    history_length: int = Field(default=10_000, ge=1)
    """Most recent interactions of a user that are read."""
    user_power: float = Field(default=0.5, ge=0)
    """a: rows of users are divided by their number of interactions to this power."""
    item_power: float = Field(default=0.5, ge=0)
    """b: columns of items are divided by their number of interactions to this power."""
    filter_power: float = Field(default=1.0, ge=0)
    """Item vectors are multiplied by the singular values to this power."""
    passes: int = Field(default=6, ge=1)
    """Of the subspace iteration: each multiplies by the matrix and its transpose."""

    @property
    def order_free(self) -> bool:
        """No order is looked at."""
        return True

    @property
    def solved(self) -> bool:
        """By one singular value decomposition."""
        return True


class Spectral(Model):
    """Item vectors from a decomposition; user vectors are their sums."""

    Config = SpectralConfig
    config: SpectralConfig

    def __init__(
        self,
        config: SpectralConfig,
        num_items: int,
        *,
        num_users: int = 0,
        features: ItemFeatures | None = None,
        objective: Callable[..., NestedLossOutput] = nested_softmax,
    ) -> None:
        """Args:
        config: of this model.
        num_items: N.
        num_users: not used: users are what they have had.
        features: not used.
        objective: not used: nothing is trained.
        """
        super().__init__()
        self.config, self.granularities = config, config.granularities
        dim = self.granularities.embedding_dim
        self.items = nn.Parameter(torch.zeros(num_items, dim), requires_grad=False)
        self.scales = ScoreScales(self.granularities)

    @torch.no_grad()
    def solve(self, rows: Histories) -> Iterator[None]:
        """One round.

        Raises:
            ConfigError: there are fewer users or items than coordinates.
        """
        num_items, dim = self.items.shape
        known = rows.rows(np.flatnonzero(rows.lengths))
        if dim > min(len(known), num_items):
            raise ConfigError(
                f"{dim} coordinates are asked of {len(known):,} users and {num_items:,} items; "
                "model.granularities.sizes must end at the smaller number or below"
            )
        seed = int(torch.randint(1 << 31, (1,)))  # of the run's own random numbers
        powers = self.config.user_power, self.config.item_power
        matrix = normalized(known.to_csr(num_items), *powers)
        vectors, values = leading(matrix, dim, passes=self.config.passes, seed=seed)
        self.items.copy_(torch.from_numpy(vectors * values**self.config.filter_power))
        yield

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]`: sums of the item vectors of the most recent `history_length` interactions."""
        return history_sums(histories.last(self.config.history_length), self.items)

    def item_vectors(self) -> Tensor:
        """`[N, D]`."""
        return self.items

    def user_tower(self) -> nn.Module:
        """The sum."""
        return HistorySum()
