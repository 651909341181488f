"""Losses of rankers, of rows or within requests, and what a width learns from the next wider one.

Each gives a sum and the weight that it is divided by, so that batches of several sizes add up.

Shape legend: R rows, Q requests, P pairs of a target and another row of the same request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from recsys.rankers.neural.options import Loss

Sum = tuple[Tensor, Tensor]
"""A sum over rows, pairs or targets, and the sum of their weights."""


@dataclass(frozen=True)
class Labelled:
    """Labels of a batch."""

    labels: Tensor
    """`[R]` 0 or 1."""
    weights: Tensor
    """`[R]`."""
    starts: Tensor
    """`[Q + 1]` int64 rows of each request."""

    @property
    def owners(self) -> Tensor:
        """`[R]` request of each row."""
        sizes = self.starts.diff()
        return torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)


def pointwise(scores: Tensor, given: Labelled) -> Sum:
    """Log-loss of each row; scores are logits."""
    losses = functional.binary_cross_entropy_with_logits(scores, given.labels, reduction="none")
    return (losses * given.weights).sum(), given.weights.sum()


def listwise(scores: Tensor, given: Labelled) -> Sum:
    """`-log softmax` of each target among the rows of its request."""
    owners = given.owners
    weights = given.weights * given.labels
    found = _log_softmax(scores, owners, len(given.starts) - 1)
    return -(found * weights).sum(), weights.sum()


def pairwise(scores: Tensor, given: Labelled) -> Sum:
    """BPR (Rendle et al., UAI 2009): `-log sigmoid(target - other)` over all pairs."""
    first, second = pairs(given)
    weights = given.weights[first]
    losses = functional.softplus(scores[second] - scores[first])
    return (losses * weights).sum(), weights.sum()


def lambdarank(scores: Tensor, given: Labelled) -> Sum:
    """The pairs of BPR, weighted by the change in ndcg if the two rows changed places.

    Burges, From RankNet to LambdaRank to LambdaMART, 2010.
    """
    first, second = pairs(given)
    gains = 1 / torch.log2(places(scores.detach(), given.owners, given.starts) + 1.0)
    targets = torch.zeros(len(given.starts) - 1, device=scores.device)
    targets = targets.index_add(0, given.owners, given.labels)
    ideals = (1 / torch.log2(torch.arange(len(scores), device=scores.device) + 2.0)).cumsum(0)
    ideal = ideals[(targets.long() - 1).clamp(min=0)][given.owners[first]]
    changes = (gains[first] - gains[second]).abs() / ideal
    losses = functional.softplus(scores[second] - scores[first]) * changes * given.weights[first]
    weights = given.weights * given.labels
    return losses.sum(), weights.sum()


LOSSES: dict[Loss, Callable[[Tensor, Labelled], Sum]] = {
    "pointwise": pointwise,
    "pairwise": pairwise,
    "listwise": listwise,
    "lambdarank": lambdarank,
}


def distilled(kind: Loss, scores: Tensor, wider: Tensor, given: Labelled) -> Sum:
    """What a width loses against the scores of the next wider one, which get no gradient.

    Of rows their probabilities; of requests the softmax over their rows; of pairs the probability
    of their order.
    """
    wider = wider.detach()
    if kind == "pointwise":
        losses = functional.binary_cross_entropy_with_logits(
            scores, torch.sigmoid(wider), reduction="none"
        )
        return (losses * given.weights).sum(), given.weights.sum()
    if kind == "listwise":
        owners, count = given.owners, len(given.starts) - 1
        wanted = _log_softmax(wider, owners, count).exp()
        found = -(wanted * _log_softmax(scores, owners, count)).sum()
        return found, torch.ones((), device=scores.device) * count
    first, second = pairs(given)
    losses = functional.binary_cross_entropy_with_logits(
        scores[first] - scores[second],
        torch.sigmoid(wider[first] - wider[second]),
        reduction="none",
    )
    weights = given.weights[first]
    return (losses * weights).sum(), weights.sum()


def pairs(given: Labelled) -> tuple[Tensor, Tensor]:
    """Rows of targets and of others, `[P]` each: every target with every other row of its request
    that is none.
    """
    device, owners = given.labels.device, given.owners
    targets = torch.nonzero(given.labels > 0).squeeze(1)
    others = torch.nonzero(given.labels <= 0).squeeze(1)
    counts = torch.bincount(owners[others], minlength=len(given.starts) - 1)
    starts = counts.cumsum(0) - counts
    each = counts[owners[targets]]
    first = torch.repeat_interleave(targets, each)
    within = torch.arange(len(first), device=device) - torch.repeat_interleave(
        each.cumsum(0) - each, each
    )
    return first, others[torch.repeat_interleave(starts[owners[targets]], each) + within]


def places(scores: Tensor, owners: Tensor, starts: Tensor) -> Tensor:
    """`[R]` place of each row within its request, 1 for the best; equal scores as they stand."""
    by_score = torch.argsort(scores, descending=True, stable=True)
    order = by_score[torch.argsort(owners[by_score], stable=True)]
    found = torch.empty_like(order)
    found[order] = torch.arange(len(order), device=order.device) - starts[owners[order]] + 1
    return found


def _log_softmax(scores: Tensor, owners: Tensor, count: int) -> Tensor:
    """`[R]` within the requests that own the rows."""
    highest = torch.full((count,), -torch.inf, device=scores.device)
    highest = highest.scatter_reduce(0, owners, scores.detach(), "amax")
    shifted = scores - highest[owners]
    total = torch.zeros(count, device=scores.device).index_add(0, owners, shifted.exp())
    return shifted - total.log()[owners]
