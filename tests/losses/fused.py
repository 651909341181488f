"""Triton's kernels in its interpreter against naive sums in float64; prints the errors as JSON.

Run as a process of its own (`test_fused.py`): Triton asks for TRITON_INTERPRET when it is imported.
"""

import json
from unittest.mock import patch

import numpy as np
import torch
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder

from recsys.data.histories import Histories
from recsys.granularity import Granularities
from recsys.layers.jagged import layout_of
from recsys.losses import logsumexp
from recsys.losses.by_kernels import fused_logsumexp
from recsys.losses.by_kernels.compiled_logsumexp import Wanted
from recsys.losses.by_kernels.fused_logsumexp import FusedLogSumExp, Tiles
from recsys.losses.history_candidates import Had, seen_candidates
from recsys.losses.softmax import Negatives, Teaching, nested_softmax

CASES = {
    "one granularity": {"sizes": (16,)},
    "three": {"sizes": (4, 12, 20)},
    "six": {"sizes": (2, 4, 8, 12, 16, 24)},
    "chunks within a granularity": {"sizes": (8, 40, 44)},
    "one token": {"sizes": (4, 12), "tokens": 1},
    "one item": {"sizes": (4, 12), "items": 1, "skips": 0},
    "whole tiles": {"sizes": (16, 32), "tokens": 16, "items": 32},
    "repeats and hits": {"sizes": (4, 12, 20), "skips": 5},
    "a row that skips every item": {"sizes": (4, 12), "items": 2, "skips": 2, "all": True},
    "large logits": {"sizes": (4, 20), "spread": 100.0},
    "no means": {"sizes": (4, 12, 20), "means": False},
    "bf16": {"sizes": (4, 12, 20), "bf16": True},
}
DOT = InterpreterBuilder.create_dot
NAMES = ("levels", "means", "users", "items", "row_scale", "col_scale")


def dot(builder, a, b, d, *how):
    """The interpreter keeps bfloat16 as integers, and multiplies these (Triton 3.9)."""
    if a.dtype.scalar == tl.bfloat16:
        a, b = (builder.create_fp_ext(x, tl.float32) for x in (a, b))
    return DOT(builder, a, b, d, *how)


