"""Nested gBCE: binary cross-entropy with sampled negatives, cured of its overconfidence.

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

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from recsys.granularity import Granularities, prefix_norms
from recsys.losses.softmax import Negatives, NestedLossOutput, find_places, own_logits
from recsys.losses.softplus import weighted_softplus

_PACE = 20.0
"""The optimizer moves a parameter by about its rate a step, a thousandth: the bias is to keep up
with scores, which have a scale of 15."""
_FEW = 1e-3
"""A token whose only negative is its own target has none at all."""


class GBCE(nn.Module):
    """The loss with the number of each granularity that is added to all its scores."""

    def __init__(self, num_sizes: int, num_items: int, calibration: float) -> None:
        """`num_sizes`: G; for the others see `nested_gbce`."""
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(num_sizes))
        self.num_items, self.calibration = num_items, calibration

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
            num_items=self.num_items,
            calibration=self.calibration,
            bias=_PACE * self.shift,
        )


def nested_gbce(
    users: Tensor,
    items: Tensor,
    targets: Tensor,
    scales: Tensor,
    granularities: Granularities,
    *,
    negatives: Negatives,
    num_items: int,
    calibration: float,
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
        num_items: N, the size of the catalogue.
        calibration: t, in 0..1.
        bias: `[G]` added to all scores; None: 0.

    Returns:
        The loss, averaged over tokens.
    """
    k, slices = len(negatives.items), granularities.slices
    row_scale = scales[:, None].expand(-1, len(users))
    own_scale = col_scale = None
    if granularities.normalize:
        row_scale = row_scale / prefix_norms(users, granularities)
        norms = prefix_norms(items, granularities)
        col_scale, own_scale = 1.0 / norms[:, :k], 1.0 / norms[:, k:]
    weight, skip = _weigh(negatives, users), find_places(negatives.items, targets)
    present = torch.where(skip >= 0, weight[skip], 0.0)
    num_negatives = (weight.sum() - present).clamp_min(_FEW)  # [T]
    beta = 1.0 - calibration * (1.0 - num_negatives / max(num_items - 1, 1))
    shift = (beta / num_negatives).log().expand(len(slices), -1)
    if bias is not None:
        shift = shift + bias[:, None]
    importance = users.new_tensor(granularities.normalized_weights)
    rest, sums = weighted_softplus(
        users,
        items[:k],
        row_scale,
        slices,
        col_scale=col_scale,
        bias=shift,
        weight=weight,
        coefficient=(importance[:, None] / len(users)).expand_as(row_scale),
        skip=skip,
    )
    own = own_logits(users, items[k:], row_scale, own_scale, slices) + shift
    positive = -beta * logsigmoid(own)
    per_granularity = (positive.detach() + sums).mean(1)
    return NestedLossOutput(importance @ positive.mean(1) + rest, per_granularity)


def _weigh(negatives: Negatives, like: Tensor) -> Tensor:
    """`[K]` importance weights: in proportion to 1 / q, with mean one."""
    k = len(negatives.items)
    if negatives.log_q is None:
        return like.new_ones(k)
    return (-negatives.log_q).softmax(0).to(like.dtype) * k
