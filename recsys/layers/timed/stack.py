"""Layers of pointwise attention one after another, and what their models have in common.

Shape legend: T packed tokens, B users, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.config import StrictModel
from recsys.layers.dropout import Dropout
from recsys.layers.jagged import JaggedLayout
from recsys.layers.nested import NestedNorm, check_blocks


class PointwiseConfig(StrictModel):
    """Settings of a stack of layers."""

    num_layers: int = Field(default=2, ge=1)
    num_heads: int = Field(default=1, ge=1)
    """With `nested`, of each block of coordinates."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """On the input, and on what each layer adds."""
    nested: bool = False
    """Every layer nested, so that a smaller model can be cut out of the trained one."""
    nested_from: int = Field(default=0, ge=0)
    """The smallest granularity with a model of its own, 0: all."""


def check_encoder(blocks: Sequence[int], encoder: PointwiseConfig) -> None:
    """Whether layers can be made of such blocks.

    Raises:
        ValueError: heads do not divide them, or an option has no effect.
    """
    if encoder.nested:
        check_blocks(blocks, heads=encoder.num_heads)
    elif encoder.nested_from:
        raise ValueError("encoder.nested_from has no effect without encoder.nested: true")
    elif blocks[-1] % encoder.num_heads:
        raise ValueError(
            f"encoder.num_heads {encoder.num_heads} does not divide embedding_dim {blocks[-1]}"
        )


def side_by_side(x: Tensor, widths: Sequence[int], parts: Sequence[int]) -> list[Tensor]:
    """Layers that were computed as one: every block holds each part, `parts` times its width.

    `[T, sum(parts) D]` -> `[T, part D]` for each part, block by block.
    """
    blocks = [
        block.split([part * width for part in parts], dim=-1)
        for block, width in zip(
            x.split([sum(parts) * each for each in widths], -1), widths, strict=True
        )
    ]
    return [torch.cat(part, dim=-1) for part in zip(*blocks, strict=True)]


class Stack(nn.Module):
    """Layers one after another, a norm and dropout before them and a norm behind."""

    def __init__(self, layers: Sequence[nn.Module], sizes: Sequence[int], dropout: float) -> None:
        """Args:
        layers: called with tokens, layout and `last`.
        sizes: the ends of the blocks.
        dropout: on the input.
        """
        super().__init__()
        self.input_norm, self.norm = NestedNorm(sizes), NestedNorm(sizes)
        self.dropout, self.layers = Dropout(dropout), nn.ModuleList(layers)

    def forward(self, x: Tensor, layout: JaggedLayout, *, last: bool = False) -> Tensor:
        """`[T, D] -> [T, D]`; `last`: `[B, D]` at the last token of each user alone."""
        x = self.dropout(self.input_norm(x))
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x, layout, last=last and number == len(self.layers))
        result: Tensor = self.norm(x)
        return result
