"""Lists filled place by place, for all users of a block at once.

Shape legend: B users, K candidates, k places.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from recsys.arrays import Float64, Int64
from recsys.rankers.lists.base import Ranked


class Choosing(Protocol):
    """What fills lists of a block of users."""

    def gains(self, place: int) -> Float64:
        """`[B, K]` what each candidate is worth at the next place; -inf: it cannot stand there."""
        ...

    def took(self, chosen: Int64) -> None:
        """Told of the candidates `[B]` that were taken."""
        ...


def filled(ranked: Ranked, k: int, choosing: Choosing) -> Int64:
    """`[B, k]` the candidates that are worth most at each place, equals by their rank; -1: none.

    Args:
        ranked: candidates of a block of users.
        k: places.
        choosing: whose gains count; asked place by place.
    """
    rows = np.arange(len(ranked.items))
    free = ranked.items >= 0
    places = np.full((len(rows), k), -1, np.int64)
    for place in range(k):
        gains = np.where(free, choosing.gains(place), -np.inf)
        best = gains.argmax(axis=1)
        there = np.isfinite(gains[rows, best])
        places[there, place] = best[there]
        free[rows[there], best[there]] = False
        choosing.took(best)
    return places
