"""Reference: the formula of Petrov and Macdonald (RecSys 2023), token by token, scores shifted."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from recsys.granularity import Granularities
from recsys.losses import softplus as module
from recsys.losses.gbce import Calibration, nested_gbce
from recsys.losses.prefix_scales import PrefixScales
from recsys.losses.softmax import Negatives
from recsys.losses.softplus import weighted_softplus
from recsys.prefixes import truncate
from tests.losses.buffers import watched_areas

T, K, N, D = 7, 5, 12, 8
CHOSEN = torch.tensor([1, 4, 5, 9, 11])
SIZES = (2, 4, 8)


@pytest.fixture(params=[1 << 21, 60])
def tile_elements(request, monkeypatch):
    """One tile for all, tiles of ten elements."""
    monkeypatch.setattr(module, "TILE_ELEMENTS", request.param)


@pytest.fixture
def vectors():
    """Users, the catalogue and targets; some of the targets are among the negatives."""
    generator = torch.Generator().manual_seed(1)
    users = torch.randn(T, D, generator=generator, dtype=torch.float64, requires_grad=True)
    items = torch.randn(N, D, generator=generator, dtype=torch.float64, requires_grad=True)
    return users, items, torch.tensor([4, 0, 2, 11, 7, 1, 3])


def negatives(log_q=None):
    return Negatives(CHOSEN, log_q)


def ours(users, items, targets, scales, granularities, calibration, log_q=None, bias=None):
    rows = torch.cat([items[CHOSEN], items[targets]])
    return nested_gbce(
        users, rows, targets, scales, granularities,
        negatives=negatives(log_q), calibration=Calibration(N, calibration), bias=bias,
    )  # fmt: skip


def naive(users, items, targets, scales, granularities, calibration, log_q=None, bias=None):
    """The paper's loss times K + 1, of scores plus log(beta / K) and the bias."""
    bias = torch.zeros(len(scales)) if bias is None else bias
    weight = torch.ones(K, dtype=torch.float64)
    if log_q is not None:
        weight = 1 / log_q.exp()
        weight = weight / weight.mean()
    losses = []
    for g, size in enumerate(granularities.sizes):
        u = truncate(users, size, normalize=granularities.normalize)
        v = truncate(items, size, normalize=granularities.normalize)
        rows = []
        for t, target in enumerate(targets.tolist()):
            scores = scales[g] * v @ u[t]
            others = [n for n in range(K) if CHOSEN[n] != target]
            count = sum(weight[n] for n in others)
            alpha = count / (N - 1)
            beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
            scores = scores + (beta / count).log() + bias[g]
            likelihood = (scores[target].sigmoid() ** beta).log()
            for n in others:
                likelihood = likelihood + weight[n] * (1 - scores[CHOSEN[n]].sigmoid()).log()
            rows.append(-likelihood)
        losses.append(torch.stack(rows).mean())
    return torch.stack(losses)


