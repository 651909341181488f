"""Users made of their items: a nested linear map of the mean of the items' vectors.

Shape legend: B users of a batch, P pairs, D embedding_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from recsys.granularity import Granularities
from recsys.layers.nested import NestedLinear
from recsys.losses.pairs.grouped import owners_of


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


def mean_of_some(
    had: Tensor, lengths: Tensor, *, hidden: float, unit: bool
) -> tuple[Tensor, Tensor]:
    """The mean of a user's items, of which some are hidden at random.

    Args:
        had: `[P, D]` vectors of all users' items, user by user.
        lengths: `[B]` items of each.
        hidden: share of the items that are hidden.
        unit: each vector is divided by its length first.

    Returns:
        `[B, D]`, zeros where all are hidden, and `[B, 1]` how many are not.
    """
    had = normalize(had, dim=1) if unit else had
    kept = torch.rand(len(had), 1, device=had.device) >= hidden
    owners = owners_of(lengths, len(had))
    sums = had.new_zeros(len(lengths), had.shape[1]).index_add(0, owners, had * kept)
    counts = had.new_zeros(len(lengths), 1).index_add(0, owners, kept.to(had.dtype))
    return sums / counts.clamp_min(1.0), counts
