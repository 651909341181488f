"""Nested gBCE: binary cross-entropy with sampled negatives and calibration.

Petrov and Macdonald, gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with
Negative Sampling, RecSys 2023. A token's loss at one granularity is

    -log sigmoid(x+)^beta - sum_k log(1 - sigmoid(x_k))
    alpha = K / (N - 1)
    beta = alpha (t (1 - 1 / alpha) + 1 / alpha) = 1 - t (1 - alpha)

with the sampling rate alpha and the calibration t. t = 0 is plain binary cross-entropy; t = 1 gives
the probabilities that training on the whole catalogue would give.

Departures from the paper:
- x is a score plus log(beta / K), by which a token whose scores are all 0 has the smallest loss,
  plus a learned number of each granularity (`GBCE`; as in SigLIP, Zhai et al., ICCV 2023). A rare
  positive needs low scores of nearly all items. Cosines can only give them if all users and all
  items lie apart, and training is busy with that before it tells one item from another. Ranks do
  not change by what all items share.
- It is not divided by K + 1: gradients then have the size of those of a softmax. Divided, they
  come near the epsilon of Adam, whose steps get short.
- The tokens of a batch share their negatives, and a token's own target is not one of them (K counts
  the others). Negatives that are not drawn alike weigh in proportion to 1 / q, one on average.

Shape legend: T tokens (positions with a target), K sampled negatives, N items, G granularities,
D embedding_dim.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from recsys.data.negatives import NegativesConfig
from recsys.granularity import Granularities
from recsys.layers.precision import sums_in_float32
from recsys.losses.base import LossConfig, Objective
from recsys.losses.prefix_scales import prefix_scales
from recsys.losses.softmax import Negatives, NestedLossOutput, find_places, own_logits
from recsys.losses.softplus import weighted_softplus

_PACE = 20.0
"""The optimizer moves a parameter by about its rate a step, a thousandth: the bias is to keep up
with scores, which have a scale of 15."""
_FEW = 1e-3
"""A token whose only negative is its own target has none at all."""


@dataclass(frozen=True)
class Calibration:
    """Correction of the target's probability for negatives that were not drawn."""

    num_items: int
    """N, the size of the catalogue."""
    share: float
    """t, in 0..1."""

    def power(self, num_negatives: Tensor) -> Tensor:
        """Beta of tokens with so many negatives."""
        return 1.0 - self.share * (1.0 - num_negatives / max(self.num_items - 1, 1))


class GBCEConfig(LossConfig):
    """Options of calibrated binary cross-entropy over sampled negatives."""

    name: Literal["gbce"] = "gbce"
    negatives: NegativesConfig = NegativesConfig()
    calibration: float = Field(default=0.75, ge=0, le=1)
    """0: binary cross-entropy, overconfident; 1: probabilities as of all items."""

    def objective(self, num_items: int, num_sizes: int) -> Objective:
        """A module: its biases are trained."""
        return GBCE(num_sizes, num_items, self.calibration)


class GBCE(nn.Module):
    """The loss, with one learned bias for each granularity that is added to its scores."""

    def __init__(self, num_sizes: int, num_items: int, calibration: float) -> None:
        """`num_sizes`: G; for the others see `Calibration`."""
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(num_sizes))
        self.calibration = Calibration(num_items, calibration)

    def forward(
        self,
        users: Tensor,
        items: Tensor,
        targets: Tensor,
        scales: Tensor,
        granularities: Granularities,
        *,
        negatives: Negatives,
    ) -> NestedLossOutput:
        """See `nested_gbce`."""
        return nested_gbce(
            users,
            items,
            targets,
            scales,
            granularities,
            negatives=negatives,
            calibration=self.calibration,
            bias=_PACE * self.shift,
        )


@sums_in_float32
def nested_gbce(
    users: Tensor,
    items: Tensor,
    targets: Tensor,
    scales: Tensor,
    granularities: Granularities,
    *,
    negatives: Negatives,
    calibration: Calibration,
    bias: Tensor | None = None,
) -> NestedLossOutput:
    """The gBCE loss at every granularity.

    Args:
        users: `[T, D]` user vectors.
        items: `[K + T, D]` item vectors: of the negatives, then of each token's target.
        targets: `[T]` item indices.
        scales: `[G]`, see `ScoreScales`.
        granularities: sizes, weights and normalization.
        negatives: the sampled candidates.
        calibration: t and N.
        bias: `[G]` added to all scores; None: 0.

    Returns:
        The loss, averaged over tokens.
    """
    k = len(negatives.items)
    factors = prefix_scales(users, items, scales, granularities)
    weight, skip = _weigh(negatives, users), find_places(negatives.items, targets)
    present = torch.where(skip >= 0, weight[skip], 0.0)
    num_negatives = (weight.sum() - present).clamp_min(_FEW)  # [T]
    beta = calibration.power(num_negatives)
    shift = (beta / num_negatives).log().expand(len(granularities), -1)
    if bias is not None:
        shift = shift + bias[:, None]
    importance = users.new_tensor(granularities.normalized_weights)
    rest, sums = weighted_softplus(
        users,
        items[:k],
        factors.of(slice(k)),
        bias=shift,
        weight=weight,
        coefficient=(importance[:, None] / len(users)).expand_as(factors.rows),
        skip=skip,
    )
    own = own_logits(users, items[k:], factors.of(slice(k, None))) + shift
    positive = -beta * logsigmoid(own)
    per_granularity = (positive.detach() + sums).mean(1)
    return NestedLossOutput(importance @ positive.mean(1) + rest, per_granularity)


def _weigh(negatives: Negatives, like: Tensor) -> Tensor:
    """`[K]` importance weights: in proportion to 1 / q, with mean one."""
    k = len(negatives.items)
    if negatives.log_q is None:
        return like.new_ones(k)
    return (-negatives.log_q).softmax(0).to(like.dtype) * k
