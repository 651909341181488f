"""Seconds in logarithmic buckets, and what is learned for each bucket.

Zhai et al., HSTU, ICML 2024: a bucket is the whole part of ln(seconds) / 0.301, so each is 1.35
times as wide as the one before; 0 and 1 second share the first.

Shape legend: B users, Q queries, K keys, H heads, L longest history, D embedding_dim.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

NUM_BUCKETS = 80
"""The last begins at 700 years."""
_STEP = 0.301
_BORDERS = tuple(math.ceil(math.exp(_STEP * place)) for place in range(1, NUM_BUCKETS))


def time_buckets(seconds: Tensor) -> Tensor:
    """`[...]` int64 -> int64 buckets; what lies in the future counts as now."""
    if torch.compiler.is_exporting():  # ONNX has no search in a sorted list
        places = seconds.clamp_min(1).double().log() / _STEP
        return places.long().clamp_max(NUM_BUCKETS - 1)
    borders = torch.tensor(_BORDERS, device=seconds.device)
    return torch.bucketize(seconds, borders, right=True)


class TimeBias(nn.Module):
    """A number for each head and bucket, added to attention scores."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(num_heads, NUM_BUCKETS))

    def forward(self, asked: Tensor, seen: Tensor) -> Tensor:
        """`asked [B, Q]`, `seen [B, K]` -> `[B, H, Q, K]`, by the seconds between the two."""
        return _bias_of(self.table, asked, seen)

    def of(self, heads: slice) -> Callable[[Tensor, Tensor], Tensor]:
        """The same of some heads alone."""
        return partial(_bias_of, self.table[heads])


def _bias_of(table: Tensor, asked: Tensor, seen: Tensor) -> Tensor:
    places = time_buckets(asked[:, :, None] - seen[:, None, :])
    return nn.functional.embedding(places, table.T).permute(0, 3, 1, 2)


class PlaceBias(nn.Module):
    """A number for each head and distance in places, added to attention scores."""

    def __init__(self, num_heads: int, longest: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(num_heads, longest))

    def forward(self, back: Tensor) -> Tensor:
        """`[.., Q, K]` places back -> `[.., H, Q, K]`; beyond the longest all share its number."""
        places = back.clamp(0, self.table.shape[1] - 1)
        return nn.functional.embedding(places, self.table.T).movedim(-1, -3)


class GapVectors(nn.Module):
    """A vector for each bucket of the time from an interaction to the request after it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(NUM_BUCKETS, dim))

    def forward(self, since: Tensor) -> Tensor:
        """`[...]` seconds -> `[..., D]`."""
        return nn.functional.embedding(time_buckets(since), self.table)
