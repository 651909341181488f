"""DLRM: dot products of the vectors of all fields, then hidden layers.

Naumov et al., Deep Learning Recommendation Model for Personalization and Recommendation Systems,
arXiv:1906.00091, 2019.

Shape legend: R rows, G vectors of a row, E their coordinates, P = G (G - 1) / 2 pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.rankers.layers.inputs import Batch
from recsys.rankers.layers.prefix import Hidden, PrefixLinear
from recsys.rankers.networks.base import Features

if TYPE_CHECKING:
    from recsys.rankers.models.dlrm import DlrmConfig


class Dlrm(nn.Module):
    """Numbers become one more vector; the dot products of all pairs go on with it."""

    pairs: Tensor

    def __init__(self, features: Features, config: DlrmConfig) -> None:
        """Raises ConfigError where there are no two vectors to multiply."""
        super().__init__()
        self.inputs = features.inputs()
        self.reads = self.inputs.reads
        dim, numbers = self.inputs.embedding_dim, self.inputs.num_numbers
        count = self.inputs.num_vectors + bool(numbers)
        if count < 2:
            raise ConfigError("dlrm multiplies vectors of fields; give it two fields or more")
        self.bottom = (
            Hidden(numbers, (*config.bottom, dim), dropout=config.dropout, norm=config.norm)
            if numbers
            else None
        )
        first, second = torch.triu_indices(count, count, offset=1)
        self.register_buffer("pairs", first * count + second)
        inputs = len(first) + (dim if numbers else 0)
        self.hidden = Hidden(inputs, config.hidden, dropout=config.dropout, norm=config.norm)
        self.output = PrefixLinear(self.hidden.outputs, 1)

    def forward(self, batch: Batch, share: float = 1.0) -> Tensor:
        """`[R]` scores."""
        numbers, vectors = self.inputs(batch, share)
        dense = None
        if self.bottom is not None:
            dense = self.bottom(numbers, share)
            vectors = torch.cat([vectors, dense.unsqueeze(1)], dim=1)
        products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1)[:, self.pairs]
        x = products if dense is None else torch.cat([products, dense], dim=1)
        score: Tensor = self.output(self.hidden(x, share))
        return score.squeeze(1)
