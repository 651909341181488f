"""Nested binary cross-entropy weighed by degrees: the loss of UltraGCN between users and items.

Mao et al., UltraGCN: Ultra Simplification of Graph Convolutional Networks for Recommendation, CIKM
2021, eqs. 8 to 10. In the limit of infinitely many layers a user's vector is a sum of his items'
with the weights

    b(u, i) = sqrt(d(u) + 1) / d(u) * 1 / sqrt(d(i) + 1)

d the degrees. The loss of a pair is `-b(u, i) log sigmoid(s+)` and, for K drawn negatives, w times
the mean of `-b(u, k) log sigmoid(-s_k)`.

Departures from the paper: the weights of pairs without a constraint (w1 and w3, 1e-6 in its
configs) are 0; the pairs of a batch share their negatives; what a user has among the targets is no
negative of his. Negatives that are not drawn alike weigh in proportion to 1 / q.

Shape legend: U users of the batch, T pairs, K sampled negatives, G granularities, D embedding_dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from recsys.data.negatives import NegativesConfig
from recsys.granularity import Granularities
from recsys.layers.precision import sums_in_float32
from recsys.losses.base import LossConfig, Objective
from recsys.losses.pairs.grouped import negative_shares, owners_of
from recsys.losses.prefix_scales import prefix_scales
from recsys.losses.softmax import Negatives, NestedLossOutput, own_logits
from recsys.prefixes import prefix_logits


@dataclass(frozen=True)
class Constraints:
    """The factors of b(u, i)."""

    users: Tensor
    """`[U]`: `sqrt(d + 1) / d`."""
    items: Tensor
    """`[K + T]`: `1 / sqrt(d + 1)`, of the negatives and of the targets."""


class ConstrainedBCEConfig(LossConfig):
    """Options of the loss of UltraGCN; of `model.name: ultragcn` alone."""

    name: Literal["constrained_bce"] = "constrained_bce"
    negatives: NegativesConfig = NegativesConfig(uniform=1500)
    negative_weight: float = Field(default=300.0, gt=0)
    """w: weight of the negatives' mean beside the target."""

    def misfit(self, model: Any) -> str | None:
        """It needs the degrees of users and items."""
        if model.name == "ultragcn":
            return None
        return (
            "loss.name constrained_bce weighs pairs by the degrees of users and items, which "
            f"model.name ultragcn alone gives it, not {model.name}; choose gbce for another model"
        )

    def objective(self, num_items: int, num_sizes: int) -> Objective:
        """`ConstrainedBCE`."""
        return ConstrainedBCE(self.negative_weight)

    def grouped(self, num_items: int, num_sizes: int) -> Objective:
        """The same."""
        return ConstrainedBCE(self.negative_weight)


@dataclass(frozen=True)
class ConstrainedBCE:
    """The loss of pairs in which each user stands once."""

    negative_weight: float

    @sums_in_float32
    def __call__(
        self,
        users: Tensor,
        items: Tensor,
        targets: Tensor,
        scales: Tensor,
        granularities: Granularities,
        *,
        negatives: Negatives,
        lengths: Tensor,
        constraints: Constraints,
    ) -> NestedLossOutput:
        """The loss at every granularity, averaged over pairs; arguments as of `grouped_softmax`."""
        k = len(negatives.items)
        owners = owners_of(lengths, len(targets))
        pairs = users[owners]
        factors = prefix_scales(pairs, items[k:], scales, granularities)
        positive = softplus(-own_logits(pairs, items[k:], factors))  # [G, T]
        positive = positive * constraints.users[owners] * constraints.items[k:]
        shares = constraints.items[:k] * negative_shares(negatives, targets, owners, users)
        per_user = torch.stack(
            [
                (softplus(scores) * shares).sum(1)
                for scores in prefix_logits(users, items[:k], scales, granularities)
            ]
        )
        counts = (constraints.users * lengths / len(targets)).to(per_user.dtype)
        per_granularity = positive.mean(1) + self.negative_weight * (per_user @ counts)
        weights = users.new_tensor(granularities.normalized_weights)
        return NestedLossOutput(weights @ per_granularity, per_granularity.detach())
