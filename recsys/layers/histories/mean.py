"""The mean of the most recent items beside what attention makes of the history.

Attention is good at what came last; the mean of the items' vectors keeps what a user has liked all
along. Lin et al., FISSA: Fusing Item Similarity Models with Self-Attention Networks for Sequential
Recommendation, RecSys 2020, add the two. Departures: the weight of the mean is a learned number
for each coordinate and not a gate that looks at the candidate, so that a user stays one vector; and
the mean is of the most recent items, alike among them: that of hundreds says little more than what
is popular.

Shape legend: T packed tokens, D coordinates, B users, L longest history.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recsys.layers.jagged import JaggedLayout
from recsys.layers.nested import norm

FIRST_WEIGHT = 0.3
"""What coordinates of the mean weigh before training, where those of attention weigh 1."""


class HistoryMean(nn.Module):
    """The mean of the vectors up to each token, normalized and weighed coordinate by coordinate."""

    def __init__(self, window: int, sizes: Sequence[int], *, nested: bool) -> None:
        """Args:
        window: most recent items of the mean.
        sizes: those that have a model of their own; only the last counts if not `nested`.
        nested: each block of coordinates is normalized by itself.
        """
        super().__init__()
        self.window = window
        self.norm = norm(sizes, nested=nested)
        for name, parameter in self.norm.named_parameters():
            if name.endswith("weight"):
                nn.init.constant_(parameter, FIRST_WEIGHT)

    def forward(self, vectors: Tensor, layout: JaggedLayout, *, last: bool = False) -> Tensor:
        """`[T, D] -> [T, D]`; `last`: `[B, D]` at the last token of each user alone."""
        sums = layout.pad(vectors).cumsum(1)
        before = nn.functional.pad(sums, (0, 0, self.window, 0))[:, : sums.shape[1]]
        places = torch.arange(1, sums.shape[1] + 1, dtype=sums.dtype, device=sums.device)
        mean = layout.pack((sums - before) / places.clamp_max(self.window)[:, None])
        normed: Tensor = self.norm(mean[layout.last] if last else mean)
        return normed
