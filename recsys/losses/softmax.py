"""Nested softmax cross-entropy, over the full catalogue or over sampled candidates with logQ.

The loss is `sum_g w_g * CE_g` (Kusupati et al. 2022, eq. 1): the cross-entropy of the target
among the candidates, scored with the first `sizes[g]` coordinates of user and item vectors.

Shape legend: T tokens (positions with a target), N items, K sampled negatives, G granularities,
D embedding_dim.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys.granularity import Granularities
from recsys.layers.precision import sums_in_float32
from recsys.losses.logsumexp import nested_logsumexp
from recsys.losses.prefix_scales import PrefixScales, prefix_scales


@dataclass(frozen=True)
class Teaching:
    """What a row teaches, and how much."""

    distillation: float = 0.0
    """Share of the full width's probabilities in what the prefixes predict, 0..1."""
    focus: float = 0.0
    """By how much rows count less whose target can hardly be found; 0: all count alike."""


@dataclass(frozen=True)
class FocusedTerms:
    """Parts of a loss whose rows count by `focus`: `terms / counts` are summed."""

    terms: Tensor
    """`[G]` mean over rows of loss times what the row counts, times the granularity's weight."""
    counts: Tensor
    """`[G]` mean of what the rows count; no gradient reaches it."""

    def mean(self, counts: Tensor | None = None) -> Tensor:
        """`[]` the loss; `counts [G]`: of more rows than these, in place of their own."""
        return (self.terms / (self.counts if counts is None else counts)).sum()


@dataclass(frozen=True)
class NestedLossOutput:
    """A loss with its value at every granularity."""

    total: Tensor
    """`[]`, the weighted sum, to call backward on."""
    per_granularity: Tensor
    """`[G]`, unweighted, detached."""
    focused: FocusedTerms | None = None
    """The part of `total` that is divided by a mean over rows: processes that share a batch must
    agree on it (`training.distributed.shared_total`). None: no part is."""


class ScoreScales(nn.Module):
    """The scale of each granularity's scores: constant, or learned as its logarithm.

    Without `scale_grows`, what a step of training took beyond `initial_scale` is taken back to it.
    """

    log_scale: Tensor

    def __init__(self, granularities: Granularities) -> None:
        super().__init__()
        start = torch.full((len(granularities),), granularities.initial_scale).log()
        if granularities.learned_scale:
            self.log_scale = nn.Parameter(start)
        else:
            self.register_buffer("log_scale", start)
        self.most = None if granularities.scale_grows else math.log(granularities.initial_scale)

    def forward(self) -> Tensor:
        """`[G]` positive scales."""
        if self.most is not None and self.training:
            with torch.no_grad():  # in place: a clamp of the value would hold it there for good
                self.log_scale.clamp_(max=self.most)
        return self.log_scale.exp()


@dataclass(frozen=True)
class Negatives:
    """Sampled candidates that all tokens of a batch share."""

    items: Tensor
    """`[K]` unique item indices, ascending."""
    log_q: Tensor | None
    """`[K]` log of the probability that the item is among the negatives; None: no correction."""
    whole: bool = False
    """These are all candidates that there can be: a softmax over them is a full one."""
    withheld: tuple[Tensor, Tensor] | None = None
    """`[S]` rows of users and `[S]` items that they have had: no negatives of theirs, as little as
    their targets are. Of pairs alone, whose users are given once (`losses.pairs.grouped`)."""


@dataclass(frozen=True)
class OwnCandidates:
    """Candidates of each token, beside the shared ones (`losses.history_candidates`)."""

    logsumexp: Tensor
    """`[G, T]` of their logits."""
    means: Tensor
    """`[G, T]` means of their logits under their softmax at the full width, which no gradient
    reaches."""
    places: Tensor
    """`[T, S]` int64, where the same items stand among the negatives, which must not count them a
    second time; -1: nowhere."""
    target_bias: Tensor | None = None
    """`[G, T]` added to the logits of the targets."""


