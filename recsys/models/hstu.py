"""HSTU on nested vectors: pointwise attention with biases by place and time, and gates.

Zhai et al., Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for
Generative Recommendations, ICML 2024. A layer has no feed-forward net: what attention gives is
normed and multiplied by a gate that is made of the token itself.

With `time: request` the bias is by the seconds from an interaction to the request, as the authors'
code has it, and takes a protocol that tells the time of requests; with `time: history` by those
between two interactions. Departures from the paper: those of `layers/timed/pointwise.py`; packed
tokens; with `nested` every block of coordinates has heads, biases and norms of its own.

Shape legend: B users, T tokens, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from recsys.layers.dropout import Dropout
from recsys.layers.jagged import JaggedLayout
from recsys.layers.nested import NestedLinear, NestedNorm, block_widths, scaled
from recsys.layers.timed.pointwise import PointwiseAttention
from recsys.layers.timed.stack import PointwiseConfig, side_by_side
from recsys.models.pointwise import PointwiseModel, PointwiseModelConfig


class HSTUConfig(PointwiseModelConfig):
    """Options of HSTU."""

    name: Literal["hstu"] = "hstu"


class HSTULayer(nn.Module):
    """x + f2(norm(attention) * gate); query, key, value and gate are SiLU(f1(norm(x)))."""

    def __init__(
        self, sizes: Sequence[int], config: PointwiseConfig, longest: int, *, timed: bool
    ) -> None:
        super().__init__()
        self.widths = block_widths(sizes)
        self.norm, self.mixed_norm = NestedNorm(sizes), NestedNorm(sizes)
        self.project = NestedLinear(sizes, scaled(sizes, 4))
        self.attention = PointwiseAttention(
            sizes, config.num_heads, longest, timed=timed, channels=False
        )
        self.out = NestedLinear(sizes, sizes)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, layout: JaggedLayout, *, last: bool = False) -> Tensor:
        """`[T, D] -> [T, D]`; `last`: `[B, D]` at the last token of each user alone."""
        projected = nn.functional.silu(self.project(self.norm(x)))
        gates, queries, keys, values = side_by_side(projected, self.widths, (1, 1, 1, 1))
        mixed = self.attention(queries, keys, values, layout, last=last)
        if last:
            x, gates = x[layout.last], gates[layout.last]
        added: Tensor = self.out(self.dropout(self.mixed_norm(mixed) * gates))
        return x + added


class HSTU(PointwiseModel):
    """User vectors from histories by layers of HSTU."""

    Config = HSTUConfig
    config: HSTUConfig
    Layer = HSTULayer
