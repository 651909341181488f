"""Fusion of the parts of an item into one nested vector: gates or a linear map.

Both see which parts are there. In the place of a part that is missing stands a vector learned for
that case, at first zero.

Shape legend: U items, M modalities, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recsys.granularity import Granularities


class GatedSum(nn.Module):
    """`sum_m gate_m * part_m`: gates 0..2 for each coordinate, by the parts present; 1 at first."""

    def __init__(self, num_parts: int, granularities: Granularities) -> None:
        super().__init__()
        dim = granularities.embedding_dim
        self.gate = nn.Parameter(torch.zeros(num_parts, num_parts, dim))
        self.bias = nn.Parameter(torch.zeros(num_parts, dim))
        self.missing = nn.Parameter(torch.zeros(num_parts, dim))

    def forward(self, parts: Sequence[Tensor], present: Tensor) -> Tensor:
        """M parts `[U, size]`, `present [U, M]` bool -> `[U, size]`, of any prefix."""
        there, size = present.to(parts[0].dtype), parts[0].shape[1]
        bias, gates = self.bias[:, :size], self.gate[:, :, :size]
        result = (1.0 - there) @ self.missing[:, :size]
        for m, part in enumerate(parts):
            gate = 2.0 * torch.sigmoid(torch.addmm(bias[m], there, gates[m]))
            result = result + there[:, m, None] * gate * part
        return result


class Projection(nn.Module):
    """One linear map of all parts, concatenated; it starts as their sum.

    Coordinate j sees the coordinates of the parts up to the end of j's granularity, so that a
    prefix of the result is made of prefixes of the parts.
    """

    mask: Tensor

    def __init__(self, num_parts: int, granularities: Granularities) -> None:
        super().__init__()
        dim = granularities.embedding_dim
        self.weight = nn.Parameter(torch.eye(dim).repeat(num_parts, 1, 1))
        self.missing = nn.Parameter(torch.zeros(num_parts, dim))
        mask = torch.zeros(dim, dim)
        for lo, hi in granularities.slices:
            mask[:hi, lo:hi] = 1.0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, parts: Sequence[Tensor], present: Tensor) -> Tensor:
        """M parts `[U, size]`, `present [U, M]` bool -> `[U, size]`, of any prefix."""
        there, size = present.to(parts[0].dtype), parts[0].shape[1]
        beside = torch.cat([there[:, m, None] * part for m, part in enumerate(parts)], dim=1)
        weight = (self.weight * self.mask)[:, :size, :size].flatten(0, 1)
        return torch.addmm((1.0 - there) @ self.missing[:, :size], beside, weight)
