"""Weighted sums of softplus over nested scores in tiles, with their own gradient.

What `logsumexp.py` is to softmax: scores are prefix-incremental and exist only as tiles. The total
is linear in the softplus of each score, so the slopes of a tile are known as soon as its scores
are: gradients are made in forward, and no tile is ever made twice.

Shape legend: T tokens, K items, G granularities, D embedding_dim, R and C rows and columns of one
tile.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from recsys.losses.prefix_scales import PrefixScales
from recsys.prefixes import add_prefix_products

TILE_ELEMENTS = 1 << 21
"""Elements a tile's buffers may hold together (8 MiB of float32), whatever G, T and K are."""
_LINEAR_FROM = 40.0
"""softplus(x) is x from here on, to the last bit of a float64."""


def weighted_softplus(
    users: Tensor,
    items: Tensor,
    factors: PrefixScales,
    *,
    weight: Tensor,
    coefficient: Tensor,
    bias: Tensor | None = None,
    skip: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Weighted sums of `softplus(x[g, t, k])`.

    `x[g, t, k]` is `bias[g, t]` and the score of token t and item k at granularity g.

    Args:
        users: `[T, D]`.
        items: `[K, D]`.
        factors: of the scores.
        weight: `[K]` of each item in the sums, no gradient.
        coefficient: `[G, T]` of each sum in the total, no gradient.
        bias: `[G, T]`.
        skip: `[T]` int64, an item to leave out of each row's sum (-1: none).

    Returns:
        `total []`, differentiable in users, items, factors and bias, and the
        `sums [G, T]` it is made of, which take no gradient.
    """
    apply: Callable[..., tuple[Tensor, Tensor]] = _WeightedSoftplus.apply
    terms = _Terms(factors.slices, weight, coefficient, skip)
    return apply(users, items, factors.rows, factors.cols, bias, terms)


@dataclass(frozen=True)
class _Terms:
    """The arguments of `weighted_softplus` that need no gradient."""

    slices: list[tuple[int, int]]
    weight: Tensor
    coefficient: Tensor
    skip: Tensor | None


class _WeightedSoftplus(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        row_scale: Tensor,
        col_scale: Tensor | None,
        bias: Tensor | None,
        terms: _Terms,
    ) -> tuple[Tensor, Tensor]:
        sweep = _Sweep(users, items, row_scale, col_scale, bias, terms)
        for rows, cols in _blocks(len(users), len(items), len(terms.slices)):
            sweep.add(rows, cols, want_scales=any(ctx.needs_input_grad[2:4]))
        ctx.save_for_backward(
            sweep.users_grad, sweep.items_grad, sweep.row_grad, sweep.col_grad, sweep.bias_grad
        )
        ctx.mark_non_differentiable(sweep.sums)
        return (sweep.sums * terms.coefficient).sum(), sweep.sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        grads = [None if part is None else part * grad for part in ctx.saved_tensors]
        return *grads, None


def _blocks(num_rows: int, num_cols: int, num_sizes: int) -> Iterator[tuple[slice, slice]]:
    """Row and column ranges that cover `[T, K]`; a tile per granularity and three more fit."""
    area = max(1, TILE_ELEMENTS // (num_sizes + 3))
    width = min(max(num_cols, 1), max(area // max(1, min(num_rows, 256)), 1))
    height = max(1, area // width)
    for col in range(0, num_cols, width):
        for row in range(0, num_rows, height):
            yield slice(row, row + height), slice(col, col + width)


class _Sweep:
    """Accumulates the sums and the gradients of every input, tile by tile."""

    def __init__(
        self,
        users: Tensor,
        items: Tensor,
        row_scale: Tensor,
        col_scale: Tensor | None,
        bias: Tensor | None,
        terms: _Terms,
    ) -> None:
        self.users, self.items, self.slices = users, items, terms.slices
        self.row_scale, self.col_scale, self.bias = row_scale, col_scale, bias
        self.weight, self.coefficient, self.skip = terms.weight, terms.coefficient, terms.skip
        self.sums = users.new_zeros(len(terms.slices), len(users))
        self.users_grad, self.items_grad = torch.zeros_like(users), torch.zeros_like(items)
        self.row_grad = torch.zeros_like(self.sums)
        self.col_grad = None if col_scale is None else torch.zeros_like(col_scale)
        self.bias_grad = None if bias is None else torch.zeros_like(bias)

    def add(self, rows: slice, cols: slice, *, want_scales: bool) -> None:
        """Adds one tile."""
        users, items = self.users[rows], self.items[cols]
        skipped = self._skipped(rows, cols)
        scores = users.new_zeros(len(users), len(items))
        slopes: list[Tensor] = []  # dTotal / d<u, v>_g, each [R, C]
        for g, _ in enumerate(add_prefix_products(scores, users, items, self.slices)):
            slopes.append(self._add_sums(scores, skipped, g, rows, cols, want_scales=want_scales))
        # Coordinates [lo, hi) of granularity g also stand in every wider one: sum from the top.
        total = torch.zeros_like(scores)
        for (lo, hi), slope in zip(reversed(self.slices), reversed(slopes), strict=True):
            total += slope
            self.users_grad[rows, lo:hi].addmm_(total, items[:, lo:hi])
            self.items_grad[cols, lo:hi].addmm_(total.T, users[:, lo:hi])

    def _skipped(self, rows: slice, cols: slice) -> tuple[Tensor, Tensor] | None:
        """`[R, 1]` columns of the tile, and whether what stands there is left out."""
        if self.skip is None:
            return None
        column = self.skip[rows, None] - cols.start
        width = min(cols.stop, len(self.items)) - cols.start
        return column.clamp(0, width - 1), (column >= 0) & (column < width)

    def _add_sums(
        self,
        scores: Tensor,
        skipped: tuple[Tensor, Tensor] | None,
        g: int,
        rows: slice,
        cols: slice,
        *,
        want_scales: bool,
    ) -> Tensor:
        """Adds the tile of granularity g to sums and scale gradients; returns its slopes."""
        logits = scores * self.row_scale[g, rows, None]
        across = self.weight[cols]
        if self.col_scale is not None:
            logits *= self.col_scale[g, cols]
            across = across * self.col_scale[g, cols]
        if self.bias is not None:
            logits += self.bias[g, rows, None]
        if skipped is not None:
            column, out = skipped  # softplus and slope of -inf are 0
            logits.scatter_(1, column, logits.gather(1, column).masked_fill_(out, -torch.inf))
        self.sums[g, rows] += softplus(logits, threshold=_LINEAR_FROM) @ self.weight[cols]
        slope = logits.sigmoid_()
        if self.bias_grad is not None:
            found = self.coefficient[g, rows] * (slope @ self.weight[cols])
            self.bias_grad[g, rows] += found
        down = self.coefficient[g, rows] * self.row_scale[g, rows]
        if want_scales:
            product = slope * scores
            self.row_grad[g, rows] += self.coefficient[g, rows] * (product @ across)
            if self.col_grad is not None:
                self.col_grad[g, cols] += self.weight[cols] * (down @ product)
        return slope.mul_(across).mul_(down[:, None])
