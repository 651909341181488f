"""Fold-in: the vector of a user whom training has not seen, from the items of a history.

One linear map, from the mean of the items' vectors to the user's vector, is fitted to all users who
have a trained vector (ridge regression, in closed form). It is block lower triangular: a coordinate
of the user depends on the prefixes of the items' vectors up to its own granularity, so prefixes of
folded-in users are those of truncated items.

Shape legend: B users of a batch, U users the map is fitted to, L longest history, T items of all
histories, D embedding_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, normalize

from recsys.granularity import Granularities
from recsys.towers.popularity import PopularityCoordinates

_RIDGE = 1e-3
"""Of the mean variance of the coordinates."""


def mean_items(items: Tensor, indices: Tensor, offsets: Tensor, *, unit: bool) -> Tensor:
    """The mean of the item vectors of each history.

    Args:
        items: `[N, D]`.
        indices: `[T]` int64 items of the histories.
        offsets: `[B + 1]` int64 where each begins.
        unit: each vector is divided by its length first.

    Returns:
        `[B, D]`; zeros for an empty history.
    """
    vectors = normalize(items, dim=1) if unit else items
    means: Tensor = embedding_bag(indices, vectors, offsets, mode="mean", include_last_offset=True)
    return means


def fit_fold_in(means: Tensor, users: Tensor, granularities: Granularities) -> Tensor:
    """The map `[D, D]`, block lower triangular, for which `means @ map.T` is nearest to `users`.

    Args:
        means: `[U, D]` of the items that each user has had.
        users: `[U, D]` trained vectors; of length 1 where scores are cosines.
        granularities: whose slices the blocks are.
    """
    products = (means.T @ means).double()
    targets = (means.T @ users).double()
    products += (
        _RIDGE
        * products.diagonal().mean().clamp_min(1e-12)
        * torch.eye(len(products), dtype=products.dtype, device=products.device)
    )
    found = torch.zeros_like(products)
    for lo, hi in granularities.slices:
        found[lo:hi, :hi] = torch.linalg.solve(products[:hi, :hi], targets[:hi, lo:hi]).T
    return found.float()


class PaddedFoldIn(nn.Module):
    """`vectors [B, L, D]`, `lengths [B]` -> users `[B, D]`, as a network that ONNX can hold."""

    matrix: Tensor

    shift: Tensor

    def __init__(
        self,
        matrix: Tensor,
        *,
        unit: bool,
        shift: Tensor | None = None,
        shared: PopularityCoordinates | None = None,
    ) -> None:
        """Args:
        matrix: `[D, D]` of `fit_fold_in`.
        unit: as of `mean_items`.
        shift: `[D]` is added.
        shared: where vectors hold popularity: items are read without it, and users get it.
        """
        super().__init__()
        self.unit, self.shared = unit, shared
        self.register_buffer("matrix", matrix)
        self.register_buffer("shift", matrix.new_zeros(len(matrix)) if shift is None else shift)

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        longest = vectors.shape[1]
        real = torch.arange(longest, device=vectors.device)[None, :] < lengths[:, None]
        if self.shared is not None:
            vectors = self.shared.without(vectors)
        if self.unit:
            vectors = normalize(vectors, dim=2)
        sums = (vectors * real[:, :, None].to(vectors.dtype)).sum(1)
        users: Tensor = (sums / lengths[:, None].to(vectors.dtype)) @ self.matrix.T + self.shift
        return users if self.shared is None else self.shared.of_users(users)
