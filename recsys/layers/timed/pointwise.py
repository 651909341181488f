"""Pointwise attention over jagged rows, nested: no softmax, and biases by place and by time.

Zhai et al., Actions Speak Louder than Words (HSTU), ICML 2024: each weight is SiLU(q k + bias), and
a norm follows in the place of a softmax. Ye et al., FuXi-alpha, WWW 2025: the biases are channels
of their own instead, which mix the same values.

Departures from both: scores are divided by the root of a head's width; weights are divided by the
number of keys that a query sees, and not by the padded length (the norm that follows takes either
away).

Shape legend: T packed tokens, B users, H heads of all blocks, h those of a block, L longest
history, Q queries, K keys, W coordinates of a block, D embedding_dim, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys.layers.jagged import JaggedLayout
from recsys.layers.nested import block_widths
from recsys.layers.timed.buckets import PlaceBias, TimeBias
from recsys.layers.timed.query_blocks import in_blocks, steps_back


@dataclass(frozen=True)
class Window:
    """Some queries, and the keys that any of them may see."""

    back: Tensor
    """`[Q, K]` or `[B, Q, K]` places from each key to each query; negative: the key comes later."""
    asked: Tensor | None
    """`[B, Q]` seconds."""
    seen: Tensor | None
    """`[B, K]` seconds."""


def block_window(layout: JaggedLayout, lo: int, hi: int) -> Window:
    """The queries `[lo, hi)` of every row."""
    back = steps_back(lo, hi, layout.lengths.device)
    if layout.times is None:
        return Window(back, None, None)
    return Window(back, layout.times.asked[:, lo:hi], layout.times.seen[:, :hi])


def last_window(layout: JaggedLayout) -> Window:
    """The last query of every row."""
    last = layout.lengths - 1
    back = last[:, None, None] - torch.arange(layout.longest, device=last.device)
    if layout.times is None:
        return Window(back, None, None)
    return Window(back, layout.times.asked.gather(1, last[:, None]), layout.times.seen)


class PointwiseAttention(nn.Module):
    """Each prefix by itself: every block of coordinates has heads, and biases, of its own."""

    def __init__(
        self, sizes: Sequence[int], num_heads: int, longest: int, *, timed: bool, channels: bool
    ) -> None:
        """Args:
        sizes: the ends of the blocks.
        num_heads: of each block.
        longest: places back with a bias of their own.
        timed: there is a bias by time.
        channels: biases are channels of their own, as in FuXi-alpha.
        """
        super().__init__()
        self.num_heads, self.widths, self.channels = num_heads, block_widths(sizes), channels
        heads = num_heads * len(self.widths)
        self.places = PlaceBias(heads, longest)
        self.times = TimeBias(heads) if timed else None

    @property
    def num_channels(self) -> int:
        """C."""
        return 1 + self.channels * (1 if self.times is None else 2)

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor, layout: JaggedLayout, *, last: bool
    ) -> Tensor:
        """`[T, D]` each -> `[T, C D]`, of each block its channels side by side; `last`: `[B, C D]`
        of the last query of each row.
        """
        key_parts, value_parts = (self._heads(layout.pad(part)) for part in (keys, values))
        if last:
            asking = self._heads(queries[layout.last][:, None])
            return self._mix(asking, key_parts, value_parts, last_window(layout)).squeeze(1)
        asking = self._heads(layout.pad(queries))

        def attend(lo: int, hi: int) -> Tensor:
            some, before = (
                [part[:, :, edges] for part in parts]
                for parts, edges in ((asking, slice(lo, hi)), (key_parts, slice(hi)))
            )
            seen = [part[:, :, :hi] for part in value_parts]
            return self._mix(some, before, seen, block_window(layout, lo, hi))

        scores = layout.num_rows * self.num_heads * len(self.widths) * layout.longest
        return layout.pack(in_blocks(attend, layout.longest, scores))

    def _heads(self, grid: Tensor) -> list[Tensor]:
        """`[B, L, D]` -> of each block `[B, h, L, W / h]`."""
        return [
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for part in grid.split(self.widths, dim=2)
        ]

    def _mix(
        self, queries: list[Tensor], keys: list[Tensor], values: list[Tensor], window: Window
    ) -> Tensor:
        """`[B, Q, C D]`."""
        future = window.back < 0
        share = 1 / (window.back + 1).amax(-1, keepdim=True)
        if window.back.dim() == 3:
            future, share = future[:, None], share[:, None]
        biases = [self.places(window.back)]
        if self.times is not None and window.asked is not None and window.seen is not None:
            biases.append(self.times(window.asked, window.seen))
        if not self.channels:
            biases = [sum(biases[1:], biases[0])]
        mixed = []
        for block, (query, key, value) in enumerate(zip(queries, keys, values, strict=True)):
            heads = slice(block * self.num_heads, (block + 1) * self.num_heads)
            own = [bias[..., heads, :, :] for bias in biases]
            scores = query @ key.mT * query.shape[3] ** -0.5
            if self.channels:
                weights = [nn.functional.silu(scores) * share, *own]
            else:
                weights = [nn.functional.silu(scores + own[0]) * share]
            mixed += [
                (weight.masked_fill(future, 0.0) @ value).transpose(1, 2).flatten(2)
                for weight in weights
            ]
        return torch.cat(mixed, dim=2)
