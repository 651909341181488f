"""Nested gBCE: binary cross-entropy with sampled negatives, cured of its overconfidence.

Petrov and Macdonald, gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with
Negative Sampling, RecSys 2023. A token's loss at one granularity is

    -(log sigmoid(s+)^beta + sum_k log(1 - sigmoid(s_k))) / (K + 1)
    alpha = K / (N - 1)
    beta = alpha (t (1 - 1 / alpha) + 1 / alpha) = 1 - t (1 - alpha)

with the sampling rate alpha and the calibration t. t = 0 is plain binary cross-entropy; t = 1 gives
the probabilities that training on the whole catalogue would give.

Departures from the paper: the tokens of a batch share their negatives, and a token's own target is
not one of them (K counts the others). Negatives that are not drawn alike weigh in proportion to
1 / q, one on average; with uniform draws that is the paper's loss to the letter.

Shape legend: T tokens (positions with a target), K sampled negatives, N items, G granularities,
D embedding_dim.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from recsys.granularity import Granularities, prefix_norms
from recsys.losses.softmax import Negatives, NestedLossOutput, find_places, own_logits
from recsys.losses.softplus import weighted_softplus


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
    num_negatives = weight.sum() - present  # [T]
    beta = 1.0 - calibration * (1.0 - num_negatives / max(num_items - 1, 1))
    share = 1.0 / (num_negatives + 1.0)
    importance = users.new_tensor(granularities.normalized_weights)
    rest, sums = weighted_softplus(
        users,
        items[:k],
        row_scale,
        slices,
        col_scale=col_scale,
        weight=weight,
        coefficient=importance[:, None] * share / len(users),
        skip=skip,
    )
    positive = -beta * logsigmoid(own_logits(users, items[k:], row_scale, own_scale, slices))
    per_granularity = ((positive.detach() + sums) * share).mean(1)
    return NestedLossOutput(importance @ (positive * share).mean(1) + rest, per_granularity)


def _weigh(negatives: Negatives, like: Tensor) -> Tensor:
    """`[K]` importance weights: in proportion to 1 / q, with mean one."""
    k = len(negatives.items)
    if negatives.log_q is None:
        return like.new_ones(k)
    return (-negatives.log_q).softmax(0).to(like.dtype) * k
