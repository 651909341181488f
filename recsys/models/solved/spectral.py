"""Spectral vectors: the leading eigenvectors of the items' graph, which are nested by nature.

With `R` the interactions, `a` and `b` powers of the degrees of users and items, the normalized
matrix is `S = Du^-a R Di^-b`, and `S = U diag(s) V^T` its singular value decomposition. The scores
of a history x are `x Di^-c V diag(s^(2p)) V^T Di^c`, a low-pass filter of the graph signal x. With
a, b and c of 1/2, p of 0 is the ideal low-pass filter of GF-CF (Shen et al., How Powerful is Graph
Convolution for Recommendation?, CIKM 2021); p of 1 is, with c of 0, the leading part of its linear
filter. The filters of Turbo-CF (Park et al., SIGIR 2024) are polynomials of s^2. The first d
coordinates are the best of any d in least squares, so prefixes need no training.

An item's vector is its row of `Di^c V diag(s^p)`, a user the sum of `Di^-2c` times the vectors of
what was had. The last coordinate of an item is that weight (and 0 in a user), so that a tower that
is given items' vectors makes users without a table of its own.

Shape legend: B users, L longest history, T items of all histories, N items, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.devices import to_indices
from recsys.errors import ConfigError
from recsys.layers.histories.sums import HistorySum, history_sums
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
    popularity: float = Field(default=0.5, ge=0)
    """c: a history's items are divided, and the scores of items multiplied, by the number of their
    interactions to this power."""
    filter_power: float = Field(default=0.0, ge=0)
    """p: item vectors are multiplied by the singular values to this power."""
    passes: int = Field(default=6, ge=1)
    """Of the subspace iteration: each multiplies by the matrix and its transpose."""

    @model_validator(mode="after")
    def _room_for_the_weight(self) -> SpectralConfig:
        if self.granularities.sizes[0] < 2:
            raise ValueError(
                "the last coordinate of spectral vectors is a weight, so a granularity of 1 holds "
                "nothing else; granularities.sizes must start at 2 or above"
            )
        if self.granularities.normalize:
            raise ValueError(
                "spectral vectors are scored by dot products; set granularities.normalize to false"
            )
        return self

    @property
    def order_free(self) -> bool:
        """No order is looked at."""
        return True

    @property
    def solved(self) -> bool:
        """By one singular value decomposition."""
        return True


class Spectral(Model):
    """Item vectors from a decomposition; user vectors are weighted sums of them."""

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
        had = known.to_csr(num_items)
        degrees = np.bincount(had.indices, minlength=num_items).clip(min=1).astype(np.float32)
        matrix = normalized(had, *powers)
        vectors, values = leading(matrix, dim - 1, passes=self.config.passes, seed=seed)
        vectors *= values**self.config.filter_power * degrees[:, None] ** self.config.popularity
        weights = degrees ** (-2 * self.config.popularity)
        # As large as the others are on average, so that no codec loses it.
        weights *= np.sqrt(np.square(vectors).mean() / np.square(weights).mean())
        both = np.concatenate([vectors, weights[:, None]], axis=1)
        self.items.copy_(torch.from_numpy(both))
        yield

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]`: weighted sums of the most recent `history_length` interactions."""
        recent = histories.last(self.config.history_length)
        rows = self.items[to_indices(recent.items, self.device)]
        return history_sums(recent, weighed(rows))

    def item_vectors(self) -> Tensor:
        """`[N, D]`."""
        return self.items

    def user_tower(self) -> nn.Module:
        """The weighted sum."""
        return WeighedSum()


def weighed(vectors: Tensor) -> Tensor:
    """`[..., D]` times its own last coordinate, which becomes 0."""
    kept, weight = vectors[..., :-1], vectors[..., -1:]
    return torch.cat([kept * weight, torch.zeros_like(weight)], dim=-1)


class WeighedSum(nn.Module):
    """`vectors [B, L, D]`, `lengths [B]` -> users `[B, D]`."""

    def __init__(self) -> None:
        super().__init__()
        self.sums = HistorySum()

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """The weighted sum of each history."""
        users: Tensor = self.sums(weighed(vectors), lengths)
        return users
