"""log-sum-exp of nested scores in tiles, with its own gradient.

Scores are prefix-incremental, `S_g = S_{g-1} + u[:, lo:hi] v[:, lo:hi]^T`, so the products of
all granularities cost what the full width costs alone. They exist only as tiles; backward makes
the tiles again from the saved log-sum-exps.

In float32 kernels take them (`losses/by_kernels`): numba's on a CPU, whose tiles stay in the cache,
and Triton's on an NVIDIA GPU, whose tiles stay on the chip. Everything else (another device,
float64) goes to the torch tiles of this file, which are also what the kernels are tested against.

Shape legend: T tokens (positions with a target), N candidate items, G granularities, D
embedding_dim, R and C rows and columns of one tile.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys.devices import is_host
from recsys.layers.precision import products_in_bf16
from recsys.losses.by_kernels.compiled_logsumexp import CompiledLogSumExp, Wanted
from recsys.losses.by_kernels.fused_logsumexp import FusedLogSumExp, fused
from recsys.prefixes import add_prefix_products

TILE_ELEMENTS = 1 << 21
"""Elements a tile's buffers may hold together (8 MiB of float32), whatever G, T and N are."""
DEVICE_TILE_ELEMENTS = 1 << 26
"""The same on a device (256 MiB): few large products keep it busy, many small ones do not."""


def nested_logsumexp(
    users: Tensor,
    items: Tensor,
    row_scale: Tensor,
    slices: list[tuple[int, int]],
    *,
    col_scale: Tensor | None = None,
    bias: Tensor | None = None,
    skip: Tensor | None = None,
    means: bool = False,
) -> tuple[Tensor, Tensor]:
    """`logsumexp_n(x[g, t, n])` of the logits of every granularity, and their means.

    `x[g, t, n] = row_scale[g, t] * col_scale[g, n] * <users_t, items_n>_g + bias[n]`. The mean is
    `sum_n p[t, n] x[g, t, n]`, p the softmax of the last granularity, which no gradient reaches:
    what a distillation of the prefixes needs.

    Args:
        users: `[T, D]`.
        items: `[N, D]`.
        row_scale: `[G, T]`, positive, e.g. a learned scale over the norm of the user's prefix.
        slices: the coordinates `[lo, hi)` each granularity adds, ascending.
        col_scale: `[G, N]`, positive, e.g. one over the norm of the item's prefix.
        bias: `[N]`, no gradient; e.g. the logQ correction of sampled candidates.
        skip: `[T, S]` int64, columns to leave out of each row's sum (-1: none).
        means: whether they are wanted.

    Returns:
        `(log-sum-exps [G, T], means [G, T])`, differentiable in users, items, row_scale and
        col_scale. The means are `[0]` where they are not wanted, and 0 in a row that skips every
        column, whose log-sum-exp is -inf.
    """
    tensors = (users, items, row_scale) + (() if col_scale is None else (col_scale,))
    form = _form_for(tensors, slices)
    if form is not _TiledLogSumExp:
        if col_scale is None:
            col_scale = items.new_ones(len(slices), len(items))
        bias = items.new_zeros(len(items)) if bias is None else bias
        skip = users.new_full((len(users), 0), -1, dtype=torch.int64) if skip is None else skip
    wanted = Wanted(slices, means, bf16=products_in_bf16())
    apply: Callable[..., tuple[Tensor, Tensor]] = form.apply
    return apply(users, items, row_scale, col_scale, bias, skip, wanted)


def _form_for(
    tensors: tuple[Tensor, ...], slices: list[tuple[int, int]]
) -> type[torch.autograd.Function]:
    """The form of the sums for these users, items and scales: the only place that chooses."""
    users, items = tensors[:2]
    whole = slices[0][0] == 0 and slices[-1][1] == items.shape[1] and len(items) > 0
    if whole and all(x.dtype == torch.float32 for x in tensors):
        if all(is_host(x.device) for x in tensors):
            return CompiledLogSumExp
        if fused(users, slices):
            return FusedLogSumExp
    return _TiledLogSumExp


