"""SVD-GCN: a learned map of the leading singular directions of the graph.

Peng, Sugiyama and Mine, SVD-GCN: A Simplified Graph Convolution Paradigm for Recommendation, CIKM
2022. Infinitely many layers of a graph convolution are a filter of singular values: user u has
`p_u * exp(b s) W`, p_u his row of the leading left singular directions, s their values, and items
alike. Nothing is trained but W (and with `rows` a small correction of each user and item), so an
epoch takes seconds, and no neighbour is read in training.

Departures from the paper: W of users and of items may differ, and begins as the identity, so that
coordinates are nested from the start; softmax losses by default; the paper's losses between users
and between items are left out.

Shape legend: U users, N items, D embedding_dim, S singular directions.
"""

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.errors import ConfigError
from recsys.layers.graph import BipartiteGraph, leading_directions
from recsys.losses.pairs.grouped import grouped_softmax
from recsys.losses.softmax import NestedLossOutput
from recsys.models.pairs.base import PairModel, PairModelConfig


class SVDGCNConfig(PairModelConfig):
    """Options of SVD-GCN."""

    name: Literal["svd_gcn"] = "svd_gcn"
    directions: int = Field(default=256, ge=1)
    """Singular directions that are read; no more than the graph has."""
    strength: float = 2.0
    """The b of `exp(b s)`: how much the leading directions outweigh the others."""
    separate: bool = True
    """Users and items have a map W each."""
    rows: bool = False
    """Every user and item also has a trained row, zero at first, that is added."""

    @property
    def updatable(self) -> bool:
        """The directions are those of the graph that was decomposed."""
        return False


class SVDGCN(PairModel):
    """Singular directions of users and items (no parameters), and the map."""

    Config = SVDGCNConfig
    config: SVDGCNConfig
    user_directions: Tensor
    """`[U, S]`, filtered."""
    item_directions: Tensor
    """`[N, S]`, filtered."""

    def __init__(
        self,
        config: SVDGCNConfig,
        num_items: int,
        *,
        num_users: int = 0,
        features: ItemFeatures | None = None,
        objective: Callable[..., NestedLossOutput] = grouped_softmax,
    ) -> None:
        """See `PairModel`.

        Raises:
            ConfigError: the graph has not so many directions.
        """
        super().__init__(config, num_items, num_users, objective)
        dim, count = config.granularities.embedding_dim, config.directions
        if count > min(num_users, num_items):
            raise ConfigError(
                f"model.directions {count} is more than {num_users:,} users and {num_items:,} "
                "items have; lower it"
            )
        self.register_buffer("user_directions", torch.zeros(num_users, count))
        self.register_buffer("item_directions", torch.zeros(num_items, count))
        self.item_map = nn.Parameter(torch.eye(count, dim))
        self.user_map = nn.Parameter(torch.eye(count, dim)) if config.separate else self.item_map
        self.user_table = nn.Parameter(torch.zeros(num_users, dim)) if config.rows else None
        self.table = nn.Parameter(torch.zeros(num_items, dim)) if config.rows else None

    @torch.no_grad()
    def begin(self, rows: Callable[[int | None], Histories]) -> str | None:
        """Takes the directions of the graph."""
        if self._rows is None:
            raise ConfigError("svd_gcn was not told the rows of its graph (note_rows)")
        graph = BipartiteGraph(self._rows, self.num_users, self.num_items).to(self.device)
        values, users, items = leading_directions(graph, self.config.directions)
        weights = (self.config.strength * values).exp()
        found, wanted = len(values), self.config.directions
        self.user_directions[:, :found] = users * weights * self.num_users**0.5
        self.item_directions[:, :found] = items * weights * self.num_items**0.5
        if found == wanted:
            return None
        return (
            f"the training rows have {found} of {wanted} directions (model.directions); the others "
            "are zeros"
        )

    def vectors(self) -> tuple[Tensor, Tensor]:
        """The mapped directions, `[U, D]` and `[N, D]`."""
        users = self.user_directions @ self.user_map
        items = self.item_directions @ self.item_map
        if self.user_table is None or self.table is None:
            return users, items
        return users + self.user_table, items + self.table
