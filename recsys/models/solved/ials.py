"""iALS: matrix factorization by alternating least squares, with nested prefixes.

Hu et al., Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008, with the objective,
the regularization by frequency and the starting values of Rendle et al., Revisiting the Performance
of iALS on Item Recommendation Benchmarks, RecSys 2022. Each side in turn is solved exactly but for
the steps of conjugate gradients, the last solution being the first guess.

Departure from the papers: the objective is the weighted sum of that of every prefix
(`recsys.layers.nested_ridge`). A user is solved for from what was had, so that one who was never
seen in training is as good as the others.

Shape legend: B users, L longest history, U users, N items, T interactions, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.arrays import Int64
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.devices import to_indices
from recsys.layers.nested_ridge import NestedRidge, RidgeOptions
from recsys.losses.softmax import NestedLossOutput, ScoreScales, nested_softmax
from recsys.models.base import Model, ModelConfig
from recsys.progress import progress

_CELLS = 1 << 15
"""Padded interactions of one block, about: of 256 coordinates 32 MiB."""


class IALSConfig(ModelConfig):
    """Options of iALS."""

    name: Literal["ials"] = "ials"
    history_length: int = Field(default=10_000, ge=1)
    """Most recent interactions that a user vector is solved from."""
    alpha: float = Field(default=0.1, gt=0)
    """Weight of what a user has not had, where what was had weighs 1 more."""
    ridge: float = Field(default=0.003, gt=0)
    """Strength of the regularization."""
    exponent: float = Field(default=1.0, ge=0)
    """Vectors are regularized by (their interactions + alpha times all of the other side) to this
    power: 1 weighs every interaction alike, 0 every vector."""
    user_power: float = Field(default=0.5, ge=0)
    """In the items' turn a user weighs 1 over (its interactions to this power): 0 weighs users of
    long histories as much as they have rows, 1 all users alike."""
    item_power: float = Field(default=0.3, ge=0)
    """What a user has not had weighs alpha times (the item's interactions to this power), which is
    1 on average: to have passed by a popular item tells more (He et al., eALS, SIGIR 2016)."""
    steps: int = Field(default=3, ge=1)
    """Of conjugate gradients, each time a side is solved in training."""
    user_steps: int = Field(default=10, ge=1)
    """Of conjugate gradients for a user vector, which has no first guess."""
    init_std: float = Field(default=0.1, gt=0)
    """Of the length of an item's first, random vector."""

    @property
    def order_free(self) -> bool:
        """No order is looked at."""
        return True

    @property
    def solved(self) -> bool:
        """By alternating least squares."""
        return True


class IALS(Model):
    """Item vectors from training; user vectors solved from histories."""

    Config = IALSConfig
    config: IALSConfig

    def __init__(
        self,
        config: IALSConfig,
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
        objective: not used: the objective is the model's own.
        """
        super().__init__()
        self.config, self.granularities = config, config.granularities
        dim = self.granularities.embedding_dim
        first = torch.randn(num_items, dim) * (config.init_std / dim**0.5)
        self.items = nn.Parameter(first, requires_grad=False)
        self.missing = nn.Parameter(torch.ones(num_items), requires_grad=False)
        self.scales = ScoreScales(self.granularities)
        # Follows from the items: not one of the module's own, which would be kept and loaded.
        self._tower: tuple[NestedRidge, ...] = ()

    @torch.no_grad()
    def solve(self, rows: Histories) -> Iterator[None]:
        """One round: all users, then all items."""
        of_users = rows.to_csr(len(self.items))
        of_items = of_users.T.tocsr()
        users = self.items.new_zeros(len(rows), self.items.shape[1])
        roots = self._roots(rows.lengths)
        counts = np.diff(of_items.indptr).clip(min=1).astype(np.float64) ** self.config.item_power
        self.missing.copy_(torch.from_numpy(counts / counts.mean()))
        while True:
            self._side(of_users, self.items, None, users)
            # An item without an interaction becomes zeros, as its regularization has it.
            self._side(of_items, users, roots, self.items)
            self._tower = ()
            yield

    def _roots(self, lengths: Int64) -> Tensor:
        """`[U, 1]` roots of the users' weights, which are 1 on average."""
        weights = np.maximum(lengths, 1).astype(np.float64) ** -self.config.user_power
        weights = np.where(lengths > 0, weights / weights[lengths > 0].mean(), 0)
        return torch.from_numpy(np.sqrt(weights).astype(np.float32))[:, None].to(self.device)

    def _side(self, had: sp.csr_matrix, fixed: Tensor, roots: Tensor | None, moved: Tensor) -> None:
        """Solves for `moved`, in place, block by block of rows of about equal length.

        Args:
            had: the interactions, one row for each that is moved.
            fixed: vectors of the other side.
            roots: `[U, 1]` of the users' weights, where items are moved; None: users are.
            moved: the first guess, and what is found.
        """
        scaled = fixed if roots is None else fixed * roots
        ridge = self._ridge(scaled, self.config.steps, self.missing if roots is None else None)
        sums = scaled if roots is None else scaled * roots
        lengths = np.diff(had.indptr)
        order = np.argsort(lengths, kind="stable")
        with progress() as bar:
            task = bar.add_task("users" if roots is None else "items", total=len(order))
            for lo, hi in pairwise(_edges(lengths[order])):
                rows = order[lo:hi]
                vectors = _padded(had, rows, scaled)
                whole = vectors if roots is None else _padded(had, rows, sums)
                places = to_indices(rows, fixed.device)
                counts = to_indices(lengths[rows], fixed.device)
                weighs = None if roots is None else self.missing[places][:, None]
                moved[places] = ridge.solve(vectors, counts, whole.sum(1), moved[places], weighs)
                bar.advance(task, len(rows))

    def _ridge(self, fixed: Tensor, steps: int, missing: Tensor | None) -> NestedRidge:
        config = self.config
        options = RidgeOptions(config.alpha, config.ridge, config.exponent, steps)
        return NestedRidge(fixed, self.granularities, options, missing)

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]`: solved from the most recent `history_length` interactions."""
        recent, tower = histories.last(self.config.history_length), self.user_tower()
        lengths = recent.lengths
        order = np.argsort(lengths, kind="stable")
        users = self.items.new_zeros(len(recent), self.items.shape[1])
        had = sp.csr_matrix(
            (np.ones(len(recent.items), np.float32), recent.items, recent.offsets),
            shape=(len(recent), len(self.items)),
        )
        for lo, hi in pairwise(_edges(lengths[order])):
            rows = order[lo:hi]
            counts = to_indices(lengths[rows], self.device)
            users[to_indices(rows, self.device)] = tower(_padded(had, rows, self.items), counts)
        return users

    def item_vectors(self) -> Tensor:
        """`[N, D]`."""
        return self.items

    def user_tower(self) -> NestedRidge:
        """The least squares of one user, with the items as they are."""
        if not self._tower:
            items, missing = self.items.detach(), self.missing.detach()
            self._tower = (self._ridge(items, self.config.user_steps, missing),)
        return self._tower[0]

    def train(self, mode: bool = True) -> IALS:
        """As of any `nn.Module`; items may be others from here on."""
        self._tower = ()
        return super().train(mode)


def _edges(lengths: Int64) -> list[int]:
    """Where blocks of rows, of ascending `lengths`, begin and end: each of few padded cells."""
    edges = [0]
    while edges[-1] < len(lengths):
        # All rows up to place p in one block are padded to the length at p.
        ahead = np.maximum(lengths[edges[-1] : edges[-1] + _CELLS], 1)
        cells = ahead * np.arange(1, len(ahead) + 1)
        edges.append(edges[-1] + max(1, int(np.searchsorted(cells, _CELLS, side="right"))))
    return edges


def _padded(had: sp.csr_matrix, rows: Int64, vectors: Tensor) -> Tensor:
    """`[B, L, D]`: vectors of what each row has, zeros behind them."""
    starts, lengths = had.indptr[rows], np.diff(had.indptr)[rows]
    steps = np.arange(max(1, lengths.max(initial=0)))
    present = steps < lengths[:, None]
    places = np.zeros(present.shape, np.int64)
    places[present] = had.indices[(starts[:, None] + steps)[present]]
    kept = torch.from_numpy(present).to(vectors.device)
    return vectors[to_indices(places, vectors.device)] * kept[:, :, None]
