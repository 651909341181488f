"""LTGNN: vectors by an implicit graph layer, one sum over neighbours a step.

Zhang et al., Linear-Time Graph Neural Networks for Scalable Recommendations, WWW 2024. The vectors
solve `E = (1 - a) A E + a E0`, E0 the trained rows and A the weighted adjacency: personalized
PageRank, a sum over neighbours at every distance. A step does one iteration from where the step
before it ended, and its gradient one iteration of the same equation transposed, which likewise goes
on from the last one: what a batch has to say reaches distant neighbours in the steps that follow,
as if it had been solved at once. A step costs one layer whatever the reach; evaluation iterates
until the equation holds.

Departures from the paper: sums are over all neighbours (no sampling, so no variance to be reduced);
softmax losses by default and spectral first values, as in `lightgcn`.

Shape legend: U users, N items, D embedding_dim, R = U + N.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.layers.graph import BipartiteGraph, begin_spectral, checked_graph
from recsys.losses.grouped import grouped_softmax
from recsys.losses.softmax import NestedLossOutput
from recsys.models.pairs.base import PairModel, PairModelConfig
from recsys.tables.plain.dense import DenseConfig, DenseTable

_ITERATIONS = 50
"""At most; the error falls by 1 - a in each."""
_PRECISION = 1e-4


class LTGNNConfig(PairModelConfig):
    """Options of LTGNN."""

    name: Literal["ltgnn"] = "ltgnn"
    restart: float = Field(default=0.3, gt=0, le=1)
    """The share a of a user's or item's own row; 1: matrix factorization."""
    init: Literal["normal", "spectral"] = "spectral"
    """What rows begin as: random numbers, or the leading singular directions of the graph."""
    init_std: float = Field(default=0.1, gt=0)
    """Standard deviation of a coordinate of the rows (of spectral ones, of the first)."""


class LTGNN(PairModel):
    """Rows of users and items, and the state of the iteration and of its gradient."""

    Config = LTGNNConfig
    config: LTGNNConfig
    reached: Tensor
    """`[R, D]` where the iteration stands."""
    pulls: Tensor
    """`[R, D]` where that of the gradient stands."""

    def __init__(
        self,
        config: LTGNNConfig,
        num_items: int,
        *,
        num_users: int = 0,
        features: ItemFeatures | None = None,
        objective: Callable[..., NestedLossOutput] = grouped_softmax,
    ) -> None:
        """See `PairModel`."""
        super().__init__(config, num_items, num_users, objective)
        dim, std = config.granularities.embedding_dim, config.init_std
        self.user_table = DenseTable(DenseConfig(), num_users, dim, init_std=std)
        self.table = DenseTable(DenseConfig(), num_items, dim, init_std=std)
        for name in ("reached", "pulls"):
            self.register_buffer(name, torch.zeros(num_users + num_items, dim))
        self.graph: BipartiteGraph | None = None

    def note_rows(self, rows: Histories) -> None:
        """Makes the graph."""
        super().note_rows(rows)
        self.graph = BipartiteGraph(rows, self.num_users, self.num_items).to(self.device)

    @torch.no_grad()
    def begin(self) -> None:
        """First values of the rows, and the solution of the equation for them."""
        graph = checked_graph(self.graph)
        if self.config.init == "spectral":
            begin_spectral(graph, self.user_table.weight, self.table.weight, self.config.init_std)
        self.reached.copy_(self._solved(graph))

    def vectors(self) -> tuple[Tensor, Tensor]:
        """`[U, D]` and `[N, D]`: one iteration further in training, else the solution."""
        graph = checked_graph(self.graph)
        if self.training:
            step: Callable[..., Tensor] = _Iteration.apply
            found = step(self._rows_of(), self, graph)
        else:
            found = self._solved(graph)
        return found[: self.num_users], found[self.num_users :]

    def further(self, graph: BipartiteGraph, state: Tensor) -> Tensor:
        """`(1 - a) A state`, `[R, D]`; A is its own transpose."""
        users, items = graph.propagate(state[: self.num_users], state[self.num_users :])
        return torch.cat([users, items]) * (1.0 - self.config.restart)

    def _rows_of(self) -> Tensor:
        """`[R, D]` the trained rows."""
        return torch.cat([self.user_table.weight, self.table.weight])

    def _solved(self, graph: BipartiteGraph) -> Tensor:
        rows = self.config.restart * self._rows_of()
        state = self.reached if self.reached.any() else rows
        for _ in range(_ITERATIONS):
            after = self.further(graph, state) + rows
            change = (after - state).norm() / after.norm().clamp_min(1e-12)
            state = after
            if float(change) < _PRECISION:
                break
        return state


class _Iteration(torch.autograd.Function):
    """One iteration of the vectors; in backward one of the gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, model: LTGNN, graph: BipartiteGraph) -> Tensor:
        ctx.model, ctx.graph = model, graph
        after = model.further(graph, model.reached) + model.config.restart * rows
        model.reached.copy_(after)
        return after

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        model: LTGNN = ctx.model
        after = grad + model.further(ctx.graph, model.pulls)
        model.pulls.copy_(after)
        return model.config.restart * after, None, None
