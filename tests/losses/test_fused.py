"""Reference: the same log-sum-exp by tiles in float64, which is checked against gradcheck."""

import numba
import pytest
import torch

from recsys.losses import fused, kernels
from recsys.losses.logsumexp import nested_logsumexp

SLICES = [(0, 4), (4, 12), (12, 16)]
T, N, D = 37, 2_300, 16  # more than two blocks of columns
OPTIONS = ("col_scale", "bias", "skip", "own")


def inputs(dtype, only=OPTIONS, spread=1.0):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator).mul(spread).to(dtype).requires_grad_()

    def positive(*shape):
        drawn = torch.rand(*shape, generator=generator) + 0.5
        return drawn.to(dtype).requires_grad_()

    tensors = {"users": draw(T, D), "items": draw(N, D), "row_scale": positive(3, T)}
    options = {
        "col_scale": positive(3, N),
        "bias": draw(N).detach(),
        "skip": torch.randint(-1, N, (T,), generator=generator),
        "own": draw(3, T),
    }
    weight = torch.rand(3, T, generator=generator).to(dtype)
    return tensors, {name: options[name] for name in only}, weight


def run(dtype, weight_given, only=OPTIONS, spread=1.0, upstream=1.0):
    """Results, and gradients of sum(upstream * weight * results), by name."""
    tensors, options, weight = inputs(dtype, only, spread)
    hint = weight if weight_given else None
    result = nested_logsumexp(**tensors, slices=SLICES, **options, weight=hint)
    (result * weight * upstream).sum().backward()
    everything = {**tensors, **options}
    return result.detach(), {k: v.grad for k, v in everything.items() if v.requires_grad}


def assert_alike(found, expected):
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-5, atol=1e-5)
    for name, gradient in expected[1].items():
        bound = 1e-5 * gradient.abs().max()
        assert (found[1][name].double() - gradient).abs().max() <= bound, name


@pytest.mark.parametrize("only", [(), ("col_scale",), ("bias", "skip"), ("own",), OPTIONS])
@pytest.mark.parametrize("tile", [1 << 23, 3 * N * fused.MIN_ROWS])
def test_one_sweep_equals_the_reference(only, tile, monkeypatch):
    monkeypatch.setattr(fused, "TILE_ELEMENTS", tile)
    assert_alike(run(torch.float32, True, only), run(torch.float64, False, only))


@pytest.mark.parametrize("upstream", [0.25, torch.linspace(-1, 2, T)])
def test_another_gradient_than_foretold_is_right_all_the_same(upstream):
    found = run(torch.float32, True, upstream=upstream)
    assert_alike(found, run(torch.float64, False, upstream=upstream))


def test_bounds_that_are_far_too_loose_do_no_harm():
    """Vectors so long that Cauchy and Schwarz bound the logits hundreds too high."""
    found, expected = (
        run(d, g, spread=9.0) for d, g in ((torch.float32, True), (torch.float64, False))
    )
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-5, atol=1e-3)


def test_it_is_used_where_it_fits_and_nowhere_else():
    tensors, options, _ = inputs(torch.float32)
    own = fused.Inputs(**tensors, **options, slices=SLICES)
    assert fused.fits(own)
    wide = {**tensors, "items": torch.empty(1_000_000, D, device="meta")}
    assert not fused.fits(fused.Inputs(**wide, **options, slices=SLICES))
    doubles, options, _ = inputs(torch.float64)
    assert not fused.fits(fused.Inputs(**doubles, **options, slices=SLICES))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_stays_and_does_not_change_the_bits(threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert torch.get_num_threads() == threads
        scores = torch.randn(5, 3_000, generator=torch.Generator().manual_seed(1))
        fused._share_threads()
        assert torch.get_num_threads() == threads == numba.get_num_threads()
        ones, zeros = torch.ones(3_000).numpy(), torch.zeros(3_000).numpy()
        result = torch.empty(5)
        kernels.log_sum_exp(
            scores.numpy(), ones[:5], ones, zeros, scores.amax(1).numpy(), result.numpy()
        )
        torch.testing.assert_close(result, scores.logsumexp(1), rtol=1e-6, atol=1e-6)
    finally:
        torch.set_num_threads(before)
