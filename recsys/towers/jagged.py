"""Packed tokens <-> padded rows: attention alone needs rows, everything else stays packed.

Shape legend: B users, T tokens of all users one after another, L the longest history of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys.data.histories import Histories


@dataclass(frozen=True)
class JaggedLayout:
    """Where each packed token stands in a padded `[B, L]` grid, right padding."""

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
        grid = packed.new_zeros(self.num_rows * self.longest, *packed.shape[1:])
        filled = grid.index_copy(0, self.slots, packed)
        return filled.view(self.num_rows, self.longest, *packed.shape[1:])

    def pack(self, padded: Tensor) -> Tensor:
        """`[B, L, ...]` -> `[T, ...]`."""
        return padded.flatten(0, 1).index_select(0, self.slots)


def layout_of(histories: Histories) -> JaggedLayout:
    """The layout of non-empty histories."""
    lengths = torch.from_numpy(histories.lengths)
    longest = int(lengths.max())
    rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    starts = torch.from_numpy(histories.offsets[:-1])
    positions = torch.arange(len(rows)) - starts[rows]
    return JaggedLayout(len(lengths), longest, rows * longest + positions, positions, lengths, rows)
