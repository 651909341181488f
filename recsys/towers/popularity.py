"""Popularity inside nested vectors whose scores are cosines.

Vectors that are fitted to rows tell too little of how popular an item is: of the rows they are
fitted to they know better, so that of others they expect too much of what is personal. Here the
last coordinate of each block (the coordinates that a granularity adds to the one before) is kept
free in training. After it a user's holds the length of the rest of the block, and an item's the
same times weight and popularity. So in every prefix the score of a user and an item is, up to a
factor that all items share,

    cosine + weight * popularity

nearly: exactly where both spread their length alike over the blocks, and where what popularity adds
to an item's own length is small. A prefix is still a prefix, and nothing else has to know of it:
search, stores and funnels take the vectors as they are.

Shape legend: B rows, N items, D embedding_dim, G granularities.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys.granularity import Granularities


class PopularityCoordinates(nn.Module):
    """The coordinates that hold popularity, and what fills them."""

    personal: Tensor
    """`[D]` 1, and 0 for coordinates of popularity."""
    places: Tensor
    """`[G, D]` 1 where a coordinate holds the popularity of a block."""

    def __init__(self, granularities: Granularities, weight: float) -> None:
        """Args:
        granularities: whose blocks are meant; each has at least two coordinates.
        weight: what a popularity of 1 adds to a cosine.
        """
        super().__init__()
        self.weight, self.slices = weight, granularities.slices
        places = torch.zeros(len(self.slices), granularities.embedding_dim)
        for block, (_, hi) in enumerate(self.slices):
            places[block, hi - 1] = 1.0
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("personal", 1.0 - places.sum(0), persistent=False)

    def without(self, vectors: Tensor) -> Tensor:
        """`[B, D]`: zeros in the coordinates of popularity."""
        return vectors * self.personal.to(vectors.dtype)

    def of_users(self, users: Tensor) -> Tensor:
        """`[B, D]` with what all users share filled in; what stood there is left out."""
        users = self.without(users)
        return users + self._lengths(users) @ self.places

    def of_items(self, items: Tensor, popularity: Tensor) -> Tensor:
        """`[N, D]` with the popularity `[N]` filled in; what stood there is left out."""
        items = self.without(items)
        return items + (self.weight * popularity[:, None] * self._lengths(items)) @ self.places

    def _lengths(self, vectors: Tensor) -> Tensor:
        """`[B, G]` of each block."""
        return torch.stack([vectors[:, lo:hi].norm(dim=1) for lo, hi in self.slices], dim=1)


def popularity_of(counts: Tensor) -> Tensor:
    """`[N]` float32: log(1 + rows) of items with `counts [N]` rows, less its mean over the items.

    The mean changes no order of items; without it popular items would have the longer vectors.
    """
    logs = counts.double().log1p()
    return (logs - logs.mean()).float()
