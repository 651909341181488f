"""ELSA: a linear autoencoder whose weights are the products of item vectors.

Vančura et al., Scalable Linear Shallow Autoencoder for Collaborative Filtering, RecSys 2022. Items
are vectors of length 1, a user is the sum of the vectors of what was had, and the scores are
`x A A^T - x` for a history x. What is trained is the cosine of a history with its scores.

Departures from the paper: the loss is taken at every prefix; the N scores of a user are never made,
as their squares sum up to `u^T (A^T A) u` (a product of D by D for each user), less what the items
of the history have of themselves. So a step costs one Gram matrix of the items, whatever the number
of its users, and the leading corner of that matrix is the one of every prefix. The paper's
implementation clips negative scores at 0, which this form cannot.

With a table of sparse rows (`recsys.tables.compressed.sparse`) it is Compressed ELSA: Vančura et
al., Efficient Learning of Sparse Representations from Interactions, WWW 2026.

Shape legend: B users, T items of all histories, N items, D embedding_dim, G granularities.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.data.batching import Batch
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.devices import to_indices
from recsys.layers.histories.sums import HistorySum, history_sums
from recsys.losses.softmax import Negatives, NestedLossOutput, ScoreScales, nested_softmax
from recsys.models.base import Model, ModelConfig
from recsys.prefixes import prefix_norms
from recsys.tables import DenseConfig, EmbeddingTable, TableConfig, build_table

_LEAST_SQUARE = 1e-6


class ELSAConfig(ModelConfig):
    """Options of ELSA."""

    name: Literal["elsa"] = "elsa"
    history_length: int = Field(default=10_000, ge=2)
    """Most recent interactions of a user that are read."""
    table: TableConfig = DenseConfig()
    """What holds the item vectors, of any length; scores take them as of length 1. `sparse`: each
    keeps a few coordinates."""
    init_std: float = Field(default=0.02, gt=0)

    @property
    def pairs(self) -> bool:
        """No order is looked at."""
        return True

    @property
    def own_loss(self) -> bool:
        """The cosine of histories with their scores."""
        return True


class ELSA(Model):
    """User vectors are sums of item vectors, which are of length 1."""

    Config = ELSAConfig
    config: ELSAConfig

    def __init__(
        self,
        config: ELSAConfig,
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
        objective: not used: the loss is the model's own.
        """
        super().__init__()
        self.config, self.granularities = config, config.granularities
        dim, sizes = self.granularities.embedding_dim, self.granularities.sizes
        built = build_table(config.table, num_items, dim, init_std=config.init_std, sizes=sizes)
        self.table = cast(EmbeddingTable, built)
        self.scales = ScoreScales(self.granularities)

    def loss(self, batch: Batch, negatives: Negatives | None) -> NestedLossOutput:
        """1 less the cosine of each history with its scores, twice, at every granularity."""
        histories, items = batch.histories, self.item_vectors()
        places = to_indices(histories.items, self.device)
        own = nn.functional.embedding(places, items)
        users = history_sums(histories, own)
        lengths = to_indices(histories.lengths, self.device)
        rows = torch.arange(len(lengths), device=self.device).repeat_interleave(
            lengths, output_size=len(places)
        )
        norms = prefix_norms(items, self.granularities) if self.granularities.normalize else None
        scored, itself, squares = self._of_history(users[rows], own, norms, places, users, items)
        others = scored - itself
        counts = lengths.to(items.dtype)
        found = items.new_zeros(len(scored), len(counts)).index_add(1, rows, others)
        excess = items.new_zeros(len(scored), len(counts)).index_add(
            1, rows, scored.square() - others.square()
        )
        lengths_of_scores = (squares - excess).clamp_min(_LEAST_SQUARE).sqrt()
        losses = (2 - 2 * found / (counts.sqrt() * lengths_of_scores)).mean(1)
        weights = losses.new_tensor(self.granularities.normalized_weights)
        return NestedLossOutput(weights @ losses, losses.detach())

    def _of_history(
        self,
        readers: Tensor,
        own: Tensor,
        norms: Tensor | None,
        places: Tensor,
        users: Tensor,
        items: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """At every granularity: scores of the histories' items `[G, T]`, the share in them that
        each item has of itself `[G, T]`, and sums of squared scores of all items `[G, B]`.
        """
        slices = self.granularities.slices
        widths = [hi - lo for lo, hi in slices]
        scored = torch.stack([p.sum(1) for p in (readers * own).split(widths, 1)]).cumsum(0)
        itself = torch.stack([p.sum(1) for p in own.square().split(widths, 1)]).cumsum(0)
        if norms is None:
            gram = items.T @ items
            squares = [_squares(users[:, :hi], gram[:hi, :hi]) for _, hi in slices]
            return scored, itself, torch.stack(squares)
        squares = []
        for g, (_, hi) in enumerate(slices):
            prefix = items[:, :hi] / norms[g][:, None]
            squares.append(_squares(users[:, :hi], prefix.T @ prefix))
        chosen = norms[:, places]
        return scored / chosen, itself / chosen, torch.stack(squares)

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]`: sums of the item vectors of the most recent `history_length` interactions."""
        recent = histories.last(self.config.history_length)
        rows = self.table(to_indices(recent.items, self.device))
        return history_sums(recent, nn.functional.normalize(rows))

    def item_vectors(self) -> Tensor:
        """`[N, D]`, of length 1."""
        return nn.functional.normalize(self.table.vectors())

    def user_tower(self) -> nn.Module:
        """The sum."""
        return HistorySum()


def _squares(users: Tensor, gram: Tensor) -> Tensor:
    """`[B]` sums of the squared scores of all items, whose Gram matrix is given."""
    return ((users @ gram) * users).sum(1)
