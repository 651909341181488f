"""log-sum-exp of nested scores by Triton's kernels: float32 on an NVIDIA GPU.

Shape legend: T tokens, N candidate items, G granularities, D embedding_dim, P parts into which a
sweep is cut so that every processor of the GPU has work.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys.losses.by_kernels.compiled_logsumexp import Wanted

WIDEST = 1024
"""Coordinates; longer vectors are multiplied by torch, as their gradient fits no register."""
_CHUNK = 64
"""Coordinates that are multiplied at once: the code of all chunks is to fit a GPU's cache."""
STEP = 32
"""The same where the full width is multiplied in a loop."""
_LEAST = 16
"""The smallest side of a product that tensor cores take."""
_REGISTERS = 1 << 14
"""float32 of a tile of gradients that a program keeps."""
_CAPABILITY = (8, 0)
"""GPUs before have no bfloat16."""


@cache
def has_fused(device: torch.device) -> bool:
    """Whether the kernels run on that device: an NVIDIA GPU that Triton is installed for."""
    if device.type != "cuda" or torch.version.cuda is None or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= _CAPABILITY


@dataclass(frozen=True)
class Tiles:
    """Rows and columns of the tiles of both sweeps; powers of two of at least 16."""

    sums: tuple[int, int]
    gradients: tuple[int, int]
    """Of the side whose gradients are made, and of the other."""

    @classmethod
    def of(cls, dim: int, *, bf16: bool) -> Tiles:
        """Those that fit a GPU's registers, and whose code fits its cache."""
        side = 64 if bf16 else 32
        own = max(_LEAST, min(side, _REGISTERS // _power(dim)))
        return cls((side, side), (own, side))


def launch(*, bf16: bool) -> dict[str, int]:
    """Threads of a program, in warps, and loads that it has under way."""
    return {"num_warps": 8, "num_stages": 2} if bf16 else {"num_warps": 4, "num_stages": 1}


def _power(number: int) -> int:
    """The next power of two."""
    return 1 << (number - 1).bit_length()


def chunks_of(sizes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Coordinates in chunks, none across the edge of a granularity, as the kernels expect them."""
    widths, starts = [], [0]
    for lo, hi in pairwise((0, *sizes)):
        widths += [min(_CHUNK, hi - at) for at in range(lo, hi, _CHUNK)]
        starts.append(len(widths))
    filled = tuple(max(_LEAST, _power(width)) for width in widths)
    return {"EDGES": (0, *accumulate(widths)), "WIDTHS": filled, "STARTS": tuple(starts)}


class FusedLogSumExp(torch.autograd.Function):
    """`nested_logsumexp` for float32 tensors on a GPU; same arguments, every one given.

    The host waits for nothing, sums are added up in one order, and no array has a number for every
    token and item.
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
        from recsys.kernels.gpu.logsumexp import sum_exponentials

        call = _Call(users, items, row_scale, col_scale, bias, skip, wanted)
        rows, columns = call.tiles.sums
        grid = _Grid.of(len(users), rows, len(items), columns, users.device)
        peaks = users.new_empty(grid.parts, *row_scale.shape, dtype=torch.float32)
        sums = torch.empty_like(peaks)
        weighted = torch.empty_like(peaks) if wanted.means else peaks
        with _started_on(users.device):
            sum_exponentials[grid.programs](
                *call.vectors, *call.factors, call.skip, peaks, sums, weighted,
                len(users), len(items), skip.shape[1], users.shape[1], grid.part,
                **call.settings, ROWS=rows, COLUMNS=columns,
            )  # fmt: skip
        peak = peaks.amax(0)
        shares = (peaks - peak).exp()
        total = (sums * shares).sum(0)
        levels = peak + total.log()
        # A row whose every column is skipped has no exponential to sum.
        empty = levels < -1e20
        means = peaks.new_zeros(0)
        if wanted.means:
            means = ((weighted * shares[:, -1:]).sum(0) / total[-1]).masked_fill(empty, 0.0)
        levels = levels.masked_fill(empty, -torch.inf)
        ctx.save_for_backward(users, items, row_scale, col_scale, bias, skip, levels)
        ctx.wanted = wanted
        return levels, means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, mean_grad: Tensor) -> tuple[Tensor | None, ...]:
        users, items, row_scale, col_scale, bias, skip, levels = ctx.saved_tensors
        call = _Call(users, items, row_scale, col_scale, bias, skip, ctx.wanted)
        empty = levels == -torch.inf
        weights = grad.masked_fill(empty, 0.0).contiguous()
        pulls = mean_grad.masked_fill(empty, 0.0).contiguous() if ctx.wanted.means else weights
        slopes = (levels.masked_fill(empty, 0.0), weights, pulls)
        users_grad, rows_grad = call.gradients(slopes, of_tokens=True)
        items_grad, cols_grad = call.gradients(slopes, of_tokens=False)
        return users_grad, items_grad, rows_grad, cols_grad, None, None, None


class _Call:
    """The tensors of one call, in the form the kernels expect."""

    def __init__(
        self,
        users: Tensor,
        items: Tensor,
        row_scale: Tensor,
        col_scale: Tensor,
        bias: Tensor,
        skip: Tensor,
        wanted: Wanted,
    ) -> None:
        sizes = tuple(hi for _, hi in wanted.slices)
        kind = torch.bfloat16 if wanted.bf16 else torch.float32
        self.vectors = [vectors.to(kind).contiguous() for vectors in (users, items)]
        self.factors = [factor.contiguous() for factor in (row_scale, col_scale, bias)]
        self.skip = skip.contiguous()
        self.tiles, self.num_sizes = Tiles.of(sizes[-1], bf16=wanted.bf16), len(sizes)
        # Tensor cores have no float32: three products of tf32 leave its last bit or two alone.
        exact = torch.get_float32_matmul_precision() == "highest"
        self.settings: dict[str, Any] = {
            **chunks_of(sizes),
            **launch(bf16=wanted.bf16),
            "NUM_SIZES": len(sizes),
            "MEANS": wanted.means,
            "STEP": STEP,
            "PRECISION": "tf32x3" if exact else "tf32",
        }

    def gradients(
        self, slopes: tuple[Tensor, Tensor, Tensor], *, of_tokens: bool
    ) -> tuple[Tensor, Tensor]:
        """Those of one side's vectors and of its scales."""
        from recsys.kernels.gpu.logsumexp import add_gradients

        own, other = self.vectors if of_tokens else self.vectors[::-1]
        mine, theirs = self.tiles.gradients
        grid = _Grid.of(len(own), mine, len(other), theirs, own.device)
        vectors = own.new_empty(grid.parts, *own.shape, dtype=torch.float32)
        scales = vectors.new_empty(grid.parts, self.num_sizes, len(own))
        with _started_on(own.device):
            add_gradients[grid.programs](
                own, other, vectors, scales, *self.factors, self.skip, *slopes,
                len(own), len(other), self.skip.shape[1], own.shape[1], grid.part,
                **self.settings, OF_TOKENS=of_tokens, OWN=mine, OTHER=theirs,
            )  # fmt: skip
        return _summed(vectors), _summed(scales)


def _started_on(device: torch.device) -> AbstractContextManager[Any]:
    """Triton starts kernels on the GPU of the moment, wherever their tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _summed(parts: Tensor) -> Tensor:
    return parts[0] if len(parts) == 1 else parts.sum(0)


@dataclass(frozen=True)
class _Grid:
    """Programs of one sweep: blocks of one side, times parts of the other."""

    programs: tuple[int, int]
    part: int
    """Rows of the other side in each part."""

    @property
    def parts(self) -> int:
        return self.programs[1]

    @classmethod
    def of(cls, num_own: int, own: int, num_other: int, other: int, device: torch.device) -> _Grid:
        """As many parts as give every processor two programs."""
        blocks, turns = -(-num_own // own), -(-num_other // other)
        parts = min(turns, -(-2 * _processors(device) // max(1, blocks)))
        length = -(-turns // parts)
        return cls((blocks, -(-turns // length)), length * other)


@cache
def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return 4  # Triton's interpreter
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def fused(users: Tensor, slices: list[tuple[int, int]]) -> bool:
    """Whether the kernels take these users, whose items and scales are where they are."""
    return slices[-1][1] <= WIDEST and len(users) > 0 and has_fused(users.device)
