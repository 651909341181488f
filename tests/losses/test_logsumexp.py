"""Reference: torch.logsumexp over the whole score matrix of each granularity."""

import pytest
import torch

from recsys.losses import logsumexp as module
from recsys.losses.logsumexp import nested_logsumexp
from tests.losses.buffers import watched_areas

SLICES = [(0, 2), (2, 4), (4, 8)]
T, N, D = 7, 11, 8
BOTH = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["tiles", "compiled"])


@pytest.fixture(params=[1 << 21, 60, 5])
def tile_elements(request, monkeypatch):
    """One tile for all, several tiles, tiles of one element."""
    monkeypatch.setattr(module, "TILE_ELEMENTS", request.param)


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)

    def make(*shape):
        tensor = torch.randn(*shape, dtype=torch.float64, generator=generator)
        return tensor.requires_grad_()

    return {
        "users": make(T, D),
        "items": make(N, D),
        "row_scale": make(3, T),
        "col_scale": make(3, N),
        "bias": make(N).detach(),
        "skip": torch.tensor([[0, 3], [-1, -1], [3, 3], [4, 10], [-1, 7], [10, 0], [2, -1]]),
    }


def naive(users, items, row_scale, col_scale=None, bias=None, skip=None):
    rows = []
    for g, (_, size) in enumerate(SLICES):
        logits = (users[:, :size] @ items[:, :size].T) * row_scale[g][:, None]
        if col_scale is not None:
            logits = logits * col_scale[g]
        if bias is not None:
            logits = logits + bias
        if skip is not None:
            hidden = (torch.arange(len(items)) == skip[:, :, None]).any(1)
            logits = logits.masked_fill(hidden, -torch.inf)
        rows.append(logits.logsumexp(1))
    return torch.stack(rows)


def test_it_equals_the_naive_form_whatever_the_tiles(inputs, tile_elements):
    found, _ = nested_logsumexp(
        inputs["users"], inputs["items"], inputs["row_scale"], SLICES,
        col_scale=inputs["col_scale"], bias=inputs["bias"], skip=inputs["skip"],
    )  # fmt: skip
    torch.testing.assert_close(found, naive(**inputs), rtol=1e-12, atol=1e-12)


def test_gradients_equal_numerical_ones_with_scales_bias_and_skips(inputs, tile_elements):
    def f(users, items, row_scale, col_scale):
        return nested_logsumexp(
            users, items, row_scale, SLICES,
            col_scale=col_scale, bias=inputs["bias"], skip=inputs["skip"],
        )[0]  # fmt: skip

    names = ("users", "items", "row_scale", "col_scale")
    assert torch.autograd.gradcheck(f, tuple(inputs[name] for name in names), fast_mode=True)


def test_gradients_equal_numerical_ones_without_any_option(inputs, tile_elements):
    def f(users, items, row_scale):
        return nested_logsumexp(users, items, row_scale, SLICES)[0]

    assert torch.autograd.gradcheck(
        f, (inputs["users"], inputs["items"], inputs["row_scale"].abs()), fast_mode=True
    )


def naive_logits(users, items, row_scale, col_scale, bias):
    return torch.stack(
        [
            (users[:, :size] @ items[:, :size].T) * row_scale[g][:, None] * col_scale[g] + bias
            for g, (_, size) in enumerate(SLICES)
        ]
    )


def test_means_and_their_gradients_are_those_under_a_teacher_held_fast(inputs, tile_elements):
    weights = torch.linspace(-1, 1, 3 * T, dtype=torch.float64).reshape(3, T)
    leaves = [inputs[name] for name in ("users", "items", "row_scale", "col_scale")]
    logits = naive_logits(*leaves, inputs["bias"])
    hidden = (torch.arange(N) == inputs["skip"][:, :, None]).any(1)
    taught = logits[-1].masked_fill(hidden, -torch.inf).softmax(1).detach()
    expected = (logits * taught).sum(2)
    expected_grads = torch.autograd.grad((expected * weights).sum(), leaves)
    _, found = nested_logsumexp(
        *leaves[:3], SLICES,
        col_scale=leaves[3], bias=inputs["bias"], skip=inputs["skip"], means=True,
    )  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for ours, reference in zip(
        torch.autograd.grad((found * weights).sum(), leaves), expected_grads, strict=True
    ):
        torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-12)


def test_scores_too_large_for_exp_do_not_overflow():
    users = torch.full((2, 8), 30.0)
    items = torch.stack([torch.full((8,), 30.0), torch.full((8,), -30.0)])
    found, _ = nested_logsumexp(users, items, torch.ones(3, 2), SLICES)
    torch.testing.assert_close(found[:, 0], torch.tensor([1800.0, 3600.0, 7200.0]))


@BOTH
def test_a_row_may_skip_the_only_item_of_a_tile(monkeypatch, dtype):
    monkeypatch.setattr(module, "TILE_ELEMENTS", 5)
    users, items = torch.ones(2, 8, dtype=dtype), torch.zeros(3, 8, dtype=dtype)
    skip = torch.tensor([[0], [-1]])
    found, _ = nested_logsumexp(users, items, torch.ones(3, 2, dtype=dtype), SLICES, skip=skip)
    torch.testing.assert_close(found[0], torch.tensor([2.0, 3.0], dtype=dtype).log())


@BOTH
def test_a_row_that_skips_every_item_has_no_gradient(dtype):
    users = torch.ones(2, 8, dtype=dtype, requires_grad=True)
    items = torch.ones(1, 8, dtype=dtype, requires_grad=True)
    ones = torch.ones(3, 2, dtype=dtype)
    found, _ = nested_logsumexp(users, items, ones, SLICES, skip=torch.tensor([[0], [-1]]))
    assert (found[:, 0] == -torch.inf).all() and torch.isfinite(found[:, 1]).all()
    torch.logaddexp(found, torch.zeros(3, 2, dtype=dtype)).sum().backward()
    assert not users.grad[0].any() and users.grad[1].all()
    assert torch.isfinite(items.grad).all()


def test_no_buffer_grows_with_the_catalogue_or_the_granularities(monkeypatch):
    """Every score tile stays within the bound, with 5,000 items and one or three granularities."""
    areas = watched_areas(monkeypatch)
    monkeypatch.setattr(module, "TILE_ELEMENTS", 10_000)
    users = torch.randn(40, 8, dtype=torch.float64, requires_grad=True)
    items = torch.randn(5_000, 8, dtype=torch.float64, requires_grad=True)
    for slices in ([(0, 8)], SLICES):
        areas.clear()
        ones = torch.ones(len(slices), 40, dtype=torch.float64)
        nested_logsumexp(users, items, ones, slices)[0].sum().backward()
        assert areas and max(areas) * (len(slices) + 2) <= 10_000
