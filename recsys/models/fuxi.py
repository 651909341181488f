"""FuXi-alpha on nested vectors: meaning, place and time mix histories in channels of their own.

Ye et al., FuXi-alpha: Scaling Recommendation Model with Feature Interaction Enhanced Transformer,
WWW 2025. Where HSTU adds biases by place and time to attention scores, they are weights here,
beside those of attention; a feed-forward net with gates follows.

With `time: request` the weights are by the seconds from an interaction to the request, as the
authors' code has it, and take a protocol that tells the time of requests; with `time: history` by
those between two interactions. Departures from the paper: those of `layers/timed/pointwise.py`;
packed tokens; with `nested` every block of coordinates has heads, weights and norms of its own.

Shape legend: T tokens, B users, D embedding_dim, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from recsys.layers.dropout import Dropout
from recsys.layers.jagged import JaggedLayout
from recsys.layers.nested import NestedLinear, NestedNorm, block_widths, scaled
from recsys.layers.timed.pointwise import PointwiseAttention
from recsys.layers.timed.stack import PointwiseConfig, side_by_side
from recsys.layers.transformer import SwiGLU, TransformerConfig
from recsys.models.pointwise import PointwiseModel, PointwiseModelConfig


class FuXiEncoderConfig(PointwiseConfig):
    """Settings of FuXi-alpha's layers."""

    hidden_ratio: float = Field(default=1.0, gt=0)
    """Width of the feed-forward net over embedding_dim."""


class FuXiConfig(PointwiseModelConfig):
    """Options of FuXi-alpha."""

    name: Literal["fuxi"] = "fuxi"
    encoder: FuXiEncoderConfig = FuXiEncoderConfig()


class FuXiLayer(nn.Module):
    """y = x + W(norm(channels) * gate), then y + SwiGLU(norm(y))."""

    def __init__(
        self, sizes: Sequence[int], config: FuXiEncoderConfig, longest: int, *, timed: bool
    ) -> None:
        super().__init__()
        self.widths = block_widths(sizes)
        self.attention = PointwiseAttention(
            sizes, config.num_heads, longest, timed=timed, channels=True
        )
        channels = self.attention.num_channels
        self.norm, self.feed_norm = NestedNorm(sizes, nn.RMSNorm), NestedNorm(sizes, nn.RMSNorm)
        self.mixed_norm = NestedNorm(scaled(sizes, channels), nn.RMSNorm)
        self.project = NestedLinear(sizes, scaled(sizes, 3 + channels))
        self.out = NestedLinear(scaled(sizes, channels), sizes)
        self.dropout = Dropout(config.dropout)
        feed = TransformerConfig(
            hidden_ratio=config.hidden_ratio, dropout=config.dropout, nested=True
        )
        self.feed = SwiGLU(sizes, feed)

    def forward(self, x: Tensor, layout: JaggedLayout, *, last: bool = False) -> Tensor:
        """`[T, D] -> [T, D]`; `last`: `[B, D]` at the last token of each user alone."""
        projected = nn.functional.silu(self.project(self.norm(x)))
        parts = (self.attention.num_channels, 1, 1, 1)
        gates, queries, keys, values = side_by_side(projected, self.widths, parts)
        mixed = self.attention(queries, keys, values, layout, last=last)
        if last:
            x, gates = x[layout.last], gates[layout.last]
        x = x + self.dropout(self.out(self.mixed_norm(mixed) * gates))
        result: Tensor = x + self.dropout(self.feed(self.feed_norm(x)))
        return result


class FuXi(PointwiseModel):
    """User vectors from histories by layers of FuXi-alpha."""

    Config = FuXiConfig
    config: FuXiConfig
    Layer = FuXiLayer
