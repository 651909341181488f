"""Reference: torch.nn.functional.cross_entropy at each prefix."""

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from recsys.granularity import Granularities
from recsys.losses.softmax import Negatives, ScoreScales, Teaching, nested_softmax, shortness
from recsys.prefixes import truncate

T, N, D = 9, 13, 8


@pytest.fixture
def vectors():
    generator = torch.Generator().manual_seed(1)
    users = torch.randn(T, D, generator=generator, dtype=torch.float64, requires_grad=True)
    items = torch.randn(N, D, generator=generator, dtype=torch.float64, requires_grad=True)
    return users, items, torch.randint(N, (T,), generator=generator)


def naive(users, items, targets, scales, granularities):
    losses = []
    for g, size in enumerate(granularities.sizes):
        u = truncate(users, size, normalize=granularities.normalize)
        v = truncate(items, size, normalize=granularities.normalize)
        losses.append(cross_entropy(scales[g] * u @ v.T, targets))
    return torch.stack(losses)


def check_gradients(found, expected, leaves):
    wanted = torch.autograd.grad(expected, leaves)
    for a, b in zip(torch.autograd.grad(found, leaves), wanted, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("weights", [None, (2.0, 1.0, 1.0)])
def test_it_is_the_weighted_sum_of_plain_cross_entropies(vectors, normalized, weights):
    granularities = Granularities(sizes=(2, 4, 8), weights=weights, normalize=normalized)
    scales = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64, requires_grad=True)
    found = nested_softmax(*vectors, scales, granularities)
    expected = naive(*vectors, scales, granularities)
    torch.testing.assert_close(found.per_granularity, expected.detach())
    total = (expected * torch.tensor(granularities.normalized_weights)).sum()
    torch.testing.assert_close(found.total, total)
    check_gradients(found.total, total, (*vectors[:2], scales))


def everything(items, targets, sampled):
    """All items as candidates: of a full softmax, or as negatives of a sampled one."""
    if not sampled:
        return items, None
    zeros = torch.zeros(N, dtype=torch.float64)
    return torch.cat([items, items[targets]]), Negatives(torch.arange(N), zeros)


@pytest.mark.parametrize("sampled", [False, True])
def test_distilled_prefixes_predict_a_mixture_of_target_and_full_width(vectors, sampled):
    users, items, targets = vectors
    granularities = Granularities(sizes=(2, 4, 8), weights=(2.0, 1.0, 3.0), normalize=True)
    scales = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64, requires_grad=True)
    logits = [
        scales[g] * truncate(users, size, normalize=True) @ truncate(items, size, normalize=True).T
        for g, size in enumerate(granularities.sizes)
    ]
    taught = logits[-1].detach().softmax(1)
    hard = torch.eye(N, dtype=torch.float64)[targets]
    losses = [cross_entropy(part, 0.3 * hard + 0.7 * taught) for part in logits[:-1]]
    losses.append(cross_entropy(logits[-1], targets))
    expected = (torch.stack(losses) * torch.tensor(granularities.normalized_weights)).sum()
    candidates, negatives = everything(items, targets, sampled)
    found = nested_softmax(
        users,
        candidates,
        targets,
        scales,
        granularities,
        negatives=negatives,
        teaching=Teaching(0.7),
    )
    torch.testing.assert_close(found.total, expected)
    torch.testing.assert_close(
        found.per_granularity, naive(*vectors, scales, granularities).detach()
    )
    check_gradients(found.total, expected, (users, items, scales))


@pytest.mark.parametrize("sampled", [False, True])
def test_a_focused_prefix_has_the_gradient_of_the_generalized_cross_entropy(sampled):
    """Zhang and Sabuncu 2018: of (1 - p^q) / q, here over the mean of p^q."""
    generator = torch.Generator().manual_seed(1)
    users = torch.randn(T, 64, dtype=torch.float64, generator=generator, requires_grad=True)
    items = torch.randn(N, 64, dtype=torch.float64, generator=generator, requires_grad=True)
    targets = torch.arange(T)
    sizes, powers = (16, 32, 64), (0.4, 0.3, 0.2)
    granularities = Granularities(sizes=sizes, weights=(2.0, 1.0, 3.0), normalize=True)
    scales = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64, requires_grad=True)
    expected = 0.0
    weights = granularities.normalized_weights
    for size, scale, q, weight in zip(sizes, scales, powers, weights, strict=True):
        cosines = truncate(users, size, normalize=True) @ truncate(items, size, normalize=True).T
        p = (scale * cosines).softmax(1)[torch.arange(T), targets]
        expected = expected + weight * ((1 - p**q) / q).mean() / (p**q).mean().detach()
    candidates, negatives = everything(items, targets, sampled)
    found = nested_softmax(
        users,
        candidates,
        targets,
        scales,
        granularities,
        negatives=negatives,
        teaching=Teaching(focus=0.1),
    )
    torch.testing.assert_close(  # what is told and logged counts all rows alike
        found.per_granularity, naive(users, items, targets, scales, granularities).detach()
    )
    check_gradients(found.total, expected, (users, items, scales))


