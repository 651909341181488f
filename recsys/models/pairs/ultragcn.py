"""UltraGCN: constraints of a graph convolution as losses, without sums over neighbours.

Mao et al., UltraGCN: Ultra Simplification of Graph Convolutional Networks for Recommendation, CIKM
2021. Rows of users and items, trained on pairs of users and items (`loss.name: constrained_bce`,
whose weights are those of infinitely many layers; or any other loss) and on pairs of items: a user
is also near the items that are had together with his own, each of which has the weight

    w(i, j) = G_ij / (g_i - G_ii) * sqrt(g_i / g_j)

G the counts of users who have both, g its row sums; of each item the `neighbours` with the largest
weights are kept.

Departures from the paper: what a batch has of neighbours is one per pair, drawn in proportion to
its weight, instead of all ten; it costs as much as the pairs do.

Shape legend: B users of a batch, P pairs, U users, N items, S neighbours of an item, K negatives, D
embedding_dim.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from recsys.arrays import Float32, Int64
from recsys.data.batching import Batch
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.devices import to_indices
from recsys.layers.graph import BipartiteGraph, begin_spectral
from recsys.losses.pairs.constrained import ConstrainedBCE, Constraints
from recsys.losses.pairs.grouped import grouped_softmax, owners_of
from recsys.losses.prefix_scales import prefix_scales
from recsys.losses.softmax import Negatives, NestedLossOutput, own_logits
from recsys.models.pairs.base import PairModel, PairModelConfig
from recsys.tables.plain.dense import DenseConfig, DenseTable

_BLOCK = 1 << 11
"""Items whose counts are taken at once."""


class UltraGCNConfig(PairModelConfig):
    """Options of UltraGCN."""

    name: Literal["ultragcn"] = "ultragcn"
    neighbours: int = Field(default=10, ge=1)
    """Other items that each item has in the constraints between items."""
    item_weight: float = Field(default=1.0, ge=0)
    """Of the loss of neighbours beside that of pairs; 0: without."""
    init: Literal["normal", "spectral"] = "spectral"
    """What rows begin as: random numbers, or the leading singular directions of the graph."""
    init_std: float = Field(default=0.1, gt=0)
    """Standard deviation of a coordinate of the rows (of spectral ones, of the first)."""


class UltraGCN(PairModel):
    """Rows of users and items."""

    Config = UltraGCNConfig
    config: UltraGCNConfig
    user_factors: Tensor
    item_factors: Tensor
    neighbours: Tensor
    """`[N, S]` int64."""
    cumulative: Tensor
    """`[N, S]` running sums of their weights."""

    def __init__(
        self,
        config: UltraGCNConfig,
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
        near = num_items, config.neighbours
        first = {
            "user_factors": torch.zeros(num_users),
            "item_factors": torch.zeros(num_items),
            "neighbours": torch.zeros(near, dtype=torch.int64),
            "cumulative": torch.zeros(near),
        }
        for name, values in first.items():
            self.register_buffer(name, values, persistent=False)

    def note_rows(self, rows: Histories) -> None:
        """Counts degrees."""
        super().note_rows(rows)
        matrix = rows.to_csr(self.num_items)
        degrees = np.zeros(self.num_users)
        degrees[rows.users] = np.diff(matrix.indptr)
        self.user_factors.copy_(torch.from_numpy(np.sqrt(degrees + 1) / np.maximum(degrees, 1)))
        of_items = np.bincount(matrix.indices, minlength=self.num_items)
        self.item_factors.copy_(torch.from_numpy(1.0 / np.sqrt(of_items + 1)))

    def begin(self, rows: Callable[[int | None], Histories]) -> str | None:
        """Puts the leading directions into the rows, if the config says so."""
        if self.config.init != "spectral":
            return None
        graph = BipartiteGraph(rows(None), self.num_users, self.num_items).to(self.device)
        std = self.config.init_std
        return begin_spectral(graph, self.user_table.weight, self.table.weight, std)

    def train(self, mode: bool = True) -> "UltraGCN":
        """As of any `nn.Module`; the first time that it trains, neighbours are found."""
        super().train(mode)
        if (
            mode
            and self._rows is not None
            and self.config.item_weight
            and not self.cumulative.any()
        ):
            found, weights = item_neighbours(self._rows, self.num_items, self.config.neighbours)
            self.neighbours.copy_(torch.from_numpy(found))
            self.cumulative.copy_(torch.from_numpy(weights).cumsum(1))
        return self

    def vectors(self) -> tuple[Tensor, Tensor]:
        """The rows."""
        return self.user_table.weight, self.table.weight

    def loss(self, batch: Batch, negatives: Negatives | None) -> NestedLossOutput:
        """The objective of every pair and the constraints between items, at every granularity."""
        targets = to_indices(batch.targets, self.device)
        lengths = to_indices(batch.histories.lengths, self.device)
        indices = to_indices(batch.histories.users, self.device)
        users = self.dropout(self.personal(self.user_table(indices)))
        more = {}
        if negatives is None:
            items = self.dropout(self.personal(self.table.weight))
        else:
            candidates = torch.cat([negatives.items, targets])
            items = self.dropout(self.personal(self.table(candidates)))
            if isinstance(self.objective, ConstrainedBCE):
                factors = self.user_factors[indices], self.item_factors[candidates]
                more["constraints"] = Constraints(*factors)
        found: NestedLossOutput = self.objective(
            users, items, targets, self.scales(), self.granularities,
            negatives=negatives, lengths=lengths, **more,
        )  # fmt: skip
        if not self.config.item_weight:
            return found
        return self._with_neighbours(found, users, lengths, targets)

    def _with_neighbours(
        self, found: NestedLossOutput, users: Tensor, lengths: Tensor, targets: Tensor
    ) -> NestedLossOutput:
        """The loss with that of one neighbour of each pair's item, scored by the pair's user."""
        totals = self.cumulative[targets]
        points = torch.rand(len(targets), 1, device=targets.device) * totals[:, -1:]
        places = (totals <= points).sum(1, keepdim=True).clamp_max(totals.shape[1] - 1)
        near = self.neighbours[targets].gather(1, places).squeeze(1)
        pairs = users[owners_of(lengths, len(targets))]
        items = self.dropout(self.personal(self.table(near)))
        factors = prefix_scales(pairs, items, self.scales(), self.granularities)
        losses = -logsigmoid(own_logits(pairs, items, factors)) * totals[:, -1]  # [G, P]
        per_granularity = self.config.item_weight * losses.mean(1)
        weights = per_granularity.new_tensor(self.granularities.normalized_weights)
        return replace(
            found,
            total=found.total + weights @ per_granularity,
            per_granularity=found.per_granularity + per_granularity.detach(),
        )


def item_neighbours(rows: Histories, num_items: int, count: int) -> tuple[Int64, Float32]:
    """The items that each item is most often had with, by the weight of UltraGCN.

    Args:
        rows: the training rows.
        num_items: N.
        count: S.

    Returns:
        `[N, S]` indices and weights, those of most weight first; weight 0 where there are fewer.
    """
    matrix = rows.to_csr(num_items)
    sums = np.asarray(matrix.T @ matrix.sum(1)).ravel()  # g: row sums of G
    own = np.bincount(matrix.indices, minlength=num_items).astype(np.float64)
    of_row = np.sqrt(sums) / np.maximum(sums - own, 1e-12)
    of_column = 1.0 / np.sqrt(np.maximum(sums, 1e-12))
    transposed = matrix.T.tocsr()
    found = np.zeros((num_items, count), np.int64)
    weights = np.zeros((num_items, count), np.float32)
    for lo in range(0, num_items, _BLOCK):
        block = (transposed[lo : lo + _BLOCK] @ matrix).tocoo()
        _keep_largest(block, lo, of_row, of_column, (found, weights))
    return found, weights


def _keep_largest(
    counts: sp.coo_matrix,
    lo: int,
    of_row: np.ndarray,
    of_column: np.ndarray,
    out: tuple[Int64, Float32],
) -> None:
    """Puts the items of most weight of a block of rows, which begins at `lo`, into `out`."""
    others = counts.col != counts.row + lo
    row, col = counts.row[others].astype(np.int64), counts.col[others]
    values = counts.data[others] * of_row[row + lo] * of_column[col]
    order = np.lexsort((-values, row))
    row, col, values = row[order], col[order], values[order]
    number = np.bincount(row, minlength=counts.shape[0])
    place = np.arange(len(row)) - np.repeat(np.cumsum(number) - number, number)
    kept = place < out[0].shape[1]
    out[0][row[kept] + lo, place[kept]] = col[kept]
    out[1][row[kept] + lo, place[kept]] = values[kept]
