"""Nested BPR: pairwise loss of the target against sampled negatives.

Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback, UAI 2009:
`-log sigmoid(s+ - s-)`. Departure from the paper: all tokens of a batch share K negatives, and a
token's loss is the mean over those that are not its own target; with logQ correction they weigh in
proportion to 1 / q, so that the mean is as of uniform draws.

Shape legend: T tokens (positions with a target), K sampled negatives, G granularities, D
embedding_dim.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from recsys.data.negatives import NegativesConfig
from recsys.granularity import Granularities
from recsys.layers.precision import sums_in_float32
from recsys.losses.base import LossConfig, Objective
from recsys.losses.prefix_scales import prefix_scales
from recsys.losses.softmax import Negatives, NestedLossOutput, own_logits
from recsys.prefixes import prefix_logits


class BPRConfig(LossConfig):
    """Options of the pairwise loss against sampled negatives."""

    name: Literal["bpr"] = "bpr"
    negatives: NegativesConfig = NegativesConfig()

    def objective(self, num_items: int, num_sizes: int) -> Objective:
        """`nested_bpr`."""
        return nested_bpr


@sums_in_float32
def nested_bpr(
    users: Tensor,
    items: Tensor,
    targets: Tensor,
    scales: Tensor,
    granularities: Granularities,
    *,
    negatives: Negatives,
) -> NestedLossOutput:
    """The BPR loss at every granularity.

    Args:
        users: `[T, D]` user vectors.
        items: `[K + T, D]` item vectors: of the negatives, then of each token's target.
        targets: `[T]` item indices.
        scales: `[G]`, see `ScoreScales`.
        granularities: sizes, weights and normalization.
        negatives: the sampled candidates.

    Returns:
        The loss, averaged over tokens.
    """
    k = len(negatives.items)
    factors = prefix_scales(users, items, scales, granularities)
    positive = own_logits(users, items[k:], factors.of(slice(k, None)))  # [G, T]
    shares = _shares(negatives, targets, users)
    logits = prefix_logits(users, items[:k], scales, granularities)
    per_granularity = torch.stack(
        [
            (softplus(scores - own[:, None]) * shares).sum(1).mean()
            for scores, own in zip(logits, positive, strict=True)
        ]
    )
    weights = users.new_tensor(granularities.normalized_weights)
    return NestedLossOutput(weights @ per_granularity, per_granularity.detach())


def _shares(negatives: Negatives, targets: Tensor, like: Tensor) -> Tensor:
    """`[T, K]` what each negative counts in a token's mean; its own target counts nothing."""
    weight = like.new_ones(len(negatives.items))
    if negatives.log_q is not None:
        weight = (-negatives.log_q).softmax(0).to(like.dtype)
    shares = weight * (negatives.items != targets[:, None])
    return shares / shares.sum(1, keepdim=True).clamp_min(1e-12)
