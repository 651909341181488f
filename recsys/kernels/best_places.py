"""Places of the best scores of each row; ties are broken by item.

Shape legend: B rows, n scores of each.
"""

from __future__ import annotations

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.kernels.compiling import kernel
from recsys.kernels.rank_order import key_of, levels_of
from recsys.kernels.threads import in_parts

_FEW = 64
"""Places that are kept in order as they come; more are sorted afterwards."""


def best_places(scores: Float32, items: Int64, keep: int, threads: int = 1) -> Int64:
    """`[B, min(n, keep)]`: by falling score, then by rising item; -1 counts as the last item."""
    places = np.empty((len(scores), min(keep, scores.shape[1])), np.int64)
    if 0 < places.shape[1] <= _FEW:
        in_parts(_take_few, len(scores), threads, scores, items, places)
        return places

    def task(rows: tuple[int, int]) -> None:
        part = slice(*rows)
        # No two alike, rising in the wanted order: one quick sort, not two.
        keys = ~key_of(levels_of(scores[part]), items[part])
        count = places.shape[1]
        if count == keys.shape[1]:
            places[part] = np.argsort(keys, axis=1)
            return
        first = np.argpartition(keys, count, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(keys, first, axis=1), axis=1)
        places[part] = np.take_along_axis(first, order, axis=1)

    in_parts(task, len(scores), threads)
    return places


@kernel
def _take_few(rows, scores, items, places):
    """The same for `places [B, k]` of few: each score goes to its place among the best so far."""
    count = places.shape[1]
    for row in range(rows[0], rows[1]):
        held = 0
        for place in range(scores.shape[1]):
            at = held
            while at > 0 and _before(scores[row], items[row], place, places[row, at - 1]):
                if at < count:
                    places[row, at] = places[row, at - 1]
                at -= 1
            if at < count:
                places[row, at] = place
                held = min(held + 1, count)


@kernel
def _before(scores, items, place, other):
    """Whether one place comes before another; -1 is the last of all items."""
    if scores[place] != scores[other]:
        return scores[place] > scores[other]
    return np.uint32(items[place]) < np.uint32(items[other])
