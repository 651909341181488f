"""Losses of pairs with one row for each user, against the same losses pair by pair."""

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid

from recsys.granularity import Granularities
from recsys.losses.pairs.constrained import ConstrainedBCE, Constraints
from recsys.losses.pairs.cosine_contrastive import CosineContrastive
from recsys.losses.pairs.grouped import RepeatedUsers, grouped_softmax, owners_of
from recsys.losses.softmax import Negatives, Teaching, nested_softmax
from recsys.prefixes import truncate

U, N, D = 3, 12, 8
SIZES = (2, 4, 8)
CHOSEN = torch.tensor([1, 4, 5, 9, 11])
LENGTHS = torch.tensor([3, 0, 2])
TARGETS = torch.tensor([4, 9, 0, 5, 7])
OWNERS = [0, 0, 0, 2, 2]
LOG_Q = torch.tensor([-1.0, -2.0, -0.5, -3.0, -1.5], dtype=torch.float64)


@pytest.fixture
def vectors():
    generator = torch.Generator().manual_seed(1)
    users = torch.randn(U, D, generator=generator, dtype=torch.float64, requires_grad=True)
    items = torch.randn(N, D, generator=generator, dtype=torch.float64, requires_grad=True)
    return users, items, torch.tensor([1.5, 2.0, 3.0], dtype=torch.float64)


def rows(items):
    return torch.cat([items[CHOSEN], items[TARGETS]])


def scores_of(users, items, scales, granularities, g):
    normalize = granularities.normalize
    u, v = (truncate(x, SIZES[g], normalize=normalize) for x in (users, items))
    return scales[g] * u @ v.T


def free(user):
    """Places of the negatives that are none of the user's targets."""
    own = {int(t) for t, owner in zip(TARGETS, OWNERS, strict=True) if owner == user}
    return [place for place, item in enumerate(CHOSEN.tolist()) if item not in own]


def gradients(loss, *tensors):
    return torch.autograd.grad(loss, tensors)


def check(found, expected, granularities, users, items):
    """`expected [G]` per granularity, differentiable."""
    torch.testing.assert_close(found.per_granularity, expected.detach())
    weights = torch.tensor(granularities.normalized_weights, dtype=torch.float64)
    ours, theirs = (gradients(x, users, items) for x in (found.total, weights @ expected))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("distillation", [0.0, 0.5])
def test_full_softmax_is_that_of_the_pairs(vectors, normalize, distillation):
    users, items, scales = vectors
    granularities = Granularities(sizes=SIZES, normalize=normalize)
    given = (items, TARGETS, scales, granularities)
    ours = grouped_softmax(
        users, *given, lengths=LENGTHS, teaching=Teaching(distillation, focus=0.1)
    )
    theirs = nested_softmax(users[OWNERS], *given, teaching=Teaching(distillation, focus=0.1))
    torch.testing.assert_close(ours.per_granularity, theirs.per_granularity)
    torch.testing.assert_close(*(gradients(x.total, users, items) for x in (ours, theirs)))


@pytest.mark.parametrize("log_q", [None, LOG_Q])
def test_sampled_softmax_takes_what_the_user_has_out_of_the_negatives(vectors, log_q):
    users, items, scales = vectors
    granularities = Granularities(sizes=SIZES, normalize=True, weights=(1, 2, 3))
    found = grouped_softmax(
        users, rows(items), TARGETS, scales, granularities,
        lengths=LENGTHS, negatives=Negatives(CHOSEN, log_q),
    )  # fmt: skip
    expected = []
    for g in range(len(SIZES)):
        scores, losses = scores_of(users, items, scales, granularities, g), []
        for user, target in zip(OWNERS, TARGETS.tolist(), strict=True):
            logits = scores[user, CHOSEN] - (0 if log_q is None else log_q)
            candidates = torch.cat([scores[user, target, None], logits[free(user)]])
            losses.append(candidates.logsumexp(0) - scores[user, target])
        expected.append(torch.stack(losses).mean())
    check(found, torch.stack(expected), granularities, users, items)


SOME = torch.tensor([0, 1, 4, 5, 6, 7, 9, 10])
"""Items that may be candidates: of the targets all, or all but 9."""


@pytest.mark.parametrize("items_of", [SOME, SOME[SOME != 9]], ids=["targets among them", "not all"])
@pytest.mark.parametrize("distillation", [0.0, 0.5])
def test_full_softmax_of_some_items_keeps_what_the_user_has(vectors, items_of, distillation):
    """As pair by pair: what else a user has is a candidate, and the target is one, once."""
    users, items, scales = vectors
    granularities = Granularities(sizes=SIZES, normalize=True)
    given = (TARGETS, scales, granularities)
    more = {"negatives": Negatives(items_of, None, whole=True), "teaching": Teaching(distillation)}
    ours, theirs = (
        loss(u, torch.cat([items[items_of], items[TARGETS]]), *given, **more, **own)
        for loss, u, own in (
            (grouped_softmax, users, {"lengths": LENGTHS}),
            (nested_softmax, users[OWNERS], {}),
        )
    )
    torch.testing.assert_close(ours.per_granularity, theirs.per_granularity)
    torch.testing.assert_close(*(gradients(x.total, users, items) for x in (ours, theirs)))
    expected = []
    for g in range(len(SIZES)):
        scores, losses = scores_of(users, items, scales, granularities, g), []
        for user, target in zip(OWNERS, TARGETS.tolist(), strict=True):
            candidates = sorted({*items_of.tolist(), target})
            losses.append(scores[user, candidates].logsumexp(0) - scores[user, target])
        expected.append(torch.stack(losses).mean())
    torch.testing.assert_close(ours.per_granularity, torch.stack(expected).detach())


