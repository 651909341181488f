"""DCN-v2: crosses of all inputs of growing degree, beside hidden layers.

Wang et al., DCN V2: Improved Deep & Cross Network, WWW 2021. A cross layer is
`x0 * (W x + b) + x` (eq. 1), W whole or a mixture of low-rank experts (eq. 4).

Shape legend: R rows, I inputs, E experts, K rank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from recsys.rankers.layers.inputs import Batch
from recsys.rankers.layers.prefix import Hidden, PrefixLinear, flat, part
from recsys.rankers.networks.base import Features

if TYPE_CHECKING:
    from recsys.rankers.models.dcn_v2 import DcnV2Config


class Cross(nn.Module):
    """`x0 * (W x + b) + x`."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.linear = PrefixLinear(inputs, inputs)

    def forward(self, start: Tensor, x: Tensor, share: float) -> Tensor:
        """`[R, I], [R, I] -> [R, I]`."""
        del share
        crossed: Tensor = start * self.linear(x, x.shape[1]) + x
        return crossed


class LowRankCross(nn.Module):
    """W as a gated sum of experts, each `U tanh(C tanh(V x))` of a low rank."""

    def __init__(self, inputs: int, rank: int, experts: int) -> None:
        super().__init__()
        self.rank = rank
        self.down = nn.ModuleList(PrefixLinear(inputs, rank, bias=False) for _ in range(experts))
        self.core = nn.ModuleList(PrefixLinear(rank, rank, bias=False) for _ in range(experts))
        self.up = nn.ModuleList(PrefixLinear(rank, inputs) for _ in range(experts))
        self.gate = PrefixLinear(inputs, experts)

    def forward(self, start: Tensor, x: Tensor, share: float) -> Tensor:
        """`[R, I], [R, I] -> [R, I]`."""
        rank, found = part(self.rank, share), []
        for down, core, up in zip(self.down, self.core, self.up, strict=True):
            inner = torch.tanh(core(torch.tanh(down(x, rank)), rank))
            found.append(start * up(inner, x.shape[1]))
        gates = torch.softmax(self.gate(x), dim=1)
        mixed: Tensor = (torch.stack(found, dim=2) * gates.unsqueeze(1)).sum(2)
        return mixed + x


class DcnV2(nn.Module):
    """Cross layers and hidden layers on the same inputs, or one after the other."""

    def __init__(self, features: Features, config: DcnV2Config) -> None:
        super().__init__()
        self.inputs = features.inputs()
        self.reads = self.inputs.reads
        self.stacked = config.stacked
        width = self.inputs.num_numbers + self.inputs.num_vectors * self.inputs.embedding_dim
        self.crosses = nn.ModuleList(
            LowRankCross(width, config.rank, config.experts) if config.rank else Cross(width)
            for _ in range(config.crosses)
        )
        self.hidden = Hidden(width, config.hidden, dropout=config.dropout, norm=config.norm)
        self.from_hidden = PrefixLinear(self.hidden.outputs, 1)
        self.from_crosses = PrefixLinear(width, 1, bias=False)

    def forward(self, batch: Batch, share: float = 1.0) -> Tensor:
        """`[R]` scores."""
        start = flat(*self.inputs(batch, share))
        x = start
        for cross in self.crosses:
            x = cross(start, x, share)
        hidden = self.hidden(x if self.stacked else start, share)
        score: Tensor = self.from_hidden(hidden)
        if not self.stacked:
            score = score + self.from_crosses(x)
        return score.squeeze(1)
