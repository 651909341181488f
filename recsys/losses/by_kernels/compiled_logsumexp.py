"""log-sum-exp of nested scores by the compiled kernels: float32 on a CPU.

Shape legend: T tokens, T' the same padded to whole tiles, N candidate items, G granularities,
D embedding_dim, P coordinates with every slice padded to whole vectors.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys.arrays import Float32
from recsys.kernels import logsumexp as softmax
from recsys.kernels.lanes import LANES
from recsys.kernels.threads import run_shares, shares


@dataclass(frozen=True)
class Wanted:
    """The terms to be summed."""

    slices: list[tuple[int, int]]
    """The coordinates `[lo, hi)` each granularity adds, ascending."""
    means: bool
    """Whether the mean logits are wanted too."""
    bf16: bool = False
    """A GPU may multiply in bfloat16; sums are taken in float32 all the same."""


class CompiledLogSumExp(torch.autograd.Function):
    """`nested_logsumexp` for float32 tensors on a CPU; same arguments, every one given.

    Returns the log-sum-exps and the mean logits; these are empty where they are not wanted.
    """

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        row_scale: Tensor,
        col_scale: Tensor,
        bias: Tensor,
        skip: Tensor,
        wanted: Wanted,
    ) -> tuple[Tensor, Tensor]:
        means = wanted.means
        inputs = _Inputs(wanted.slices, users, items, row_scale, col_scale, bias, skip)
        parts = shares(-(-len(items) // softmax.SWEEP_COLUMNS))
        peaks = np.empty((len(parts), *inputs.row_scale.shape), np.float32)
        sums = np.empty_like(peaks)
        weighted = np.empty(peaks.shape if means else (len(parts), 0), np.float32)

        def sweep(number: int, part: tuple[int, int]) -> None:
            softmax.sum_exponentials(
                *inputs.flat, part, peaks[number].ravel(), sums[number].ravel(),
                weighted[number].ravel(),
            )  # fmt: skip

        run_shares(sweep, parts)
        peak = peaks.max(0)
        with np.errstate(invalid="ignore"):  # of a diverging run; the trainer looks at gradients
            shares_of = np.exp(peaks - peak)
            total = (sums * shares_of).sum(0)
            levels = torch.from_numpy(peak + np.log(total))
        # A row whose every column is skipped has no exponential to sum.
        empty = levels[:, : len(users)] < -1e20
        found = torch.zeros(0)
        if means:
            mean = torch.from_numpy((weighted * shares_of[:, -1:]).sum(0) / total[-1])
            found = mean[:, : len(users)].masked_fill(empty, 0.0)
        ctx.save_for_backward(users, items, row_scale, col_scale, bias, skip, levels)
        ctx.slices, ctx.means = wanted.slices, means
        return levels[:, : len(users)].masked_fill(empty, -torch.inf), found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, mean_grad: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, levels = ctx.saved_tensors
        inputs = _Inputs(ctx.slices, *tensors)
        num_rows, num_items = len(tensors[0]), len(tensors[1])
        weights = np.zeros(levels.shape, np.float32)
        weights[:, :num_rows] = grad.numpy()
        weights[levels.numpy() < -1e20] = 0.0
        pulls = np.zeros(levels.shape if ctx.means else 0, np.float32)
        if ctx.means:
            pulls[:, :num_rows] = mean_grad.numpy()
            pulls[levels.numpy() < -1e20] = 0.0
        parts = shares(-(-num_items // softmax.TILE_COLUMNS))
        users_grad = np.zeros((len(parts), *inputs.users.shape), np.float32)
        rows_grad = np.zeros((len(parts), *levels.shape), np.float32)
        items_grad = np.empty(tensors[1].shape, np.float32)
        cols_grad = np.empty((len(levels), num_items), np.float32)
        level = levels.numpy().ravel()

        def sweep(number: int, part: tuple[int, int]) -> None:
            softmax.add_gradients(
                *inputs.flat, part, level, weights.ravel(), pulls.ravel(),
                users_grad[number].ravel(),
                items_grad.ravel(), rows_grad[number].ravel(), cols_grad.ravel(),
            )  # fmt: skip

        run_shares(sweep, parts)
        return (
            torch.from_numpy(inputs.unpad(users_grad.sum(0))[:num_rows]),
            torch.from_numpy(items_grad),
            torch.from_numpy(rows_grad.sum(0)[:, :num_rows]),
            torch.from_numpy(cols_grad),
            None,
            None,
            None,
        )


class _Inputs:
    """Tensors in the form the kernels expect: rows and slices padded, everything flat."""

    def __init__(
        self,
        slices: list[tuple[int, int]],
        users: Tensor,
        items: Tensor,
        row_scale: Tensor,
        col_scale: Tensor,
        bias: Tensor,
        skip: Tensor,
    ) -> None:
        self.edges = np.array([0, *(hi for _, hi in slices)])
        widths = -(-np.diff(self.edges) // LANES) * LANES
        self.starts = np.concatenate([[0], widths.cumsum()])
        num_rows = -(-len(users) // softmax.TILE_ROWS) * softmax.TILE_ROWS
        self.users = np.zeros((num_rows, self.starts[-1]), np.float32)
        for lo, hi, start in zip(self.edges, self.edges[1:], self.starts, strict=False):
            self.users[: len(users), start : start + hi - lo] = users[:, lo:hi].numpy()
        self.row_scale = np.zeros((len(slices), num_rows), np.float32)
        self.row_scale[:, : len(users)] = row_scale.numpy()
        skips = np.full((num_rows, skip.shape[1]), -1)
        skips[: len(users)] = skip.numpy()
        flat = (items, col_scale, bias)
        columns = [np.ascontiguousarray(tensor.numpy()).ravel() for tensor in flat]
        self.flat = (
            self.users.ravel(), columns[0], self.row_scale.ravel(), columns[1], columns[2],
            skips, self.edges, self.starts,
        )  # fmt: skip

    def unpad(self, rows: Float32) -> Float32:
        """`[T', P]` -> `[T', D]`."""
        spans = zip(self.starts, np.diff(self.edges), strict=False)
        return np.concatenate([rows[:, start : start + width] for start, width in spans], axis=1)