def made(sizes, tokens=19, items=35, skips=2, spread=1.0, **how):
    """`(tensors in float64, skip)` of a case."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    tensors = [
        draw(tokens, sizes[-1]),
        draw(items, sizes[-1]),
        spread * draw(len(sizes), tokens).abs(),
        draw(len(sizes), items).abs(),
        draw(items),
    ]
    if how.get("bf16"):
        tensors[:2] = [vectors.bfloat16().double() for vectors in tensors[:2]]
    skip = torch.randint(-1, items, (tokens, skips), generator=generator)
    if how.get("all"):
        skip[0] = torch.arange(skips)
    return [tensor.requires_grad_() for tensor in tensors], skip


def naive(users, items, row_scale, col_scale, bias, skip, sizes):
    """Log-sum-exps and means `[G, T]` of the whole score matrices."""
    hidden = (torch.arange(len(items)) == skip[:, :, None]).any(1)
    logits = torch.stack(
        [
            (users[:, :size] @ items[:, :size].T) * row_scale[g][:, None] * col_scale[g] + bias
            for g, size in enumerate(sizes)
        ]
    ).masked_fill(hidden, -torch.inf)
    taught = logits[-1].detach().softmax(1).masked_fill(hidden, 0.0).nan_to_num()
    return logits.logsumexp(2), (logits.masked_fill(hidden, 0.0) * taught).sum(2)


def outcome(levels, means, leaves):
    """Values and gradients of a loss that weighs all of them differently."""
    weights = torch.linspace(0.5, 1.5, levels.numel(), dtype=levels.dtype).reshape(levels.shape)
    loss = (levels.masked_fill(levels == -torch.inf, 0.0) * weights).sum()
    if means.numel():
        loss = loss - (means * weights.flip(1)).sum()
    grads = torch.autograd.grad(loss, leaves)
    return [levels.detach(), means.detach(), *(grad.nan_to_num() for grad in grads)]


def errors(found, expected):
    """The largest difference of each, as a share of the largest value (or of 1)."""
    told = {}
    for name, one, other in zip(NAMES, found, expected, strict=True):
        assert one.shape == other.shape, name
        same = torch.isinf(one) & torch.isinf(other)
        scale = max(1.0, float(other.masked_fill(same, 0.0).abs().max())) if one.numel() else 1.0
        gap = (one.double() - other).masked_fill(same, 0.0).abs()
        told[name] = float(gap.max()) / scale if gap.numel() else 0.0
    return told


def case(sizes, **how):
    """The errors of one case."""
    tensors, skip = made(sizes, **how)
    means = how.get("means", True)
    levels, wanted = naive(*tensors, skip, sizes)
    expected = outcome(levels, wanted if means else wanted[:0, 0], tensors[:4])
    *leaves, bias = (tensor.detach().float().requires_grad_() for tensor in tensors)
    slices = list(zip((0, *sizes), sizes, strict=False))
    terms = Wanted(slices, means, bf16=how.get("bf16", False))
    found = FusedLogSumExp.apply(*leaves, bias.detach(), skip, terms)
    return errors(outcome(*found, leaves), expected)


def losses():
    """Of the nested softmax with all its options: the kernels' loss and gradients, and naive."""
    told = {}
    sizes, generator = (4, 12, 20), torch.Generator().manual_seed(1)
    own = Granularities(sizes=sizes, weights=(3.0, 2.0, 1.0), normalize=True)
    histories = Histories(
        np.arange(4), np.arange(20, dtype=np.int32) % 9, np.array([0, 9, 12, 18, 20])
    )
    users, table = (torch.randn(n, 20, generator=generator) for n in (20, 60))
    targets = torch.randint(0, 12, (20,), generator=generator)
    chosen = torch.unique(torch.randint(0, 60, (30,), generator=generator))
    log_q = torch.randn(len(chosen), generator=generator)
    read = torch.from_numpy(histories.items).long()
    for name in ("full", "sampled", "seen"):
        results = []
        for kind in (torch.float64, torch.float32):
            leaves = [users.to(kind).requires_grad_(), table.to(kind).requires_grad_()]
            scales = torch.tensor([15.0, 10.0, 5.0], dtype=kind, requires_grad=True)
            bias = torch.tensor([0.1, 0.2, 0.3], dtype=kind, requires_grad=True)
            candidates, more = leaves[1], {}
            if name != "full":
                candidates = torch.cat([leaves[1][chosen], leaves[1][targets]])
                more["negatives"] = Negatives(chosen, log_q.to(kind))
            if name == "seen":
                had = Had(read, leaves[1][read], layout_of(histories))
                more["own"] = seen_candidates(
                    leaves[0], had, targets, scales, own, negatives=chosen, bias=bias
                )
            loss = nested_softmax(
                leaves[0], candidates, targets, scales, own, teaching=Teaching(0.5), **more
            )
            grads = torch.autograd.grad(loss.total, [*leaves, scales])
            results.append([loss.per_granularity, loss.total.detach()[None], *grads, grads[-1]])
        told[name] = errors(results[1], results[0])
    return told


def main():
    """All cases, with tiles so small that each has several."""
    small = patch.object(Tiles, "of", classmethod(lambda cls, dim, bf16: cls((16, 16), (16, 32))))
    halves = patch.object(InterpreterBuilder, "create_dot", dot)
    with small, halves, patch.object(fused_logsumexp, "_CHUNK", 16):
        told = {name: case(**how) for name, how in CASES.items()}
        with (
            patch.object(logsumexp, "fused", lambda *_: True),
            patch.object(logsumexp, "is_host", lambda _: False),
        ):
            told |= losses()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
