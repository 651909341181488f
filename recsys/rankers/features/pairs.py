"""Weights of pairs of items, looked up for many pairs at once.

Shape legend: N items, P pairs kept, Q requests, K candidates, L last items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.data.read_only import freeze_arrays

_AT_ONCE = 1 << 20
"""Pairs to look up at once."""


@dataclass(frozen=True)
class Pairs:
    """Weights of P of the N x N pairs; the others weigh 0."""

    keys: Int64
    """`[P]` ascending: `first * N + second`."""
    weights: Float32
    """`[P]`."""
    num_items: int

    def __post_init__(self) -> None:
        freeze_arrays(self, "keys", "weights")

    def weights_of(self, first: Int64, second: Int64) -> Float32:
        """Weights of any pairs of items, in the shape of `first` and `second` together."""
        wanted = first * self.num_items + second
        found = np.zeros(wanted.shape, np.float32)
        if len(self.keys):
            places = np.searchsorted(self.keys, wanted).clip(max=len(self.keys) - 1)
            hit = self.keys[places] == wanted
            found[hit] = self.weights[places[hit]]
        return found

    def seen_from(self, recent: Int64, items: Int64) -> tuple[Float32, Float32, Float32]:
        """What the last items of each request say of its candidates.

        Args:
            recent: `[Q, L]` the most recent item first, -1 behind the end of a history.
            items: `[Q, K]` candidates, -1 where there is none.

        Returns:
            `[Q, K]` each: the weight with the most recent item; the sum over the L items, the one
            `s` places back times `1 / s`; and the largest weight.
        """
        last, total, most = (np.zeros(items.shape, np.float32) for _ in range(3))
        width = recent.shape[1]
        if not width:
            return last, total, most
        steps = (1 / np.arange(1.0, width + 1)).astype(np.float32)
        at_once = max(1, _AT_ONCE // max(1, items.shape[1] * width))
        for lo in range(0, len(items), at_once):
            rows = slice(lo, lo + at_once)
            had = recent[rows, :, None]
            weights = self.weights_of(had.clip(0), items[rows, None, :])
            weights *= had >= 0
            last[rows], most[rows] = weights[:, 0], weights.max(axis=1)
            total[rows] = np.einsum("qlk,l->qk", weights, steps)
        return last, total, most


def top_pairs(first: Int64, second: Int64, weights: Float32, num_items: int, kept: int) -> Pairs:
    """The pairs with the highest weights of each first item; equals by the second item.

    Args:
        first, second: `[M]` items of pairs that stand once each.
        weights: `[M]`.
        num_items: N.
        kept: most pairs of one item.
    """
    order = np.lexsort((second, -weights, first))
    owners = first[order]
    places = np.arange(len(owners)) - np.searchsorted(owners, owners)
    best = order[places < kept]
    keys = first[best].astype(np.int64) * num_items + second[best]
    ascending = np.argsort(keys)
    return Pairs(keys[ascending], weights[best][ascending].astype(np.float32), num_items)