class _TiledLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        row_scale: Tensor,
        col_scale: Tensor | None,
        bias: Tensor | None,
        skip: Tensor | None,
        wanted: Wanted,
    ) -> tuple[Tensor, Tensor]:
        slices, means = wanted.slices, wanted.means
        tiles = _Tiles(users, items, row_scale, col_scale, bias, skip, slices)
        peaks = users.new_full((len(slices), len(users)), -torch.inf)
        sums = torch.zeros_like(peaks)
        for rows, cols in tiles.blocks():
            for g, logits in tiles.logits(rows, cols):
                _add_exponentials(logits, peaks[g, rows], sums[g, rows])
        result = peaks + sums.log()
        mean = torch.zeros_like(peaks) if means else users.new_zeros(0)
        if means:
            for rows, cols in tiles.blocks():
                taught = tiles.softmax(rows, cols, result[:, rows])
                for g, logits in tiles.logits(rows, cols):
                    mean[g, rows] += (taught * logits.masked_fill_(taught == 0, 0.0)).sum(1)
        ctx.save_for_backward(users, items, row_scale, col_scale, bias, skip, result)
        ctx.slices, ctx.means = slices, means
        return result, mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, mean_grad: Tensor) -> tuple[Tensor | None, ...]:
        users, items, row_scale, col_scale, bias, skip, result = ctx.saved_tensors
        tiles = _Tiles(users, items, row_scale, col_scale, bias, skip, ctx.slices)
        grads = _Grads(tiles, want_scales=any(ctx.needs_input_grad[2:4]))
        for rows, cols in tiles.blocks():
            pulls = mean_grad[:, rows] if ctx.means else None
            grads.add(rows, cols, result[:, rows], grad[:, rows], pulls)
        return grads.users, grads.items, grads.row_scale, grads.col_scale, None, None, None


def _add_exponentials(logits: Tensor, peaks: Tensor, sums: Tensor) -> None:
    """Online update of `peaks + log(sums)` by a tile of logits, which is overwritten."""
    higher = torch.maximum(peaks, logits.amax(1))
    # A row whose every column so far is skipped has no finite peak yet: shift by 0 instead.
    shift = higher.masked_fill(higher == -torch.inf, 0.0)
    sums.mul_((peaks - shift).exp_()).add_(logits.sub_(shift[:, None]).exp_().sum(1))
    peaks.copy_(higher)


class _Tiles:
    """Score tiles of all granularities, made in a buffer that is used again and again."""

    def __init__(
        self,
        users: Tensor,
        items: Tensor,
        row_scale: Tensor,
        col_scale: Tensor | None,
        bias: Tensor | None,
        skip: Tensor | None,
        slices: list[tuple[int, int]],
    ) -> None:
        self.users, self.items = users, items
        self.row_scale, self.col_scale = row_scale, col_scale
        self.bias, self.skip, self.slices = bias, skip, slices

    @property
    def least_rows(self) -> int:
        return 256 if is_host(self.users.device) else 2048

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Row and column ranges that cover `[T, N]`, tiles bounded by `TILE_ELEMENTS`."""
        num_rows, num_cols = len(self.users), len(self.items)
        # Backward holds a tile per granularity and two more.
        room = TILE_ELEMENTS if is_host(self.users.device) else DEVICE_TILE_ELEMENTS
        area = max(1, room // (len(self.slices) + 2))
        width = max(1, min(num_cols, area // max(1, min(num_rows, self.least_rows))))
        height = max(1, area // width)
        for col in range(0, num_cols, width):
            for row in range(0, num_rows, height):
                yield slice(row, row + height), slice(col, col + width)

    def raw(self, rows: slice, cols: slice) -> Iterator[tuple[int, Tensor]]:
        """`(g, <u, v>_g)` from the smallest granularity up; one tensor, updated in place."""
        users, items = self.users[rows], self.items[cols]
        scores = users.new_zeros(len(users), len(items))
        return enumerate(add_prefix_products(scores, users, items, self.slices))

    def scaled(self, scores: Tensor, g: int, rows: slice, cols: slice) -> Tensor:
        """Logits of granularity g from its raw scores; a new tensor."""
        logits = scores * self.row_scale[g, rows, None]
        if self.col_scale is not None:
            logits *= self.col_scale[g, cols]
        if self.bias is not None:
            logits += self.bias[cols]
        if self.skip is not None:
            column = self.skip[rows] - cols.start
            hit = (column >= 0) & (column < logits.shape[1])
            # The lowest of all that is written to a place stays: nothing has to be counted.
            lowest = torch.where(hit, -torch.inf, torch.inf).to(logits.dtype)
            logits.scatter_reduce_(1, column.clamp(0, logits.shape[1] - 1), lowest, "amin")
        return logits

    def logits(self, rows: slice, cols: slice) -> Iterator[tuple[int, Tensor]]:
        """`(g, logits)`; the tensor may be overwritten by its user."""
        for g, scores in self.raw(rows, cols):
            yield g, self.scaled(scores, g, rows, cols)

    def softmax(self, rows: slice, cols: slice, result: Tensor) -> Tensor:
        """The last granularity's softmax over all columns, of this tile; `result [G, R]`."""
        level = result[-1].masked_fill(result[-1] == -torch.inf, 0.0)
        *_, (_, logits) = self.logits(rows, cols)
        return logits.sub_(level[:, None]).exp_()