LOG_Q = torch.tensor([-0.5, -3.0, -1.0, -2.0, -0.1], dtype=torch.float64)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("weights", [None, (2.0, 1.0, 1.0)])
@pytest.mark.parametrize("log_q", [None, LOG_Q])
def test_it_is_the_weighted_sum_of_the_papers_losses(
    vectors, tile_elements, normalized, weights, log_q
):
    granularities = Granularities(sizes=SIZES, weights=weights, normalize=normalized)
    scales = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64, requires_grad=True)
    bias = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    found = ours(*vectors, scales, granularities, 0.75, log_q, bias)
    expected = naive(*vectors, scales, granularities, 0.75, log_q, bias)
    torch.testing.assert_close(found.per_granularity, expected.detach(), rtol=1e-12, atol=1e-12)
    shares = torch.tensor(granularities.normalized_weights, dtype=torch.float64)
    torch.testing.assert_close(found.total, shares @ expected, rtol=1e-12, atol=1e-12)
    wanted = torch.autograd.grad(shares @ expected, (*vectors[:2], scales, bias))
    given = torch.autograd.grad(found.total, (*vectors[:2], scales, bias))
    for a, b in zip(given, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("only", range(3))
def test_gradients_equal_numerical_ones_at_each_granularity(
    vectors, tile_elements, normalized, only
):
    granularities = Granularities(
        sizes=SIZES, weights=tuple(float(g == only) for g in range(3)), normalize=normalized
    )

    def f(users, items, scales):
        return ours(users, items, vectors[2], scales, granularities, 0.6, LOG_Q).total

    scales = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(f, (*vectors[:2], scales))


def test_the_sweep_alone_has_the_gradients_of_its_formula(tile_elements):
    generator = torch.Generator().manual_seed(3)

    def make(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    inputs = (make(T, D), make(K, D), make(3, T), make(3, K), make(3, T))
    weight, coefficient = torch.rand(K).double(), torch.rand(3, T).double()
    skip = torch.tensor([0, -1, 3, 4, -1, 1, 2])

    def f(users, items, row_scale, col_scale, bias):
        return weighted_softplus(
            users, items, PrefixScales([(0, 2), (2, 4), (4, 8)], row_scale, col_scale),
            weight=weight, coefficient=coefficient, bias=bias, skip=skip,
        )[0]  # fmt: skip

    assert torch.autograd.gradcheck(f, inputs)


def test_without_calibration_it_is_binary_cross_entropy(vectors):
    users, items, _ = vectors
    targets = torch.tensor([0, 2, 3, 6, 7, 8, 10])  # none of them was drawn
    granularities, scales = Granularities(sizes=(8,)), torch.ones(1, dtype=torch.float64)
    found = ours(users, items, targets, scales, granularities, 0.0)
    positive = (users * items[targets]).sum(1, keepdim=True)
    logits = torch.cat([positive, users @ items[CHOSEN].T], 1) - torch.tensor(K).log()
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1
    mean = binary_cross_entropy_with_logits(logits, labels)
    torch.testing.assert_close(found.total, mean * (K + 1), rtol=1e-6, atol=1e-6)


def test_a_target_that_was_drawn_is_no_negative_of_its_own(vectors):
    """The first token's target is CHOSEN[1]: only its positive score may move it."""
    users, items, targets = vectors
    granularities, scales = Granularities(sizes=(8,)), torch.ones(1, dtype=torch.float64)
    rows = torch.cat([items[CHOSEN], items[targets]]).detach().requires_grad_()
    found = nested_gbce(
        users[:1], torch.cat([rows[:K], rows[K : K + 1]]), targets[:1], scales, granularities,
        negatives=negatives(), calibration=Calibration(N, 0.75),
    )  # fmt: skip
    found.total.backward()
    assert not rows.grad[1].any()
    assert rows.grad[[0, 2, 3, 4, K]].abs().sum(1).min() > 0


@pytest.mark.parametrize("calibration", [0.0, 0.75, 1.0])
def test_a_model_that_knows_nothing_has_nothing_to_learn_of_the_level_of_scores(calibration):
    """By hand: scores that are all alike are best when they are 0, however rare a positive is."""

    def slope_at(level):
        score = torch.tensor([[level]], dtype=torch.float64, requires_grad=True)
        found = nested_gbce(
            score, torch.ones(K + 1, 1, dtype=torch.float64), torch.tensor([0]),
            torch.ones(1, dtype=torch.float64), Granularities(sizes=(1,)),
            negatives=negatives(), calibration=Calibration(N, calibration),
        )  # fmt: skip
        return torch.autograd.grad(found.total, score)[0].item()

    assert slope_at(0.0) == pytest.approx(0, abs=1e-15)
    assert slope_at(-0.1) < 0 < slope_at(0.1)


def test_a_batch_whose_one_negative_is_the_target_has_a_finite_loss():
    users = torch.ones(1, 8, requires_grad=True)
    found = nested_gbce(
        users, torch.ones(2, 8), torch.tensor([2]), torch.ones(3), Granularities(sizes=SIZES),
        negatives=Negatives(torch.tensor([2]), None), calibration=Calibration(N, 1.0),
    )  # fmt: skip
    found.total.backward()
    assert torch.isfinite(found.total) and torch.isfinite(users.grad).all()


def test_scores_too_large_for_exp_do_not_overflow():
    users = torch.full((2, 8), 30.0, requires_grad=True)
    items = torch.cat([torch.full((1, 8), 30.0), torch.full((1, 8), -30.0), torch.zeros(2, 8)])
    found = nested_gbce(
        users, items, torch.tensor([5, 6]), torch.ones(3), Granularities(sizes=SIZES),
        negatives=Negatives(torch.tensor([2, 3]), None), calibration=Calibration(N, 0.0),
    )  # fmt: skip
    # Of two negatives the one that scores high counts its score, less log 2: beta / K is a half.
    log2, log3 = torch.tensor(2.0).log(), torch.tensor(3.0).log()  # the target's score is 0
    torch.testing.assert_close(
        found.per_granularity, torch.tensor([1800.0, 3600.0, 7200.0]) - log2 + log3
    )
    found.total.backward()
    assert torch.isfinite(users.grad).all()


def test_no_buffer_grows_with_the_negatives_or_the_granularities(monkeypatch):
    areas = watched_areas(monkeypatch)
    monkeypatch.setattr(module, "TILE_ELEMENTS", 10_000)
    users, items = torch.randn(40, 8), torch.randn(5_000, 8)
    for slices in ([(0, 8)], [(0, 2), (2, 4), (4, 8)]):
        areas.clear()
        shape = (len(slices), 40)
        weighted_softplus(
            users, items, PrefixScales(slices, torch.ones(shape)),
            weight=torch.ones(5_000), coefficient=torch.ones(shape),
        )  # fmt: skip
        assert len(areas) > 2 and max(areas) * (len(slices) + 3) <= 10_000