@sums_in_float32
def nested_softmax(
    users: Tensor,
    items: Tensor,
    targets: Tensor,
    scales: Tensor,
    granularities: Granularities,
    *,
    negatives: Negatives | None = None,
    teaching: Teaching = Teaching(),
    own: OwnCandidates | None = None,
) -> NestedLossOutput:
    """Cross-entropy at every granularity.

    With `distillation`, the prefixes learn from the full width as well: what they are to predict
    is `(1 - distillation)` the target and `distillation` the probabilities that the full width
    gives the candidates, which are held fast (Hinton et al. 2015).

    With `focus`, a row counts by `p ** (focus * shortness(m))`, p the probability that the prefix
    of m coordinates gives its target, held fast: the gradient is that of the generalized
    cross-entropy (Zhang and Sabuncu 2018). A short prefix cannot tell all items apart; so it learns
    to rank well where it can rather than a little less badly where it cannot.

    Args:
        users: `[T, D]` user vectors.
        items: vectors of the candidates: `[N, D]` of the whole catalogue, or, with `negatives`,
            `[K + T, D]`: of the negatives, then of each token's target.
        targets: `[T]` item indices.
        scales: `[G]`, see `ScoreScales`.
        granularities: sizes, weights and normalization.
        negatives: the sampled candidates; None: full softmax.
        teaching: see above.
        own: more candidates, each token's own; with `negatives` alone.

    Returns:
        The loss, averaged over tokens; its parts are the cross-entropies of the targets.
    """
    factors = prefix_scales(users, items, scales, granularities)
    means = teaching.distillation > 0
    if negatives is None:
        chosen = nn.functional.embedding(targets, items, sparse=True)  # no second [N, D] gradient
        positive = own_logits(users, chosen, factors.of(targets))
        everything, taught = nested_logsumexp(
            users, items, factors.rows, factors.slices, col_scale=factors.cols, means=means
        )
    else:
        k = len(negatives.items)
        positive = own_logits(users, items[k:], factors.of(slice(k, None)))
        skip = find_places(negatives.items, targets)[:, None]
        everything, taught = nested_logsumexp(
            users,
            items[:k],
            factors.rows,
            factors.slices,
            col_scale=factors.of(slice(k)).cols,
            bias=None if negatives.log_q is None else -negatives.log_q,
            skip=skip if own is None else torch.cat([skip, own.places], dim=1),
            means=means,
        )
        if own is not None:
            if own.target_bias is not None:
                positive = positive + own.target_bias
            everything, taught = join(everything, taught, own.logsumexp, own.means)
        everything, taught = join(everything, taught, positive, positive)
    return cross_entropy(everything, taught, positive, granularities, teaching)


def cross_entropy(
    everything: Tensor,
    taught: Tensor,
    positive: Tensor,
    granularities: Granularities,
    teaching: Teaching,
) -> NestedLossOutput:
    """The loss of log-sum-exps over all candidates, `[G, T]`, and logits of the targets, `[G, T]`.

    `taught [G, T]` are the mean logits under the softmax of the full width; `[0]` without
    distillation. `teaching`: see `nested_softmax`.
    """
    losses = everything - positive
    per_granularity = losses.detach().mean(1)
    weights = per_granularity.new_tensor(granularities.normalized_weights)
    if len(taught):
        share = teaching.distillation
        parts = [(1.0 - share) * positive[:-1] + share * taught[:-1], positive[-1:]]
        losses = everything - torch.cat(parts)
    if not teaching.focus:
        return NestedLossOutput(weights @ losses.mean(1), per_granularity)
    powers = teaching.focus * weights.new_tensor([shortness(size) for size in granularities.sizes])
    counts = ((positive - everything).detach() * powers[:, None]).exp()
    terms = weights * (losses * counts).mean(1)
    focused = FocusedTerms(terms, counts.mean(1))
    return NestedLossOutput(focused.mean(), per_granularity, focused)


def shortness(size: int) -> float:
    """1 for 128 coordinates and more, 2 for 64, 3 for 32, and 4 for 16 and fewer."""
    return min(4.0, max(1.0, math.log2(256 / size)))


def join(levels: Tensor, means: Tensor, more: Tensor, more_means: Tensor) -> tuple[Tensor, Tensor]:
    """Log-sum-exps and mean logits of two groups of candidates together, `[G, T]` each.

    The means are those under the softmax of the last granularity, which no gradient reaches; `[0]`
    where they are not wanted.
    """
    together = torch.logaddexp(levels, more)
    if not len(means):
        return together, means
    share = (more[-1] - together[-1]).exp().detach()
    return together, (1.0 - share) * means + share * more_means


def own_logits(users: Tensor, chosen: Tensor, factors: PrefixScales) -> Tensor:
    """`[G, T]` logits of each token's own target, `chosen [T, D]`, whose factors these are."""
    parts = (users * chosen).split([hi - lo for lo, hi in factors.slices], dim=1)
    logits = torch.stack([part.sum(1) for part in parts]).cumsum(0) * factors.rows
    return logits if factors.cols is None else logits * factors.cols


def find_places(ascending: Tensor, values: Tensor) -> Tensor:
    """Position of each value in `ascending`, -1 where it is not there."""
    place = torch.searchsorted(ascending, values).clamp_max(len(ascending) - 1)
    return torch.where(ascending[place] == values, place, -1)
