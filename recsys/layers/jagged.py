"""Packed tokens as padded rows and back, for attention.

Shape legend: B users, T tokens of all users one after another, L the longest history of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from recsys.data.histories import Histories
from recsys.devices import HOST, is_host, to_indices
from recsys.errors import DataError

Time = Literal["none", "history", "request"]
"""What a model reads of time: nothing; the time of each interaction; also that of the request."""


@dataclass(frozen=True)
class TimeGrid:
    """Times of padded rows, int64 seconds; nonsense behind the end of each history."""

    seen: Tensor
    """`[B, L]` of each token."""
    asked: Tensor
    """`[B, L]` of the request that comes after each token; of the token itself, where the time of
    requests is not read."""

    @property
    def since(self) -> Tensor:
        """`[B, L]` seconds from each token to the request after it."""
        return self.asked - self.seen


@dataclass(frozen=True)
class JaggedLayout:
    """The position of each packed token in a padded `[B, L]` grid, right padding."""

    num_rows: int
    longest: int
    slots: Tensor
    """`[T]` int64, `row * longest + position`."""
    positions: Tensor
    """`[T]` int64, 0 for the oldest token of each history."""
    lengths: Tensor
    """`[B]` int64."""
    rows: Tensor
    """`[T]` int64, the user of each token."""
    times: TimeGrid | None = None
    """None: the model reads no time."""

    @property
    def last(self) -> Tensor:
        """`[B]` index of each user's most recent token among the packed ones."""
        return self.lengths.cumsum(0) - 1

    @property
    def from_end(self) -> Tensor:
        """`[T]` int64, 0 for the most recent token of each history."""
        return self.lengths[self.rows] - 1 - self.positions

    def pad(self, packed: Tensor) -> Tensor:
        """`[T, ...]` -> `[B, L, ...]`, zeros behind the end of each history."""
        grid = _spread(packed, self.slots, self.num_rows * self.longest)
        return grid.view(self.num_rows, self.longest, *packed.shape[1:])

    def pack(self, padded: Tensor) -> Tensor:
        """`[B, L, ...]` -> `[T, ...]`."""
        flat = padded.flatten(0, 1)
        return _gather(flat, self.slots)


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, *, dropout: float, bias: Tensor | None = None
) -> Tensor:
    """Causal attention of padded rows, `[B, H, L, W]` each; on a CPU in float32 whatever the
    others are: its backward pass is several times slower in bfloat16.

    Right padding: a real token never sees a padded one, since those come after it.

    Args:
        queries: of the tokens that look.
        keys: of the tokens that are looked at.
        values: of the same.
        dropout: share of the attention weights that is dropped.
        bias: `[H, L]` added to the scores of tokens 0, 1, ... L - 1 steps back.
    """
    return _attend(queries, keys, values, None if bias is None else _by_distance(bias), dropout)


def attend_both_ways(
    queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, *, dropout: float
) -> Tensor:
    """As `attend`, where tokens see all of their row: the first `lengths [B]` of it."""
    real = torch.arange(keys.shape[2], device=keys.device) < lengths[:, None]
    return _attend(queries, keys, values, real[:, None, None], dropout)


def _attend(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, dropout: float
) -> Tensor:
    """`mask`: added to the scores, or where there are some; None: causal."""
    if not is_host(queries.device):
        return nn.functional.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=_of_kind(mask, queries),
            is_causal=mask is None,
            dropout_p=dropout,
        )
    with torch.autocast(queries.device.type, enabled=False):
        return nn.functional.scaled_dot_product_attention(
            queries.float(),
            keys.float(),
            values.float(),
            attn_mask=mask,
            is_causal=mask is None,
            dropout_p=dropout,
        )


def _of_kind(mask: Tensor | None, queries: Tensor) -> Tensor | None:
    """What is added to scores has their type; what tells where there are some is of booleans."""
    return mask if mask is None or mask.dtype == torch.bool else mask.to(queries.dtype)


def _by_distance(bias: Tensor) -> Tensor:
    """`[H, L]` -> `[H, L, L]`: row i holds `bias[i - j]` at column j, -inf after i."""
    steps = torch.arange(bias.shape[1], device=bias.device)
    back = steps[:, None] - steps
    spread = nn.functional.embedding(back.clamp_min(0), bias.T)  # its gradient adds in one order
    return spread.movedim(2, 0).masked_fill(back < 0, -torch.inf)


class _Spread(torch.autograd.Function):
    """`[T, ...] -> [S, ...]`, row t at slot t, zeros elsewhere; the adjoint of `_Gather`.

    Slots are distinct, so each gradient is the other function: torch's own, which must allow for
    slots that repeat, adds into zeros (and `index_copy` copies the grid it fills).
    """

    @staticmethod
    def forward(ctx: Any, packed: Tensor, slots: Tensor, num_slots: int) -> Tensor:
        ctx.slots = slots
        return packed.new_zeros(num_slots, *packed.shape[1:]).index_copy_(0, slots, packed)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _gather(grad, ctx.slots), None, None


class _Gather(torch.autograd.Function):
    """`[S, ...] -> [T, ...]`, slot t of each row t."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, slots: Tensor) -> Tensor:
        ctx.slots, ctx.num_slots = slots, len(flat)
        return flat.index_select(0, slots)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _spread(grad, ctx.slots, ctx.num_slots), None


# torch's `apply` has no types.
_spread = cast(Callable[[Tensor, Tensor, int], Tensor], _Spread.apply)
_gather = cast(Callable[[Tensor, Tensor], Tensor], _Gather.apply)


def layout_of(
    histories: Histories, device: torch.device = HOST, *, time: Time = "none"
) -> JaggedLayout:
    """The layout of non-empty histories, its tensors on the device.

    Raises:
        DataError: the model reads a time that nobody gave.
    """
    longest = int(histories.lengths.max())
    lengths = to_indices(histories.lengths, device)
    rows = torch.repeat_interleave(
        torch.arange(len(lengths), device=device), lengths, output_size=len(histories.items)
    )
    starts = to_indices(histories.offsets[:-1], device)
    positions = torch.arange(len(rows), device=device) - starts[rows]
    slots = rows * longest + positions
    layout = JaggedLayout(len(lengths), longest, slots, positions, lengths, rows)
    return layout if time == "none" else replace(layout, times=_times_of(histories, layout, time))


def _times_of(histories: Histories, layout: JaggedLayout, time: Time) -> TimeGrid:
    if histories.timestamps is None:
        raise DataError(
            "this model reads when each interaction was, and the histories have no times; give "
            "histories with a column timestamp, or use a model that reads none (time: none)"
        )
    device = layout.slots.device
    times = to_indices(histories.timestamps, device)
    seen = layout.pad(times)
    if time == "history":
        return TimeGrid(seen, seen)
    if histories.asked_at is None:
        raise DataError(
            "this model reads the time of the request, and nobody gave it; say when the next item "
            "is asked for (`at`)"
        )
    asked = torch.empty_like(times)
    asked[:-1] = times[1:]
    asked[layout.last] = to_indices(histories.asked_at, device)
    return TimeGrid(seen, layout.pad(asked))
