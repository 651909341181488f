"""Scores of users of several vectors: the best of their interests, block by block.

At every granularity a score is the largest of those of the user's K vectors. Where scores are
cosines, each vector's prefix is divided by its own length, or long vectors would always win.

Shape legend: B users of a batch, K interests, N items, D coordinates, G granularities.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from recsys.evaluation.ranking.scorer import BlockScores
from recsys.granularity import Granularities
from recsys.prefixes import add_prefix_products, prefix_norms


def interest_blocks(
    users: Tensor, items: Tensor, granularities: Granularities, item_norms: Tensor
) -> BlockScores:
    """Block scores of `users [B, K, D]` and `items [N, D]`; `[B * K, width]` products are held.

    Args:
        users: float32.
        items: float32.
        granularities: the prefixes.
        item_norms: `[G, N]` as `prefix_norms` gives them; read where scores are cosines.
    """
    num_users, count, _ = users.shape
    flat = users.flatten(0, 1)
    lengths = prefix_norms(flat, granularities)[:, :, None] if granularities.normalize else None

    def block(lo: int, hi: int) -> Iterator[Tensor]:
        sums = flat.new_zeros(len(flat), hi - lo)
        every = add_prefix_products(sums, flat, items[lo:hi], granularities.slices)
        for g, products in enumerate(every):
            if lengths is None:
                yield products.view(num_users, count, hi - lo).amax(1)
            else:
                best = (products / lengths[g]).view(num_users, count, hi - lo).amax(1)
                yield best / item_norms[g, lo:hi]

    return block
