"""Interests by dynamic routing: the items of a history are shared out among capsules.

Cen et al., Controllable Multi-Interest Framework for Recommendation (ComiRec-DR), KDD 2020, after
Sabour et al., Dynamic Routing Between Capsules, NeurIPS 2017. An item goes to the capsules whose
sum agrees with it; sums and shares are made in turns, and no gradient passes the shares.

Departures from the paper: the map from an item to what it tells a capsule is one for each capsule,
not one for each capsule and place; and each block of coordinates is routed by the coordinates up
to its end, so that a cut changes nothing.

Shape legend: B users, L longest history, Q places that look, K interests, D coordinates, M the
coordinates up to the end of a block.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recsys.layers.nested import NestedLinear

_LEAST_SQUARE = 1e-9


class InterestRouting(nn.Module):
    """K capsules of a history, at any of its places."""

    def __init__(self, ends: Sequence[int], num_interests: int, *, iterations: int) -> None:
        """Args:
        ends: of the blocks of coordinates; the last one is D.
        num_interests: K.
        iterations: turns of routing.
        """
        super().__init__()
        self.ends, self.num_interests, self.iterations = tuple(ends), num_interests, iterations
        self.maps = nn.ModuleList(
            NestedLinear(ends, ends, bias=False) for _ in range(num_interests)
        )

    def forward(self, history: Tensor, back: Tensor) -> Tensor:
        """`[B, Q, K, D]`; arguments as of `InterestAttention`."""
        told = torch.stack([each(history) for each in self.maps], 2)  # [B, L, K, D]
        seen = (back >= 0)[..., None].to(told.dtype)  # [B, Q, L, 1]
        found, lo = [], 0
        for end in self.ends:
            capsules = self._routed(told[..., :end], seen)
            found.append(capsules[..., lo:end])
            lo = end
        return torch.cat(found, 3)

    def _routed(self, told: Tensor, seen: Tensor) -> Tensor:
        """`[B, Q, K, M]` capsules of `told [B, L, K, M]`."""
        held = told.detach()
        agreed = seen.new_zeros(1, 1, 1, self.num_interests)
        for _ in range(self.iterations - 1):
            capsules = _squashed(_summed(agreed, seen, held))
            agreed = agreed + torch.einsum("bqkm,blkm->bqlk", capsules, held)
        return _squashed(_summed(agreed, seen, told))


def _summed(agreed: Tensor, seen: Tensor, told: Tensor) -> Tensor:
    """`[B, Q, K, M]` what each capsule is told, by its share of every item."""
    shares = agreed.softmax(3) * seen
    return torch.einsum("bqlk,blkm->bqkm", shares.expand(told.shape[0], -1, -1, -1), told)


def _squashed(capsules: Tensor) -> Tensor:
    """The same directions, of lengths below 1: `|s|^2 / (1 + |s|^2) * s / |s|`."""
    square = capsules.square().sum(-1, keepdim=True)
    return capsules * square.clamp_min(_LEAST_SQUARE).sqrt() / (1 + square)
