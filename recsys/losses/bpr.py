"""Nested BPR: the target shall score above each sampled negative, at every granularity.

Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback, UAI 2009:
`-log sigmoid(s+ - s-)`. Departure from the paper: all tokens of a batch share K negatives, and a
token's loss is the mean over those that are not its own target; with logQ correction they weigh in
proportion to 1 / q, so that the mean is as of uniform draws.

Shape legend: T tokens (positions with a target), K sampled negatives, G granularities, D
embedding_dim.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from recsys.granularity import Granularities, prefix_norms
from recsys.losses.softmax import Negatives, NestedLossOutput, own_logits


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
    k, slices = len(negatives.items), granularities.slices
    row_scale = scales[:, None].expand(-1, len(users))
    col_scale = None
    if granularities.normalize:
        row_scale = row_scale / prefix_norms(users, granularities)
        col_scale = 1.0 / prefix_norms(items, granularities)
    own_scale = None if col_scale is None else col_scale[:, k:]
    positive = own_logits(users, items[k:], row_scale, own_scale, slices)  # [G, T]
    shares = _shares(negatives, targets, users)
    losses = []
    scores = users.new_zeros(len(users), k)
    for g, (lo, hi) in enumerate(slices):
        scores = scores + users[:, lo:hi] @ items[:k, lo:hi].T
        logits = scores * row_scale[g, :, None]
        if col_scale is not None:
            logits = logits * col_scale[g, :k]
        losses.append((softplus(logits - positive[g, :, None]) * shares).sum(1).mean())
    per_granularity = torch.stack(losses)
    weights = users.new_tensor(granularities.normalized_weights)
    return NestedLossOutput(weights @ per_granularity, per_granularity.detach())


def _shares(negatives: Negatives, targets: Tensor, like: Tensor) -> Tensor:
    """`[T, K]` what each negative counts in a token's mean; its own target counts nothing."""
    weight = like.new_ones(len(negatives.items))
    if negatives.log_q is not None:
        weight = (-negatives.log_q).softmax(0).to(like.dtype)
    shares = weight * (negatives.items != targets[:, None])
    return shares / shares.sum(1, keepdim=True).clamp_min(1e-12)
