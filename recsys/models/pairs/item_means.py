"""Users made of their items: a nested linear map of the mean of the items' vectors.

In training a user is never asked for an item that he is made of: he would learn to name what he is
shown. Some of his items are hidden from the mean, and these are his targets of that step. To its
pair a target is hidden, while each other item is by the same chance, so the loss is, in
expectation, that of all pairs with their target taken out of their mean - for one vector a user,
not one a pair.

Shape legend: B users of a batch, P pairs, Q of them asked for, K negatives, D embedding_dim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from recsys.granularity import Granularities
from recsys.layers.nested import NestedLinear
from recsys.losses.pairs.grouped import owners_of
from recsys.losses.softmax import Negatives


def identity_map(granularities: Granularities) -> NestedLinear:
    """A nested map `[D] -> [D]` that gives at first what it takes."""
    mapped = NestedLinear(granularities.sizes, granularities.sizes, bias=False)
    for weight, (lo, hi) in zip(mapped.parameters(), granularities.slices, strict=True):
        nn.init.zeros_(weight)
        nn.init.eye_(weight[:, lo:hi])
    return mapped


def matrix_of(mapped: NestedLinear) -> Tensor:
    """`[D, D]` of a nested linear map without bias."""
    dim = mapped.inputs[-1]
    weights = mapped.parameters()
    return torch.cat([pad(weight, (0, dim - weight.shape[1])) for weight in weights]).detach()


def hidden_items(targets: Tensor, lengths: Tensor, share: float) -> Tensor:
    """`[P]` bool: what training hides of each user's items, at random, and asks him for.

    Of each user at least one is hidden. What he has had several times is hidden in all its rows or
    in none: the others would tell it.

    Args:
        targets: `[P]` item indices, user by user.
        lengths: `[B]` items of each.
        share: of the items that are hidden.
    """
    owners = owners_of(lengths, len(targets))
    kinds = (owners * (targets.max() + 1) + targets).unique(return_inverse=True)[1]
    draws = torch.rand(len(targets), device=targets.device)[kinds]
    least = draws.new_ones(len(lengths)).scatter_reduce(0, owners, draws, "amin")
    return (draws < share) | (draws == least[owners])


def mean_of_shown(
    had: Tensor, lengths: Tensor, shown: Tensor, *, unit: bool
) -> tuple[Tensor, Tensor]:
    """The mean of those of a user's items that are shown.

    Args:
        had: `[P, D]` vectors of all users' items, user by user.
        lengths: `[B]` items of each.
        shown: `[P]` bool.
        unit: each vector is divided by its length first.

    Returns:
        `[B, D]`, zeros where none is shown, and `[B, 1]` how many are.
    """
    had = normalize(had, dim=1) if unit else had
    kept, owners = shown[:, None].to(had.dtype), owners_of(lengths, len(had))
    sums = had.new_zeros(len(lengths), had.shape[1]).index_add(0, owners, had * kept)
    counts = had.new_zeros(len(lengths), 1).index_add(0, owners, kept)
    return sums / counts.clamp_min(1.0), counts


@dataclass(frozen=True)
class Asked:
    """Pairs of a batch, or some of them, as an objective of pairs takes them."""

    items: Tensor
    """`[N, D]` of the catalogue, or `[K + Q, D]`: of the negatives, then of the targets."""
    targets: Tensor
    """`[Q]` item indices, user by user."""
    lengths: Tensor
    """`[B]` pairs of each user."""
    negatives: Negatives | None

    def only(self, chosen: Tensor) -> Asked:
        """Those of the pairs that are chosen, `[Q]` bool; what else a user has is no negative of
        his.
        """
        owners = owners_of(self.lengths, len(self.targets))
        lengths = torch.zeros_like(self.lengths).index_add(0, owners, chosen.to(owners.dtype))
        targets = self.targets[chosen]
        if self.negatives is None:
            return replace(self, targets=targets, lengths=lengths)
        k = len(self.negatives.items)
        items = torch.cat([self.items[:k], self.items[k:][chosen]])
        withheld = owners[~chosen], self.targets[~chosen]
        return Asked(items, targets, lengths, replace(self.negatives, withheld=withheld))
