"""log-sum-exp and its gradients in one sweep, for float32 on a CPU.

The gradient of the loss with respect to each log-sum-exp is known beforehand (weight of the
granularity over the number of tokens), so gradients are taken while a tile's scores are still
there: nothing is computed twice, and exp, the costly pass, is a compiled one (`kernels`).

Full softmax alone, forward and backward, 768 tokens, 12,101 items, 256 coordinates, cosine with
scales, 2 threads (`python -m benchmarks steps`): naive cross-entropies 165 ms at one granularity
and 608 ms at six, this sweep 130 and 354 ms. What is left at six: matrix products 105 + 130 ms
(30 + 55 at one; products of small depth read and write more scores than they multiply), passes of
exp 30 + 70 ms. One loop in the place of the four short ones in `kernels.add_slopes` made that pass
three times slower; tile budgets of 4, 8, 16 and 32 million elements made no difference beyond the
noise.

Shape legend: T tokens, N candidates, G granularities, D embedding_dim, R rows of a tile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from torch import Tensor

from recsys.losses import kernels

TILE_ELEMENTS = 1 << 23
"""Scores held at once, over all granularities (32 MiB of float32)."""
MIN_ROWS = 32
"""With fewer rows to a tile, matrix products would only read the table again and again."""
_SKIPPED = -1e20
"""A raw score that no later coordinate can mend: its exp is 0."""


@dataclass(frozen=True)
class Inputs:
    """What the scores are made of; see `nested_logsumexp`."""

    users: Tensor
    items: Tensor
    row_scale: Tensor
    col_scale: Tensor | None
    bias: Tensor | None
    skip: Tensor | None
    own: Tensor | None
    slices: list[tuple[int, int]]


@dataclass(frozen=True)
class Swept:
    """Results `[G, T]` and the gradients of `sum(weight * results)`."""

    result: Tensor
    users: Tensor
    items: Tensor
    row_scale: Tensor
    col_scale: Tensor
    own: Tensor | None


def fits(inputs: Inputs) -> bool:
    """Whether `sweep` can be used, and pays."""
    tile = len(inputs.slices) * len(inputs.items) * MIN_ROWS
    plain = inputs.users.dtype == torch.float32 and inputs.users.device.type == "cpu"
    return plain and tile <= TILE_ELEMENTS


def sweep(inputs: Inputs, weight: Tensor) -> Swept:
    """Log-sum-exps and gradients, tile of rows by tile of rows.

    Args:
        inputs: float32 on a CPU, positive scales.
        weight: `[G, T]`, the gradient of the loss with respect to each result.
    """
    num_tokens, num_items, depth = len(inputs.users), len(inputs.items), len(inputs.slices)
    _share_threads()
    col_scale = inputs.col_scale
    scales = _Scales(
        inputs.row_scale.contiguous(),
        torch.ones(depth, num_items) if col_scale is None else col_scale.contiguous(),
        torch.zeros(num_items) if inputs.bias is None else inputs.bias.float().contiguous(),
    )
    bound = _bounds(inputs, scales)
    swept = Swept(
        result=torch.empty(depth, num_tokens),
        users=torch.empty_like(inputs.users),
        items=torch.zeros_like(inputs.items),
        row_scale=torch.empty(depth, num_tokens),
        col_scale=torch.zeros(depth, num_items),
        own=None if inputs.own is None else torch.empty(depth, num_tokens),
    )
    height = min(num_tokens, max(1, TILE_ELEMENTS // (depth * num_items)))
    scores, slopes = torch.empty(depth, height, num_items), torch.empty(height, num_items)
    for start in range(0, num_tokens, height):
        rows = slice(start, min(start + height, num_tokens))
        count = rows.stop - rows.start
        _score(inputs, rows, scores[:, :count])
        _results(inputs, scales, rows, scores[:, :count], bound, swept)
        _gradients(inputs, scales, rows, scores[:, :count], slopes[:count], weight, swept)
    return swept


def _share_threads() -> None:
    """Gives the kernels as many threads as torch has.

    Starting numba's threads sets the number of OpenMP threads, and thereby torch's: put it back.
    """
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Scales:
    row: Tensor
    col: Tensor
    bias: Tensor


def _bounds(inputs: Inputs, scales: _Scales) -> Tensor:
    """`[G, T]` no less than any logit of the row (Cauchy and Schwarz)."""
    rows, columns = [], []
    for lo, hi in inputs.slices:
        rows.append(inputs.users[:, lo:hi].square().sum(1))
        columns.append(inputs.items[:, lo:hi].square().sum(1))
    longest = torch.stack(columns).cumsum(0).sqrt().mul_(scales.col).amax(1, keepdim=True)
    lengths = torch.stack(rows).cumsum(0).sqrt().mul_(scales.row)
    return lengths * longest + scales.bias.max().clamp_min(0.0)


def _score(inputs: Inputs, rows: slice, scores: Tensor) -> None:
    """Raw scores of every granularity, each from the one before: `[G, R, N]`, written."""
    users, items = inputs.users[rows], inputs.items
    for g, (lo, hi) in enumerate(inputs.slices):
        if g == 0:
            torch.mm(users[:, lo:hi], items[:, lo:hi].T, out=scores[0])
            if inputs.skip is not None:
                hit = (inputs.skip[rows] >= 0).nonzero().squeeze(1)
                scores[0][hit, inputs.skip[rows][hit]] = _SKIPPED
        else:
            torch.addmm(scores[g - 1], users[:, lo:hi], items[:, lo:hi].T, out=scores[g])


def _results(
    inputs: Inputs, scales: _Scales, rows: slice, scores: Tensor, bound: Tensor, swept: Swept
) -> None:
    for g in range(len(scores)):
        kernels.log_sum_exp(
            scores[g].numpy(),
            scales.row[g, rows].numpy(),
            scales.col[g].numpy(),
            scales.bias.numpy(),
            bound[g, rows].numpy(),
            swept.result[g, rows].numpy(),
        )
    if inputs.own is not None:
        swept.result[:, rows] = torch.logaddexp(swept.result[:, rows], inputs.own[:, rows])


def _gradients(
    inputs: Inputs,
    scales: _Scales,
    rows: slice,
    scores: Tensor,
    slopes: Tensor,
    weight: Tensor,
    swept: Swept,
) -> None:
    """Coordinates of a granularity also stand in every wider one: slopes add up from the top."""
    slopes.zero_()
    blocks = -(-scores.shape[2] // kernels.BLOCK)
    parts = np.empty((blocks, scores.shape[1]), np.float32)
    weights, results = weight[:, rows].contiguous(), swept.result[:, rows].contiguous()
    users, items = inputs.users[rows], inputs.items
    for g, (lo, hi) in reversed(list(enumerate(inputs.slices))):
        kernels.add_slopes(
            scores[g].numpy(),
            scales.row[g, rows].numpy(),
            scales.col[g].numpy(),
            scales.bias.numpy(),
            results[g].numpy(),
            weights[g].numpy(),
            slopes.numpy(),
            parts,
            swept.col_scale[g].numpy(),
        )
        swept.row_scale[g, rows] = torch.from_numpy(parts.sum(0))
        swept.users[rows, lo:hi] = slopes @ items[:, lo:hi]
        swept.items[:, lo:hi].addmm_(slopes.T, users[:, lo:hi])
    if swept.own is not None and inputs.own is not None:
        swept.own[:, rows] = weights * (inputs.own[:, rows] - results).exp_()
