"""DIN: the history, weighted by what each of its items has to do with the candidate.

Zhou et al., Deep Interest Network for Click-Through Rate Prediction, KDD 2018. Weights are not
normalized, as in the paper, unless `softmax` is asked for; ReLU stands where the paper has Dice.

Shape legend: R rows, Q requests, L longest history, E coordinates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from recsys.rankers.layers.inputs import Batch
from recsys.rankers.layers.prefix import Hidden, PrefixLinear, flat
from recsys.rankers.networks.base import Features

if TYPE_CHECKING:
    from recsys.rankers.models.din import DinConfig


class Attention(nn.Module):
    """A weight for each item of a history, out of its vector and the candidate's."""

    def __init__(self, dim: int, config: DinConfig) -> None:
        super().__init__()
        self.softmax = config.softmax
        self.hidden = Hidden(4 * dim, config.attention_hidden, dropout=0.0, norm=False)
        self.output = PrefixLinear(self.hidden.outputs, 1)

    def forward(self, history: Tensor, present: Tensor, item: Tensor, share: float) -> Tensor:
        """The weighted sum: `[R, L, E'], [R, L], [R, E'] -> [R, E']`."""
        candidate = item.unsqueeze(1).expand_as(history)
        # Side by side for each coordinate, so that fewer coordinates give a prefix.
        both = [history, candidate, history - candidate, history * candidate]
        weights: Tensor = self.output(self.hidden(torch.stack(both, dim=3).flatten(2), share))
        if self.softmax:
            weights = weights.masked_fill(~present.unsqueeze(2), -1e9)
            weights = torch.softmax(weights, dim=1)
        weights = weights * present.unsqueeze(2).to(weights.dtype)
        return torch.bmm(weights.transpose(1, 2), history).squeeze(1)


class Din(nn.Module):
    """The weighted history and all other inputs, then hidden layers."""

    def __init__(self, features: Features, config: DinConfig) -> None:
        super().__init__()
        self.inputs = features.inputs()
        self.reads = (*self.inputs.reads, "history", "owners")
        dim = self.inputs.embedding_dim
        self.attention = Attention(dim, config)
        width = self.inputs.num_numbers + (self.inputs.num_vectors + 1) * dim
        self.hidden = Hidden(width, config.hidden, dropout=config.dropout, norm=config.norm)
        self.output = PrefixLinear(self.hidden.outputs, 1)

    def forward(self, batch: Batch, share: float = 1.0) -> Tensor:
        """`[R]` scores."""
        assert self.inputs.items is not None
        assert batch.history is not None and batch.owners is not None
        numbers, vectors = self.inputs(batch, share)
        # By request, then for each row: a history is looked up once.
        history = self.inputs.items(batch.history, size=self.inputs.size(share))[batch.owners]
        present = (batch.history > 0)[batch.owners]
        interest = self.attention(history, present, vectors[:, -1], share)
        x = flat(numbers, torch.cat([vectors, interest.unsqueeze(1)], dim=1))
        score: Tensor = self.output(self.hidden(x, share))
        return score.squeeze(1)
