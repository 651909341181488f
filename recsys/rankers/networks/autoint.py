"""AutoInt: self-attention among the vectors of all features.

Song et al., AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks,
CIKM 2019. Scores of attention are divided by the root of a head's size, as the authors' code does
and the paper does not.

Shape legend: R rows, G vectors of a row, A coordinates of attention (D a head), H heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from recsys.rankers.layers.inputs import Batch
from recsys.rankers.layers.prefix import Hidden, PrefixLinear, PrefixNorm, flat, part
from recsys.rankers.layers.tokens import ScaledVectors
from recsys.rankers.networks.base import Features

if TYPE_CHECKING:
    from recsys.rankers.models.autoint import AutoIntConfig


class Interaction(nn.Module):
    """One layer of attention: `ReLU(heads + W x)` (eq. 5 to 8), normalized where asked for."""

    def __init__(self, inputs: int, config: AutoIntConfig) -> None:
        super().__init__()
        size, self.heads = config.attention_dim, config.heads
        self.head_dim = size // config.heads
        self.query = PrefixLinear(inputs, size, bias=False)
        self.key = PrefixLinear(inputs, size, bias=False)
        self.value = PrefixLinear(inputs, size, bias=False)
        self.residual = PrefixLinear(inputs, size, bias=False)
        self.norm = PrefixNorm(size) if config.norm else None
        self.dropout = nn.Dropout(config.attention_dropout)

    def forward(self, x: Tensor, share: float) -> Tensor:
        """`[R, G, I'] -> [R, G, A']`."""
        size = part(self.head_dim, share)
        query, key, value = (
            self._by_head(layer(x, size * self.heads), size)
            for layer in (self.query, self.key, self.value)
        )
        weights = torch.softmax(query @ key.transpose(2, 3) / size**0.5, dim=3)
        found = (self.dropout(weights) @ value).permute(0, 2, 3, 1).flatten(2)
        found = torch.relu(found + self.residual(x, size * self.heads))
        return found if self.norm is None else self.norm(found)

    def _by_head(self, x: Tensor, size: int) -> Tensor:
        """`[R, G, D H] -> [R, H, G, D]`; the coordinates of the heads stand side by side, so that a
        prefix has some of every head.
        """
        return x.reshape(*x.shape[:2], size, self.heads).permute(0, 3, 1, 2)


class AutoInt(nn.Module):
    """Layers of attention, and beside them hidden layers where there are any (AutoInt+)."""

    def __init__(self, features: Features, config: AutoIntConfig) -> None:
        super().__init__()
        self.inputs = features.inputs()
        self.reads = self.inputs.reads
        dim, numbers = self.inputs.embedding_dim, self.inputs.num_numbers
        self.tokens = ScaledVectors(numbers, dim, features.options.init_std) if numbers else None
        count = self.inputs.num_vectors + numbers
        befores = (dim, *[config.attention_dim] * (config.layers - 1))
        self.layers = nn.ModuleList(Interaction(before, config) for before in befores)
        self.output = PrefixLinear(count * config.attention_dim, 1)
        self.hidden, self.from_hidden = None, None
        if config.hidden:
            width = numbers + self.inputs.num_vectors * dim
            self.hidden = Hidden(width, config.hidden, dropout=config.dropout, norm=config.norm)
            self.from_hidden = PrefixLinear(self.hidden.outputs, 1, bias=False)

    def forward(self, batch: Batch, share: float = 1.0) -> Tensor:
        """`[R]` scores."""
        numbers, vectors = self.inputs(batch, share)
        x = vectors
        if self.tokens is not None:
            x = torch.cat([vectors, self.tokens(numbers, vectors.shape[2])], dim=1)
        for layer in self.layers:
            x = layer(x, share)
        score: Tensor = self.output(x.transpose(1, 2).flatten(1))
        if self.hidden is not None and self.from_hidden is not None:
            score = score + self.from_hidden(self.hidden(flat(numbers, vectors), share))
        return score.squeeze(1)
