"""Factors of the scores of every granularity.

Shape legend: T tokens (positions with a target), N candidate items, G granularities, D
embedding_dim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from recsys.granularity import Granularities
from recsys.prefixes import prefix_norms


@dataclass(frozen=True)
class PrefixScales:
    """The factors of the dot products of every granularity's prefixes.

    A score is `rows[g, t] * cols[g, n] * <users_t, items_n>_g`.
    """

    slices: list[tuple[int, int]]
    """The coordinates `[lo, hi)` each granularity adds, ascending."""
    rows: Tensor
    """`[G, T]`, positive: a scale, over the norm of the user's prefix where scores are cosines."""
    cols: Tensor | None = None
    """`[G, N]`: one over the norm of the item's prefix; None: 1."""

    def of(self, items: slice | Tensor) -> PrefixScales:
        """The factors of some of the items."""
        return self if self.cols is None else replace(self, cols=self.cols[:, items])


def prefix_scales(
    users: Tensor, items: Tensor, scales: Tensor, granularities: Granularities
) -> PrefixScales:
    """The factors of `users [T, D]` and `items [N, D]` with one scale `[G]` a granularity."""
    rows, slices = scales[:, None].expand(-1, len(users)), granularities.slices
    if not granularities.normalize:
        return PrefixScales(slices, rows)
    rows = rows / prefix_norms(users, granularities)
    return PrefixScales(slices, rows, 1.0 / prefix_norms(items, granularities))