def test_rows_count_by_how_short_the_prefix_is():
    found = [shortness(size) for size in (4, 8, 16, 32, 64, 128, 256, 512)]
    assert found == [4, 4, 4, 3, 2, 1, 1, 1]


def test_one_granularity_is_the_plain_loss(vectors):
    users, items, targets = vectors
    scales = torch.ones(1, dtype=torch.float64)
    found = nested_softmax(users, items, targets, scales, Granularities(sizes=(8,)))
    torch.testing.assert_close(found.total, cross_entropy(users @ items.T, targets))


def test_sampling_every_item_is_the_full_softmax(vectors):
    users, items, targets = vectors
    granularities = Granularities(sizes=(2, 4, 8), normalize=True)
    scales = torch.tensor([3.0, 4.0, 5.0], dtype=torch.float64)
    candidates, negatives = everything(items, targets, sampled=True)
    found = nested_softmax(users, candidates, targets, scales, granularities, negatives=negatives)
    full = nested_softmax(users, items, targets, scales, granularities)
    torch.testing.assert_close(found.per_granularity, full.per_granularity)


def test_logq_correction_is_taken_from_negatives_alone(vectors):
    """-log q is added to what was sampled; the target is left out of it and scored as it is."""
    users, items, targets = vectors
    chosen = torch.tensor([1, 4, 5, 9])
    targets = torch.where(torch.arange(T) == 2, 4, targets)  # one token's target was drawn
    log_q = torch.tensor([-0.5, -3.0, -1.0, -2.0], dtype=torch.float64)
    granularities, scales = Granularities(sizes=(8,)), torch.ones(1, dtype=torch.float64)
    found = nested_softmax(
        users, torch.cat([items[chosen], items[targets]]), targets, scales, granularities,
        negatives=Negatives(chosen, log_q),
    )  # fmt: skip
    corrected = users @ items[chosen].T - log_q
    corrected = corrected.masked_fill(chosen == targets[:, None], -torch.inf)
    positive = (users * items[targets]).sum(1, keepdim=True)
    losses = torch.cat([positive, corrected], 1).logsumexp(1) - positive[:, 0]
    torch.testing.assert_close(found.total, losses.mean())


def test_normalized_scores_do_not_depend_on_the_length_of_vectors(vectors):
    users, items, targets = vectors
    granularities = Granularities(sizes=(8,), normalize=True)
    scales = torch.ones(1, dtype=torch.float64)
    found = nested_softmax(users * 7.0, items * 0.3, targets, scales, granularities)
    expected = cross_entropy(normalize(users, dim=1) @ normalize(items, dim=1).T, targets)
    torch.testing.assert_close(found.total, expected)


def test_learned_scales_start_where_told_and_take_gradients():
    granularities = Granularities(sizes=(4, 8), learned_scale=True, initial_scale=5.0)
    scales = ScoreScales(granularities)
    torch.testing.assert_close(scales(), torch.tensor([5.0, 5.0]))
    scales().sum().backward()
    assert scales.log_scale.grad is not None
    fixed = ScoreScales(Granularities(sizes=(4, 8)))
    assert not list(fixed.parameters())


def test_scales_that_do_not_grow_are_taken_back_and_may_fall():
    scales = ScoreScales(
        Granularities(sizes=(4, 8), learned_scale=True, initial_scale=5.0, scale_grows=False)
    )
    with torch.no_grad():
        scales.log_scale.add_(torch.tensor([-1.0, 1.0]))
    torch.testing.assert_close(scales(), torch.tensor([5.0 / torch.e, 5.0]))
    scales().sum().backward()
    assert (scales.log_scale.grad > 0).all(), "at its limit a scale is still told where to go"
    with torch.no_grad():
        scales.log_scale.add_(1.0)
    torch.testing.assert_close(scales.eval()(), torch.tensor([5.0, 5.0 * torch.e]))  # as it is
    free = ScoreScales(Granularities(sizes=(4, 8), learned_scale=True, initial_scale=5.0))
    with torch.no_grad():
        free.log_scale.add_(1.0)
    torch.testing.assert_close(free(), torch.full((2,), 5.0 * torch.e))
