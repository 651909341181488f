"""Wukong: stacked factorization machines, which grow by layers, vectors and rank.

Zhang et al., Wukong: Towards a Scaling Law for Large-Scale Recommendation, ICML 2024. A layer puts
vectors out of a factorization machine beside linear combinations of its own vectors, adds what came
in, and normalizes (section 3.2 to 3.6). The vectors of the inputs are normalized too, which the
paper does not tell of: products of small first values would hardly learn.

Shape legend: R rows, G vectors of a row, E coordinates, K rank, N vectors of a layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from recsys.rankers.layers.inputs import Batch
from recsys.rankers.layers.prefix import Hidden, PrefixLinear, PrefixNorm, flat
from recsys.rankers.layers.tokens import MixedVectors
from recsys.rankers.networks.base import Features

if TYPE_CHECKING:
    from recsys.rankers.models.wukong import WukongConfig


class Machine(nn.Module):
    """Factorization machine block: `X (X^T Y)` of rank K, hidden layers, N_f new vectors."""

    def __init__(self, inputs: int, dim: int, config: WukongConfig) -> None:
        super().__init__()
        self.outputs = config.machine_vectors
        rank = min(config.rank, inputs)
        self.projection = nn.Parameter(torch.randn(inputs, rank) * inputs**-0.5)
        self.norm = PrefixNorm(inputs * rank)
        self.hidden = Hidden(
            inputs * rank, config.machine_hidden, dropout=config.dropout, norm=False
        )
        self.output = PrefixLinear(self.hidden.outputs, self.outputs * dim)

    def forward(self, x: Tensor, share: float) -> Tensor:
        """`[R, G, E'] -> [R, N_f, E']`."""
        size = x.shape[2]
        products = torch.matmul(x, torch.matmul(x.transpose(1, 2), self.projection))
        found = self.output(self.hidden(self.norm(products.flatten(1)), share), self.outputs * size)
        by_coordinate: Tensor = found.reshape(-1, size, self.outputs)
        return by_coordinate.transpose(1, 2)


class Layer(nn.Module):
    """A machine beside linear combinations, a residual and a norm."""

    def __init__(self, inputs: int, dim: int, config: WukongConfig) -> None:
        super().__init__()
        self.outputs = config.machine_vectors + config.linear_vectors
        self.machine = Machine(inputs, dim, config)
        self.combine = nn.Linear(inputs, config.linear_vectors, bias=False)
        self.residual = (
            nn.Identity() if inputs == self.outputs else nn.Linear(inputs, self.outputs, bias=False)
        )
        self.norm = PrefixNorm(dim)

    def forward(self, x: Tensor, share: float) -> Tensor:
        """`[R, G, E'] -> [R, N, E']`."""
        across = x.transpose(1, 2)
        found = torch.cat([self.machine(x, share), self.combine(across).transpose(1, 2)], dim=1)
        normed: Tensor = self.norm(found + self.residual(across).transpose(1, 2))
        return normed


class Wukong(nn.Module):
    """Layers, then hidden layers on all that is left."""

    def __init__(self, features: Features, config: WukongConfig) -> None:
        super().__init__()
        self.inputs = features.inputs()
        self.reads = self.inputs.reads
        dim, numbers = self.inputs.embedding_dim, self.inputs.num_numbers
        made = config.number_vectors if numbers else 0
        self.tokens = MixedVectors(numbers, made, dim) if numbers else None
        self.first_norm = PrefixNorm(dim)
        outputs = config.machine_vectors + config.linear_vectors
        befores = (self.inputs.num_vectors + made, *[outputs] * (config.layers - 1))
        self.layers = nn.ModuleList(Layer(before, dim, config) for before in befores)
        width = numbers + outputs * dim
        self.hidden = Hidden(width, config.hidden, dropout=config.dropout, norm=config.norm)
        self.output = PrefixLinear(self.hidden.outputs, 1)

    def forward(self, batch: Batch, share: float = 1.0) -> Tensor:
        """`[R]` scores."""
        numbers, x = self.inputs(batch, share)
        if self.tokens is not None:
            x = torch.cat([x, self.tokens(numbers, x.shape[2])], dim=1)
        x = self.first_norm(x)
        for layer in self.layers:
            x = layer(x, share)
        score: Tensor = self.output(self.hidden(flat(numbers, x), share))
        return score.squeeze(1)
