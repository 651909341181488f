"""The transformer over padded rows, for export as ONNX.

Shape legend: B users, L longest history, D embedding_dim.
"""

import torch
from torch import Tensor, nn

from recsys.layers.histories.mean import HistoryMean
from recsys.layers.timed.padded_grid import PaddedGrid, padded_times
from recsys.layers.transformer import Transformer


class PaddedTransformer(nn.Module):
    """`vectors [B, L, D]`, `lengths [B]` and, if time is read, `timestamps [B, L]` and `asked_at
    [B]` -> users `[B, D]`, with the layers' own weights.
    """

    def __init__(
        self,
        position: nn.Module | None,
        norm: nn.Module,
        encoder: Transformer,
        *,
        from_start: bool,
        gaps: nn.Module | None = None,
        mean: HistoryMean | None = None,
    ) -> None:
        """Args:
        position: vectors of places in the history; None: there are none.
        norm: of the sum of item and position vectors.
        encoder: of histories.
        from_start: places are counted from the oldest interaction, not from the most recent one.
        gaps: vectors of the time to the next request; None: there are none.
        mean: of the history, which is added to what the encoder finds; None: nothing is.
        """
        super().__init__()
        self.from_start, self.position, self.gaps, self.mean = from_start, position, gaps, mean
        self.input_norm, self.encoder = norm, encoder

    def forward(
        self,
        vectors: Tensor,
        lengths: Tensor,
        timestamps: Tensor | None = None,
        asked_at: Tensor | None = None,
    ) -> Tensor:
        num_rows, longest, dim = vectors.shape
        items = vectors
        if self.position is not None:
            steps = torch.arange(longest)
            backwards = (lengths[:, None] - 1 - steps).clamp_min(0)
            vectors = vectors + self.position(steps if self.from_start else backwards)
        times = padded_times(lengths, timestamps, asked_at)
        if self.gaps is not None and times is not None:
            vectors = vectors + self.gaps(times.since)
        grid = PaddedGrid(num_rows, longest, lengths, times)
        tokens = self.input_norm(vectors).flatten(0, 1)
        encoded = self.encoder(tokens, grid)
        if self.mean is not None:
            encoded = encoded + self.mean(items.flatten(0, 1), grid)
        encoded = encoded.view(num_rows, longest, dim)
        last = (lengths - 1)[:, None, None].expand(num_rows, 1, dim)
        users: Tensor = encoded.gather(1, last).squeeze(1)
        return users
