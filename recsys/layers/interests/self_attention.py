"""Interests by self-attention: each is a weighted mean of the history, with weights of its own.

Cen et al., Controllable Multi-Interest Framework for Recommendation (ComiRec-SA), KDD 2020:
`softmax(W2 tanh(W1 H)) H`, after Lin et al., A Structured Self-Attentive Sentence Embedding, ICLR
2017.

Departures from the paper: the place of an item counts from the place that looks and is a number
added to the weight before the softmax, not a vector added to the item's, so that all places of a
history are made at once; and each block of coordinates has weights of its own, made of the
coordinates up to its end, so that a cut changes none of them.

Shape legend: B users, L longest history, Q places that look, K interests, D coordinates, J blocks,
W coordinates of a block.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recsys.layers.nested import NestedLinear, block_widths, scaled


class InterestAttention(nn.Module):
    """K weighted means of a history, at any of its places."""

    def __init__(
        self,
        ends: Sequence[int],
        num_interests: int,
        *,
        hidden_ratio: float,
        longest: int,
        distances: bool,
    ) -> None:
        """Args:
        ends: of the blocks of coordinates; the last one is D.
        num_interests: K.
        hidden_ratio: hidden units for each coordinate.
        longest: L at most.
        distances: what is learned of how far back an item is.
        """
        super().__init__()
        self.num_interests, self.widths = num_interests, block_widths(ends)
        hidden = scaled(ends, hidden_ratio)
        self.hidden = NestedLinear(ends, hidden)
        levels = tuple(num_interests * (j + 1) for j in range(len(self.widths)))
        self.level = NestedLinear(hidden, levels, bias=False)  # [.., J * K], block by block
        self.distances: nn.Parameter | None = None
        if distances:
            self.distances = nn.Parameter(torch.zeros(len(self.widths), longest, num_interests))

    def forward(self, history: Tensor, back: Tensor) -> Tensor:
        """`[B, Q, K, D]`.

        Args:
            history: `[B, L, D]` vectors, with anything behind the end of a history.
            back: `[B, Q, L]` or `[1, Q, L]` int64: how many steps an item is before the place that
                looks; below 0: that place does not see it.
        """
        levels = self.level(self.hidden(history).tanh()).transpose(1, 2)  # [B, J * K, L]
        unseen, steps = (back < 0)[:, :, None], back.clamp_min(0)
        found = []
        for j, (part, level) in enumerate(
            zip(history.split(self.widths, 2), levels.split(self.num_interests, 1), strict=True)
        ):
            own = level[:, None]  # [B, 1, K, L]
            if self.distances is not None:
                added = nn.functional.embedding(steps, self.distances[j])
                own = own + added.transpose(2, 3)
            weights = own.masked_fill(unseen, -torch.inf).softmax(3)  # [B, Q, K, L]
            mean = weights.flatten(1, 2) @ part
            found.append(mean.unflatten(1, (-1, self.num_interests)))
        return torch.cat(found, 3)
