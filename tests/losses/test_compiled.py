"""The compiled log-sum-exp against the torch tiles in float64, and its bits across processes."""

import os
import subprocess
import sys
import tracemalloc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.granularity import Granularities
from recsys.losses.by_kernels.compiled_logsumexp import CompiledLogSumExp
from recsys.losses.logsumexp import nested_logsumexp
from recsys.losses.softmax import Negatives, Teaching, nested_softmax

SIZES = st.lists(st.integers(1, 70), min_size=1, max_size=5, unique=True).map(sorted)


def make_inputs(seed, num_tokens, num_items, sizes, spread=1.0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    slices = list(zip([0, *sizes], sizes, strict=False))
    tensors = [
        draw(num_tokens, sizes[-1]),
        draw(num_items, sizes[-1]),
        spread * draw(len(sizes), num_tokens).abs(),
        draw(len(sizes), num_items).abs(),
        draw(num_items),
    ]
    skip = torch.randint(-1, num_items, (num_tokens, seed % 4), generator=generator)
    return tensors, skip, slices


def values_and_gradients(tensors, skip, slices, dtype, *, means=True):
    users, items, row_scale, col_scale, bias = (
        tensor.to(dtype, copy=True).requires_grad_() for tensor in tensors
    )
    found, mean = nested_logsumexp(
        users, items, row_scale, slices,
        col_scale=col_scale, bias=bias.detach(), skip=skip, means=means,
    )  # fmt: skip
    finite = found.masked_fill(found == -torch.inf, 0.0)
    weights = torch.linspace(0.5, 1.5, found.numel(), dtype=dtype).reshape(found.shape)
    loss = (finite * weights).sum()
    if means:
        loss = loss - (mean * weights.flip(1)).sum()
    loss.backward()
    return found.detach(), mean.detach(), users.grad, items.grad, row_scale.grad, col_scale.grad


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.integers(1, 120), st.integers(1, 600), SIZES, st.booleans())
def test_values_and_gradients_are_those_of_the_tiles_in_float64(
    seed, num_tokens, num_items, sizes, means
):
    inputs = make_inputs(seed, num_tokens, num_items, sizes)
    expected = values_and_gradients(*inputs, torch.float64, means=means)
    found = values_and_gradients(*inputs, torch.float32, means=means)
    for ours, reference in zip(found, expected, strict=True):
        finite = reference.masked_fill(reference == -torch.inf, 0.0)
        scale = max(1.0, float(finite.abs().max())) if finite.numel() else 1.0
        torch.testing.assert_close(ours.double(), reference, rtol=1e-4, atol=1e-5 * scale)


def test_logits_of_hundreds_neither_overflow_nor_vanish():
    inputs = make_inputs(3, 30, 400, [8, 32], spread=200.0)
    expected = values_and_gradients(*inputs, torch.float64)
    found = values_and_gradients(*inputs, torch.float32)
    assert expected[0].max() > 1_000
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-5, atol=1e-2)
    assert all(torch.isfinite(grad).all() for grad in found[2:])


def test_float32_on_a_cpu_is_compiled_and_the_rest_is_not(monkeypatch):
    taken = []
    original = CompiledLogSumExp.apply
    monkeypatch.setattr(
        CompiledLogSumExp, "apply", lambda *inputs: taken.append(1) or original(*inputs)
    )
    for dtype, count in ((torch.float64, 0), (torch.float32, 1)):
        users, items = torch.ones(3, 8, dtype=dtype), torch.ones(4, 8, dtype=dtype)
        nested_logsumexp(users, items, torch.ones(1, 3, dtype=dtype), [(0, 8)])
        assert len(taken) == count


@pytest.mark.parametrize("num_sizes", [1, 6])
def test_no_buffer_has_a_number_for_every_token_and_item(num_sizes):
    """960 x 9,600 scores are 35 MiB; tables and gradients of both sides are under 4."""
    sizes = [2, 4, 6, 8, 12, 16][-num_sizes:]
    slices = list(zip([0, *sizes], sizes, strict=False))
    users = torch.randn(960, 16, requires_grad=True)
    items = torch.randn(9_600, 16, requires_grad=True)
    scales = torch.ones(num_sizes, 960)
    nested_logsumexp(users, items, scales, slices, means=True)[0].sum().backward()
    tracemalloc.start()
    nested_logsumexp(users, items, scales, slices, means=True)[0].sum().backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 100_000 < peak < 6 << 20


BITS = """
import hashlib, torch
from tests.losses.test_compiled import make_inputs, values_and_gradients
torch.set_num_threads(2)
outputs = values_and_gradients(*make_inputs(1, 100, 700, [5, 16, 48]), torch.float32)
print(hashlib.sha256(b"".join(x.numpy().tobytes() for x in outputs)).hexdigest())
"""


def test_a_process_that_compiles_and_one_that_loads_from_the_cache_give_the_same_bits(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    def run():
        command = [sys.executable, "-c", BITS]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    compiled = run()
    assert list(tmp_path.rglob("*.nbc"))
    assert run() == compiled


@pytest.mark.parametrize("length", [0.0, 1e-9])
def test_a_drawn_target_with_an_empty_prefix_leaves_the_distilled_loss_finite(length):
    """Its score is hidden; times the enormous scale of a tiny prefix it must not become NaN."""
    generator = torch.Generator().manual_seed(0)
    granularities = Granularities(sizes=(4, 8), normalize=True)
    users, items = (torch.randn(n, 8, generator=generator) for n in (3, 10))
    items[2, :4] = length
    targets = torch.tensor([2, 5, 7])
    totals = []
    for dtype in (torch.float64, torch.float32):
        negatives = Negatives(torch.arange(10), torch.zeros(10, dtype=dtype))
        candidates = torch.cat([items, items[targets]]).to(dtype).requires_grad_()
        found = nested_softmax(
            users.to(dtype), candidates, targets, torch.full((2,), 15.0, dtype=dtype),
            granularities, negatives=negatives, teaching=Teaching(0.5),
        ).total  # fmt: skip
        found.backward()
        assert torch.isfinite(candidates.grad).all()
        totals.append(float(found.detach()))
    assert totals[1] == pytest.approx(totals[0], rel=1e-4)


def test_item_vectors_longer_than_the_last_slice_are_scored_by_their_prefix():
    users, items = torch.randn(3, 8), torch.randn(5, 8)
    found, _ = nested_logsumexp(users, items, torch.ones(1, 3), [(0, 4)])
    expected = (users[:, :4] @ items[:, :4].T).logsumexp(1)
    torch.testing.assert_close(found[0], expected)
