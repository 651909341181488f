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

from recsys.data.negatives import NegativesConfig
from recsys.granularity import Granularities
from recsys.layers.precision import sums_in_float32
from recsys.losses.base import LossConfig, Objective
from recsys.losses.prefix_scales import prefix_scales
from recsys.losses.softmax import Negatives, NestedLossOutput, find_places, own_logits
from recsys.losses.softplus import weighted_softplus

_NONE = 1e-12
"""What the negatives of a token count together that has none but its own target."""


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
    own = own_logits(users, items[k:], factors.of(slice(k, None)))  # [G, T]
    weight, skip = _weigh(negatives, users), find_places(negatives.items, targets)
    present = torch.where(skip >= 0, weight[skip], 0.0)
    rest = (weight.sum() - present).clamp_min(_NONE)  # [T]
    importance = users.new_tensor(granularities.normalized_weights)
    total, sums = weighted_softplus(
        users,
        items[:k],
        factors.of(slice(k)),
        bias=-own,
        weight=weight,
        coefficient=importance[:, None] / (rest * len(users)),
        skip=skip,
    )
    return NestedLossOutput(total, (sums / rest).mean(1))


def _weigh(negatives: Negatives, like: Tensor) -> Tensor:
    """`[K]` what each negative counts in a token's mean: in proportion to 1 / q, one in sum."""
    k = len(negatives.items)
    if negatives.log_q is None:
        return like.new_full((k,), 1.0 / k)
    return (-negatives.log_q).softmax(0).to(like.dtype)
