"""Layers whose leading parts are smaller layers of their own: nested widths of a ranker.

A layer is asked for its first outputs and reads as many inputs as it is given, so a network at a
quarter of its width is the leading corner of every weight (Devvrat et al., MatFormer, NeurIPS 2024;
Yu et al., Slimmable Neural Networks, ICLR 2019). What goes in has to be laid out so that a smaller
input is a prefix of the larger one: coordinate by coordinate, not field by field.

Shape legend: R rows, I inputs, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def part(size: int, share: float) -> int:
    """How many of `size` units a share of the width has: rounded up, at least 1."""
    return max(1, math.ceil(size * share - 1e-9))


class PrefixLinear(nn.Module):
    """A linear layer; its leading corners are linear layers too."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        whole = nn.Linear(inputs, outputs, bias=bias)
        self.weight, self.bias = whole.weight, whole.bias

    def forward(self, x: Tensor, outputs: int | None = None) -> Tensor:
        """The first `outputs` of the layer, of the first inputs: `[..., I'] -> [..., O']`."""
        bias = None if self.bias is None else self.bias[:outputs]
        return functional.linear(x, self.weight[:outputs, : x.shape[-1]], bias)


class PrefixNorm(nn.Module):
    """LayerNorm over as many coordinates as it is given, with the first of its scales."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        """`[..., I'] -> [..., I']`."""
        size = x.shape[-1]
        return functional.layer_norm(x, (size,), self.weight[:size], self.bias[:size])


class Hidden(nn.Module):
    """Hidden layers: linear, LayerNorm where asked for, ReLU, dropout."""

    def __init__(
        self,
        inputs: int,
        sizes: Sequence[int],
        *,
        dropout: float,
        norm: bool,
        groups: int = 1,
    ) -> None:
        """Args:
        inputs: of the first layer.
        sizes: units of each layer.
        dropout: of units.
        norm: whether each layer is normalized.
        groups: heads side by side in the last layer; each keeps as many units as the others.
        """
        super().__init__()
        self.sizes, self.groups = tuple(sizes), groups
        befores = (inputs, *self.sizes[:-1])
        self.linears = nn.ModuleList(
            PrefixLinear(before, size)
            for before, size in zip(befores, self.sizes, strict=bool(sizes))
        )
        self.norms = nn.ModuleList(PrefixNorm(size) for size in self.sizes if norm)
        self.dropout = nn.Dropout(dropout)

    @property
    def outputs(self) -> int:
        """Units of the last layer."""
        return self.sizes[-1]

    def forward(self, x: Tensor, share: float) -> Tensor:
        """`[..., I'] -> [..., O']`, with that share of the units of every layer."""
        for place, (linear, size) in enumerate(zip(self.linears, self.sizes, strict=True)):
            groups = self.groups if place == len(self.sizes) - 1 else 1
            x = linear(x, groups * part(size // groups, share))
            if len(self.norms):
                x = self.norms[place](x)
            x = self.dropout(torch.relu(x))
        return x


def flat(numbers: Tensor, vectors: Tensor) -> Tensor:
    """Numbers, then the vectors coordinate by coordinate: `[R, C], [R, F, E] -> [R, C + E F]`.

    Shorter vectors give a prefix of what longer ones give.
    """
    return torch.cat([numbers, vectors.transpose(1, 2).flatten(1)], dim=1)
