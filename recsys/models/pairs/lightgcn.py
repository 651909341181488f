"""LightGCN: vectors of users and items that are sums over their neighbours in the graph.

He et al., LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation, SIGIR
2020. One row for each user and item is trained; a layer replaces every row by the weighted sum of
its neighbours, and the vectors are the mean of all layers, the rows among them.

The layers are linear and the same for every pair, so they are computed once a step for the whole
graph; its cost does not depend on the batch, and few large batches make an epoch cheap
(`batching.batch_tokens`). A step learns from all pairs of some users at once, each user's scores
being computed once (`losses.pairs.grouped`).

Departures from the paper: a softmax over cosines by default (Wu et al., On the
Effectiveness of Sampled Softmax Loss, TOIS 2024) instead of BPR, which is `loss.name: bpr`; rows
may begin as the leading singular directions of the graph (`init: spectral`), the signal that the
layers let through (Shen et al., GF-CF, CIKM 2021), so that fewer epochs are needed and coordinates
are nested from the start.

Shape legend: U users, N items, D embedding_dim, L layers.
"""

from collections.abc import Callable
from typing import Literal

from pydantic import Field
from torch import Tensor

from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.layers.graph import BipartiteGraph, begin_spectral, checked_graph
from recsys.losses.pairs.grouped import grouped_softmax
from recsys.losses.softmax import NestedLossOutput
from recsys.models.pairs.base import PairModel, PairModelConfig
from recsys.tables.plain.dense import DenseConfig, DenseTable


class LightGCNConfig(PairModelConfig):
    """Options of LightGCN."""

    name: Literal["lightgcn"] = "lightgcn"
    layers: int = Field(default=3, ge=0)
    """Sums over neighbours of neighbours; 0: matrix factorization."""
    init: Literal["normal", "spectral"] = "spectral"
    """What rows begin as: random numbers, or the leading singular directions of the graph."""
    init_std: float = Field(default=0.1, gt=0)
    """Standard deviation of a coordinate of the rows (of spectral ones, of the first)."""


class LightGCN(PairModel):
    """Rows of users and items, smoothed along the graph."""

    Config = LightGCNConfig
    config: LightGCNConfig
    graph: BipartiteGraph | None

    def __init__(
        self,
        config: LightGCNConfig,
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
        self.graph = None

    def note_rows(self, rows: Histories) -> None:
        """Makes the graph."""
        super().note_rows(rows)
        self.graph = BipartiteGraph(rows, self.num_users, self.num_items).to(self.device)

    def begin(self, rows: Callable[[int | None], Histories]) -> str | None:
        """Puts the leading directions into the rows, if the config says so."""
        if self.config.init != "spectral":
            return None
        graph, std = checked_graph(self.graph), self.config.init_std
        return begin_spectral(graph, self.user_table.weight, self.table.weight, std)

    def why_items_move(self) -> str:
        """The graph grows, and users move."""
        return f"those of {self.config.name} are sums over the graph"

    def vectors(self) -> tuple[Tensor, Tensor]:
        """The means of all layers, `[U, D]` and `[N, D]`."""
        graph = checked_graph(self.graph)
        users: Tensor = self.user_table.weight
        items: Tensor = self.table.weight
        total_users, total_items = users, items
        for _ in range(self.config.layers):
            users, items = graph.propagate(users, items)
            total_users, total_items = total_users + users, total_items + items
        share = 1.0 / (self.config.layers + 1)
        return total_users * share, total_items * share
