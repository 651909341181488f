"""The transformer over padded rows, for export as ONNX.

Shape legend: B users, L longest history, D embedding_dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys.layers.transformer import Transformer


@dataclass(frozen=True)
class _Grid:
    """A replacement of JaggedLayout where every cell of the padded grid is a token.

    Cells behind the end of a history hold nonsense; attention is causal, so nobody reads it.
    """

    num_rows: int | torch.SymInt
    longest: int | torch.SymInt

    def pad(self, packed: Tensor) -> Tensor:
        return packed.view(self.num_rows, self.longest, *packed.shape[1:])

    def pack(self, padded: Tensor) -> Tensor:
        return padded.flatten(0, 1)


class PaddedTransformer(nn.Module):
    """`vectors [B, L, D]`, `lengths [B]` -> users `[B, D]`, with the layers' own weights."""

    def __init__(
        self, position: nn.Module | None, norm: nn.Module, encoder: Transformer, *, from_start: bool
    ) -> None:
        """Args:
        position: vectors of places in the history; None: there are none.
        norm: of the sum of item and position vectors.
        encoder: of histories.
        from_start: places are counted from the oldest interaction, not from the most recent one.
        """
        super().__init__()
        self.from_start, self.position = from_start, position
        self.input_norm, self.encoder = norm, encoder

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        num_rows, longest, dim = vectors.shape
        if self.position is not None:
            steps = torch.arange(longest)
            backwards = (lengths[:, None] - 1 - steps).clamp_min(0)
            vectors = vectors + self.position(steps if self.from_start else backwards)
        tokens = self.input_norm(vectors).flatten(0, 1)
        encoded = self.encoder(tokens, _Grid(num_rows, longest)).view(num_rows, longest, dim)
        last = (lengths - 1)[:, None, None].expand(num_rows, 1, dim)
        users: Tensor = encoded.gather(1, last).squeeze(1)
        return users
