"""Numbers as vectors, so that they meet the vectors of fields.

Shape legend: R rows, C numbers, V vectors made of them, E coordinates.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys.rankers.layers.prefix import PrefixLinear


class ScaledVectors(nn.Module):
    """A vector of its own for each number, times the number (AutoInt, eq. 3)."""

    def __init__(self, numbers: int, dim: int, init_std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(numbers, dim) * init_std)

    def forward(self, numbers: Tensor, size: int) -> Tensor:
        """`[R, C] -> [R, C, size]`."""
        return numbers.unsqueeze(2) * self.weight[:, :size]


class MixedVectors(nn.Module):
    """Few vectors, each a linear map of all numbers."""

    def __init__(self, numbers: int, count: int, dim: int) -> None:
        super().__init__()
        self.count = count
        self.linear = PrefixLinear(numbers, count * dim)

    def forward(self, numbers: Tensor, size: int) -> Tensor:
        """`[R, C] -> [R, V, size]`; the layer's outputs stand coordinate by coordinate."""
        found: Tensor = self.linear(numbers, self.count * size)
        return found.reshape(-1, size, self.count).transpose(1, 2)
