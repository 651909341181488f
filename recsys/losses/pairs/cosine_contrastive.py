"""Nested cosine contrastive loss: targets near their user, negatives no nearer than a margin.

Mao et al., SimpleX: A Simple and Strong Baseline for Collaborative Filtering, CIKM 2021. The loss
of a pair at one granularity, with the cosines of the prefixes, is

    (1 - cos(user, target)) + w * mean over negatives of max(0, cos(user, negative) - m)

with the margin m and the weight w of the negatives. A negative that is far enough away has no
gradient: the many easy ones do not drown the few hard ones.

Departures from the paper: the pairs of a batch share their negatives, and what a user has among the
targets is no negative of his; negatives that are not drawn alike weigh in proportion to 1 / q.

Shape legend: U users (or tokens), T pairs, K sampled negatives, G granularities, D embedding_dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import relu

from recsys.data.negatives import NegativesConfig
from recsys.granularity import Granularities
from recsys.layers.precision import sums_in_float32
from recsys.losses.base import LossConfig, Objective
from recsys.losses.pairs.grouped import negative_shares, owners_of
from recsys.losses.prefix_scales import prefix_scales
from recsys.losses.softmax import Negatives, NestedLossOutput, own_logits
from recsys.prefixes import prefix_logits


class CosineContrastiveConfig(LossConfig):
    """Options of the cosine contrastive loss; scores are cosines (`model.granularities`)."""

    name: Literal["cosine_contrastive"] = "cosine_contrastive"
    negatives: NegativesConfig = NegativesConfig(uniform=2048)
    margin: float = Field(default=0.4, ge=-1, lt=1)
    """Cosine up to which a negative costs nothing."""
    negative_weight: float = Field(default=150.0, gt=0)
    """Weight of the negatives' mean beside the target."""

    def misfit(self, model: Any) -> str | None:
        """It needs cosines."""
        if model.granularities.normalize:
            return None
        return (
            "loss.name cosine_contrastive compares cosines; set "
            "model.granularities.normalize=true, or choose another loss"
        )

    def objective(self, num_items: int, num_sizes: int) -> Objective:
        """`CosineContrastive`."""
        return CosineContrastive(self.margin, self.negative_weight)

    def grouped(self, num_items: int, num_sizes: int) -> Objective:
        """The same, with each user once."""
        return CosineContrastive(self.margin, self.negative_weight)


@dataclass(frozen=True)
class CosineContrastive:
    """The loss of tokens, or with `lengths` of pairs in which each user stands once."""

    margin: float
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
        lengths: Tensor | None = None,
    ) -> NestedLossOutput:
        """The loss at every granularity.

        Args:
            users: `[U, D]`.
            items: `[K + T, D]`: of the negatives, then of the targets.
            targets: `[T]` item indices, user by user.
            scales: `[G]`; not used.
            granularities: sizes, weights and normalization.
            negatives: the sampled candidates.
            lengths: `[U]` pairs of each user; None: one.

        Returns:
            The loss, averaged over pairs.
        """
        k = len(negatives.items)
        lengths = users.new_ones(len(users), dtype=torch.int64) if lengths is None else lengths
        owners = owners_of(lengths, len(targets))
        ones = users.new_ones(len(granularities))
        pairs = users[owners]
        factors = prefix_scales(pairs, items[k:], ones, granularities)
        positive = 1.0 - own_logits(pairs, items[k:], factors)  # [G, T]
        shares = negative_shares(negatives, targets, owners, users)
        per_user = torch.stack(
            [
                (relu(cosines - self.margin) * shares).sum(1)
                for cosines in prefix_logits(users, items[:k], ones, granularities)
            ]
        )
        of_pairs = per_user @ (lengths / len(targets)).to(per_user.dtype)
        per_granularity = positive.mean(1) + self.negative_weight * of_pairs
        weights = users.new_tensor(granularities.normalized_weights)
        return NestedLossOutput(weights @ per_granularity, per_granularity.detach())
