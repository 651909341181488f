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

Shape legend: U users, N items, D embedding_dim.
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
from recsys.losses.pairs.grouped import grouped_softmax
from recsys.losses.softmax import NestedLossOutput
from recsys.models.pairs.base import PairModel, PairModelConfig
from recsys.tables.plain.dense import DenseConfig, DenseTable

_ITERATIONS = 50
"""At most; the error falls by 1 - a in each."""
_PRECISION = 1e-4
Pair = tuple[Tensor, Tensor]
"""Of users and of items."""


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
    user_reached: Tensor
    item_reached: Tensor
    """`[U, D]` and `[N, D]` where the iteration stands."""
    user_pulls: Tensor
    item_pulls: Tensor
    """`[U, D]` and `[N, D]` where that of the gradient stands."""

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
            self.register_buffer(f"user_{name}", torch.zeros(num_users, dim))
            self.register_buffer(f"item_{name}", torch.zeros(num_items, dim))
        self.graph: BipartiteGraph | None = None

    def note_rows(self, rows: Histories) -> None:
        """Makes the graph."""
        super().note_rows(rows)
        self.graph = BipartiteGraph(rows, self.num_users, self.num_items).to(self.device)

    @torch.no_grad()
    def begin(self, rows: Callable[[int | None], Histories]) -> str | None:
        """First values of the rows, and the solution of the equation for them."""
        graph = checked_graph(self.graph)
        told = None
        if self.config.init == "spectral":
            weights = self.user_table.weight, self.table.weight
            told = begin_spectral(graph, *weights, self.config.init_std)
        self.user_reached.zero_(), self.item_reached.zero_()
        users, items = self._solved(graph)
        self.user_reached.copy_(users)
        self.item_reached.copy_(items)
        return told

    def why_items_move(self) -> str:
        """The graph grows, and users move."""
        return f"those of {self.config.name} are sums over the graph"

    def vectors(self) -> tuple[Tensor, Tensor]:
        """`[U, D]` and `[N, D]`: one iteration further in training, else the solution."""
        graph = checked_graph(self.graph)
        if not self.training:
            return self._solved(graph)
        step: Callable[..., tuple[Tensor, Tensor]] = _Iteration.apply
        return step(self.user_table.weight, self.table.weight, self, graph)

    def further(self, graph: BipartiteGraph, users: Tensor, items: Tensor) -> Pair:
        """`(1 - a) A` times the vectors; A is its own transpose."""
        kept = 1.0 - self.config.restart
        users, items = graph.propagate(users, items)
        return users * kept, items * kept

    def _solved(self, graph: BipartiteGraph) -> Pair:
        rows = (self.user_table.weight.detach(), self.table.weight.detach())
        state = (self.user_reached, self.item_reached)
        for _ in range(_ITERATIONS):
            after = self.stepped(self.further(graph, *state), rows)
            change = sum(float((a - b).norm()) for a, b in zip(after, state, strict=True))
            state = after
            if change < _PRECISION * sum(float(part.norm()) for part in after):
                break
        return state

    def stepped(self, further: Pair, rows: Pair) -> Pair:
        """One iteration: what came over the edges, and the share of the rows."""
        users, items = (a + self.config.restart * b for a, b in zip(further, rows, strict=True))
        return users, items


class _Iteration(torch.autograd.Function):
    """One iteration of the vectors; in backward one of the gradient."""

    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, model: LTGNN, graph: BipartiteGraph
    ) -> Pair:
        ctx.model, ctx.graph = model, graph
        further = model.further(graph, model.user_reached, model.item_reached)
        users, items = model.stepped(further, (users, items))
        model.user_reached.copy_(users)
        model.item_reached.copy_(items)
        return users, items

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, user_grad: Tensor, item_grad: Tensor) -> tuple[Tensor | None, ...]:
        model: LTGNN = ctx.model
        users, items = model.further(ctx.graph, model.user_pulls, model.item_pulls)
        users, items = users + user_grad, items + item_grad
        model.user_pulls.copy_(users)
        model.item_pulls.copy_(items)
        return model.config.restart * users, model.config.restart * items, None, None