def test_a_full_softmax_of_some_items_leaves_out_of_a_target_what_it_leaves_out_elsewhere(vectors):
    """Dropout makes two rows of an item two vectors; one of them counts, above and below."""
    users, items, scales = vectors
    rows = torch.cat([items[SOME], 9 * torch.ones(len(TARGETS), D, dtype=items.dtype)])
    given = (TARGETS, scales, Granularities(sizes=SIZES, normalize=True))
    negatives = Negatives(SOME, None, whole=True)
    found = grouped_softmax(users, rows, *given, lengths=LENGTHS, negatives=negatives)
    wanted = grouped_softmax(
        users, torch.cat([items[SOME], items[TARGETS]]), *given, lengths=LENGTHS,
        negatives=negatives,
    )  # fmt: skip
    torch.testing.assert_close(found.per_granularity, wanted.per_granularity)


WITHHELD = (torch.tensor([2, 0, 2]), torch.tensor([11, 1, 3]))
"""Rows of users and what they have had beside their targets; 3 is none of the negatives."""


@pytest.mark.parametrize("log_q", [None, LOG_Q])
@pytest.mark.parametrize("kind", ["softmax", "cosine_contrastive"])
def test_what_is_withheld_is_no_negative_either(vectors, log_q, kind):
    """The same as if it stood among the targets, whose own parts of the loss are left out."""
    users, items, scales = vectors
    granularities = Granularities(sizes=SIZES, normalize=True)
    cosine = kind == "cosine_contrastive"
    own = {user: {*TARGETS[np.array(OWNERS) == user].tolist()} for user in range(U)}
    for user, item in zip(*(each.tolist() for each in WITHHELD), strict=True):
        own[user].add(item)
    loss = CosineContrastive(margin=0.1, negative_weight=7.0) if cosine else grouped_softmax
    negatives = Negatives(CHOSEN, log_q, withheld=WITHHELD)
    found = loss(
        users, rows(items), TARGETS, scales, granularities, negatives=negatives, lengths=LENGTHS
    )
    factors = torch.ones_like(scales) if cosine else scales
    bias = torch.zeros(5, dtype=torch.float64) if log_q is None else -log_q
    expected = []
    for g in range(len(SIZES)):
        scores, losses = scores_of(users, items, factors, granularities, g), []
        for user, target in zip(OWNERS, TARGETS.tolist(), strict=True):
            kept = [place for place, item in enumerate(CHOSEN.tolist()) if item not in own[user]]
            near, target_score = scores[user, CHOSEN[kept]], scores[user, target]
            if cosine:
                weight = bias[kept].exp()
                mean = ((near - 0.1).clamp_min(0) * weight).sum() / weight.sum()
                losses.append(1 - target_score + 7.0 * mean)
            else:
                candidates = torch.cat([target_score[None], near + bias[kept]])
                losses.append(candidates.logsumexp(0) - target_score)
        expected.append(torch.stack(losses).mean())
    check(found, torch.stack(expected), granularities, users, items)


@pytest.mark.parametrize("log_q", [None, LOG_Q])
def test_cosine_contrastive_follows_the_formula_of_simplex(vectors, log_q):
    users, items, scales = vectors
    granularities = Granularities(sizes=SIZES, normalize=True)
    loss = CosineContrastive(margin=0.1, negative_weight=7.0)
    given = (rows(items), TARGETS, scales, granularities)
    found = loss(users, *given, negatives=Negatives(CHOSEN, log_q), lengths=LENGTHS)
    ones, weight = torch.ones_like(scales), torch.ones(5) if log_q is None else (-log_q).exp()
    expected = []
    for g in range(len(SIZES)):
        cosines, losses = scores_of(users, items, ones, granularities, g), []
        for user, target in zip(OWNERS, TARGETS.tolist(), strict=True):
            kept = free(user)
            near = (cosines[user, CHOSEN[kept]] - 0.1).clamp_min(0)
            mean = (near * weight[kept]).sum() / weight[kept].sum()
            losses.append(1 - cosines[user, target] + 7.0 * mean)
        expected.append(torch.stack(losses).mean())
    check(found, torch.stack(expected), granularities, users, items)


def test_constrained_cross_entropy_follows_the_formula_of_ultragcn(vectors):
    users, items, scales = vectors
    granularities = Granularities(sizes=SIZES)
    a, b = torch.rand(U, dtype=torch.float64) + 0.5, torch.rand(N, dtype=torch.float64) + 0.5
    found = ConstrainedBCE(negative_weight=3.0)(
        users, rows(items), TARGETS, scales, granularities,
        negatives=Negatives(CHOSEN, None), lengths=LENGTHS, constraints=Constraints(a, rows(b)),
    )  # fmt: skip
    expected = []
    for g in range(len(SIZES)):
        scores, losses = scores_of(users, items, scales, granularities, g), []
        for user, target in zip(OWNERS, TARGETS.tolist(), strict=True):
            kept = CHOSEN[free(user)]
            negative = (-b[kept] * logsigmoid(-scores[user, kept])).mean()
            own = -b[target] * logsigmoid(scores[user, target])
            losses.append(a[user] * (own + 3.0 * negative))
        expected.append(torch.stack(losses).mean())
    check(found, torch.stack(expected), granularities, users, items)


def test_any_other_loss_gets_the_users_row_by_row(vectors):
    users, items, scales = vectors
    granularities = Granularities(sizes=SIZES)
    given = (items, TARGETS, scales, granularities)
    ours = RepeatedUsers(nested_softmax)(users, *given, lengths=LENGTHS, negatives=None)
    theirs = nested_softmax(users[OWNERS], *given)
    torch.testing.assert_close(ours.total, theirs.total)
    np.testing.assert_array_equal(owners_of(LENGTHS, 5), OWNERS)
