"""Causal attention, nested: each prefix is an attention of its own.

Attention scores sum over all coordinates of queries and keys, so a cut would change every one of
them. Here each block of coordinates, those between two granularities, has heads of its own, whose
queries, keys and values see the inputs up to the larger granularity alone: a cut leaves away the
heads of later blocks and no other score changes.

Shape legend: T packed tokens, D embedding_dim, B users, L longest history, H heads of a block, W
coordinates of a block, M inputs it sees.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recsys.layers.jagged import JaggedLayout, attend
from recsys.layers.nested import NestedLinear, block_widths, scaled
from recsys.layers.timed.buckets import TimeBias
from recsys.layers.timed.pointwise import last_window
from recsys.layers.timed.softmax import attend_in_blocks, fits, softmax_bias


class NestedAttention(nn.Module):
    """Multi-head causal self-attention, every prefix by itself; `num_heads` in each block."""

    def __init__(
        self, sizes: Sequence[int], num_heads: int, dropout: float, *, timed: bool = False
    ) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.times = TimeBias(num_heads * len(sizes)) if timed else None
        self.sizes, self.widths = tuple(sizes), block_widths(sizes)
        self.query = NestedLinear(sizes, sizes)
        self.key_value = NestedLinear(sizes, scaled(sizes, 2))  # of each block: keys, then values
        self.out = NestedLinear(sizes, sizes)

    def forward(self, queries: Tensor, context: Tensor, layout: JaggedLayout) -> Tensor:
        """`[T, D], [T, D] -> [T, D]`: token t sees the tokens of its user up to t."""
        grid = layout.pad(torch.cat([self.query(queries), self.key_value(context)], dim=1))
        parts = grid.split([*self.widths, *(2 * width for width in self.widths)], dim=2)
        pairs = zip(parts[: len(self.widths)], parts[len(self.widths) :], strict=True)
        blocks = [
            self._attend(block, query, key_value, layout)
            for block, (query, key_value) in enumerate(pairs)
        ]
        seen = torch.cat(blocks, dim=2)
        attended: Tensor = self.out(layout.pack(seen))
        return attended

    def _attend(self, block: int, query: Tensor, key_value: Tensor, layout: JaggedLayout) -> Tensor:
        """`[B, L, W], [B, L, 2 W] -> [B, L, W]`, of one block."""
        queries, keys, values = (
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # [B, H, L, W / H]
            for part in (query, *key_value.chunk(2, dim=2))
        )
        dropout = self.dropout if self.training else 0.0
        if self.times is None and fits(queries, dropout, None):
            return attend(queries, keys, values, dropout=dropout).transpose(1, 2).flatten(2)
        own = None if self.times is None else self.times.of(self._heads(block))
        return attend_in_blocks((queries, keys, values), dropout, softmax_bias(own, None, layout))

    def _heads(self, block: int) -> slice:
        return slice(block * self.num_heads, (block + 1) * self.num_heads)

    def last(self, queries: Tensor, context: Tensor, layout: JaggedLayout) -> Tensor:
        """`[B, D], [T, D] -> [B, D]`: `forward` at each user's last token, without dropout.

        As in the plain attention, no key or value is made: see `SelfAttention.last`.
        """
        grid = layout.pad(context)
        beyond = torch.arange(layout.longest, device=grid.device) >= layout.lengths[:, None]
        query = self.query(queries).split(self.widths, dim=1)
        bias = grid.new_zeros(beyond.shape).masked_fill(beyond, -torch.inf)[:, None]
        if self.times is not None:
            window = last_window(layout)
            bias = bias + self.times(window.asked, window.seen).squeeze(2)
        biases = bias.expand(-1, self.num_heads * len(self.sizes), -1)
        seen = [
            self._mix(query[j], block, grid[..., :size], biases[:, self._heads(j)])
            for j, (block, size) in enumerate(zip(self.key_value.blocks, self.sizes, strict=True))
        ]
        attended: Tensor = self.out(torch.cat(seen, dim=1))
        return attended

    def _mix(self, query: Tensor, key_value: nn.Module, grid: Tensor, bias: Tensor) -> Tensor:
        """`[B, W]` of one block, from `query [B, W]` and the context `grid [B, L, M]`."""
        assert isinstance(key_value, nn.Linear)
        keys, values = (
            weight.unflatten(0, (self.num_heads, -1)) for weight in key_value.weight.chunk(2)
        )  # [H, W / H, M]
        query = query.unflatten(1, (self.num_heads, -1))
        query = query * query.shape[2] ** -0.5
        scores = torch.einsum("bhe,hed->bhd", query, keys) @ grid.transpose(1, 2)  # [B, H, L]
        weights = (scores + bias).softmax(2)
        mixed = torch.einsum("bhd,hed->bhe", weights @ grid, values).flatten(1)
        return mixed + key_value.bias.chunk(2)[1]
