"""Encoders of histories over padded rows, for export as ONNX.

Shape legend: B users, L longest history, D embedding_dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recsys.layers.jagged import TimeGrid


@dataclass(frozen=True)
class PaddedGrid:
    """A replacement of JaggedLayout where every cell of the padded grid is a token.

    Cells behind the end of a history hold nonsense; attention is causal, or told the lengths, so
    nobody reads it.
    """

    num_rows: Any
    """B, L: whole numbers, and symbols while a model is exported."""
    longest: Any
    lengths: Tensor
    """`[B]` int64."""
    times: TimeGrid | None = None

    @property
    def last(self) -> Tensor:
        """`[B]` index of each user's most recent token among all cells."""
        rows = torch.arange(self.num_rows, device=self.lengths.device)
        last: Tensor = rows * self.longest + self.lengths - 1
        return last

    def pad(self, packed: Tensor) -> Tensor:
        """`[B L, ...]` -> `[B, L, ...]`."""
        return packed.view(self.num_rows, self.longest, *packed.shape[1:])

    def pack(self, padded: Tensor) -> Tensor:
        """`[B, L, ...]` -> `[B L, ...]`."""
        return padded.flatten(0, 1)


def padded_times(
    lengths: Tensor, timestamps: Tensor | None, asked_at: Tensor | None
) -> TimeGrid | None:
    """The times of padded rows, from `[B]`, `[B, L]` and `[B]`; None: none are given."""
    if timestamps is None:
        return None
    if asked_at is None:
        return TimeGrid(timestamps, timestamps)
    after = torch.cat([timestamps[:, 1:], asked_at[:, None]], dim=1)
    steps = torch.arange(timestamps.shape[1], device=lengths.device)
    return TimeGrid(timestamps, torch.where(steps < lengths[:, None] - 1, after, asked_at[:, None]))


class PaddedEncoder(nn.Module):
    """`vectors [B, L, D]`, `lengths [B]` and, if time is read, `timestamps [B, L]` and `asked_at
    [B]` -> users `[B, D]`, with the encoder's own weights.
    """

    def __init__(self, encoder: nn.Module, gaps: nn.Module | None = None) -> None:
        """Args:
        encoder: called with tokens, a layout and `last`.
        gaps: vectors of the time to the next request; None: there are none.
        """
        super().__init__()
        self.encoder, self.gaps = encoder, gaps

    def forward(
        self,
        vectors: Tensor,
        lengths: Tensor,
        timestamps: Tensor | None = None,
        asked_at: Tensor | None = None,
    ) -> Tensor:
        times = padded_times(lengths, timestamps, asked_at)
        if self.gaps is not None and times is not None:
            vectors = vectors + self.gaps(times.since)
        grid = PaddedGrid(vectors.shape[0], vectors.shape[1], lengths, times)
        users: Tensor = self.encoder(vectors.flatten(0, 1), grid, last=True)
        return users