class _Grads:
    """Accumulates the gradients of every input over the tiles."""

    def __init__(self, tiles: _Tiles, *, want_scales: bool) -> None:
        self.tiles = tiles
        self.users, self.items = torch.zeros_like(tiles.users), torch.zeros_like(tiles.items)
        self.row_scale = torch.zeros_like(tiles.row_scale) if want_scales else None
        self.col_scale = None
        if want_scales and tiles.col_scale is not None:
            self.col_scale = torch.zeros_like(tiles.col_scale)

    def add(
        self, rows: slice, cols: slice, result: Tensor, grad: Tensor, pulls: Tensor | None
    ) -> None:
        """Adds one tile. `result [G, R]` log-sum-exps; their gradients, and those of the means."""
        tiles = self.tiles
        taught = None if pulls is None else tiles.softmax(rows, cols, result)
        slopes: list[Tensor] = []  # dLoss / d<u, v>_g, each [R, C]
        # A row whose every column is skipped: its log-sum-exp is -inf, its slopes must be 0.
        result = result.masked_fill(result == -torch.inf, 0.0)
        for g, scores in tiles.raw(rows, cols):
            slope = tiles.scaled(scores, g, rows, cols).sub_(result[g, :, None]).exp_()
            slope *= grad[g, :, None]
            if taught is not None and pulls is not None:
                slope.addcmul_(taught, pulls[g, :, None])
            self._add_scales(slope, scores, g, rows, cols)
            slope *= tiles.row_scale[g, rows, None]
            if tiles.col_scale is not None:
                slope *= tiles.col_scale[g, cols]
            slopes.append(slope)
        # Coordinates [lo, hi) of granularity g also stand in every wider one: sum from the top.
        total = torch.zeros_like(slopes[-1])
        users, items = tiles.users[rows], tiles.items[cols]
        for (lo, hi), slope in zip(reversed(tiles.slices), reversed(slopes), strict=True):
            total += slope
            self.users[rows, lo:hi].addmm_(total, items[:, lo:hi])
            self.items[cols, lo:hi].addmm_(total.T, users[:, lo:hi])

    def _add_scales(self, slope: Tensor, scores: Tensor, g: int, rows: slice, cols: slice) -> None:
        if self.row_scale is None:
            return
        product = slope * scores
        tiles = self.tiles
        if tiles.col_scale is None:
            self.row_scale[g, rows] += product.sum(1)
            return
        self.row_scale[g, rows] += product @ tiles.col_scale[g, cols]
        if self.col_scale is not None:
            self.col_scale[g, cols] += tiles.row_scale[g, rows] @ product
