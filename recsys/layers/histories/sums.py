"""Users as the sum of their items' vectors: of jagged histories, and as a tower for export.

Shape legend: B users, T items of all histories, L longest history, N items, D coordinates.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys.data.histories import Histories
from recsys.devices import to_indices


def history_sums(histories: Histories, vectors: Tensor) -> Tensor:
    """`[B, D]` the sum of each history's vectors, given as `[T, D]`; zeros for an empty one."""
    places = torch.arange(len(vectors), device=vectors.device)
    offsets = to_indices(histories.offsets[:-1], vectors.device)
    return nn.functional.embedding_bag(places, vectors, offsets, mode="sum")


class HistorySum(nn.Module):
    """`vectors [B, L, D]`, `lengths [B]` -> users `[B, D]`: the sum of the first `lengths` rows."""

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """The sum of each history."""
        steps = torch.arange(vectors.shape[1], device=vectors.device)
        present = (steps < lengths[:, None]).to(vectors.dtype)
        return (vectors * present[:, :, None]).sum(1)
