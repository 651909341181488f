"""Running lists of the best items of each user, filled by a scan.

Shape legend: B users, N items, C items of a chunk, d coordinates, L room of a list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.kernels.compiling import kernel
from recsys.kernels.row_products import dot
from recsys.kernels.threads import in_parts

_ROOM = 256


@dataclass(frozen=True)
class Lists:
    """The running lists of a batch of users."""

    scores: Float32
    """`[B, L]`."""
    items: Int64
    """`[B, L]`."""
    counts: Int64
    """`[B]` how many there are."""
    floors: Float32
    """`[B]` what a score must exceed to enter."""
    keep: int

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What the compiled scans take last."""
        return self.keep, self.scores, self.items, self.counts, self.floors


def make_lists(num_users: int, keep: int) -> Lists:
    """Empty lists."""
    shape = (num_users, keep + max(_ROOM, keep // 2))
    return Lists(
        np.empty(shape, np.float32),
        np.empty(shape, np.int64),
        np.zeros(num_users, np.int64),
        np.full(num_users, -np.inf, np.float32),
        keep,
    )


def taken_of(lists: Lists, threads: int) -> Int64:
    """`[B, keep]` the best items of each row, in no order, -1 behind the end of a list."""
    taken = np.empty((len(lists.counts), lists.keep), np.int64)
    listed = (lists.scores, lists.items, lists.counts, lists.keep, taken)
    in_parts(_finish, len(taken), threads, *listed)
    return taken


@kernel
def largest(values, place):
    """The number that `values`, which is put into another order, has at `place` when descending.

    Hoare's selection by hand: numba takes half a minute to compile numpy's.
    """
    lo, hi = 0, len(values) - 1
    while lo < hi:
        pivot = values[(lo + hi) // 2]
        i, j = lo, hi
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i, j = i + 1, j - 1
        if place <= j:
            hi = j
        elif place >= i:
            lo = i
        else:
            break
    return values[place]


@kernel
def shrink(scores, items, count, keep):
    """Moves the best `keep` of a list to its front; returns what a score must exceed from now on.

    Of equal scores those that came first stay: the lower items, as chunks come in their order.
    """
    floor = largest(scores[:count].copy(), keep - 1)
    room = keep
    for place in range(count):
        room -= scores[place] > floor
    kept = 0
    for place in range(count):
        equal = scores[place] == floor
        if scores[place] > floor or (equal and room > 0):
            room -= equal
            scores[kept], items[kept] = scores[place], items[place]
            kept += 1
    return floor


@kernel
def forbidden(row, item, hidden, seen, offsets):
    """Whether a filter keeps an item from a user."""
    if len(hidden) and hidden[item]:
        return True
    if not len(seen):
        return False
    own = seen[offsets[row] : offsets[row + 1]]
    place = np.searchsorted(own, item)
    return place < len(own) and own[place] == item


@kernel
def enter(row, score, item, hidden, seen, offsets, keep, scores, items, counts, floors):
    """Puts an item into a user's list, unless a filter forbids it."""
    if forbidden(row, item, hidden, seen, offsets):
        return
    scores[row, counts[row]], items[row, counts[row]] = score, item
    counts[row] += 1
    if counts[row] == scores.shape[1]:
        floors[row] = shrink(scores[row], items[row], counts[row], keep)
        counts[row] = keep


@kernel
def enter_chunk(
    rows, base, near, slack, factors, norms, stored, dim, origin, users, scales,
    hidden, seen, offsets, keep, scores, items, counts, floors,
):  # fmt: skip
    """Lets a chunk of items enter the lists of the users `rows[0] .. rows[1] - 1`.

    A product of matrices rounds an item's score by its place in the chunk. So what may enter by
    `near` is scored again, by the sum that the stages take, and enters by that. Filters are looked
    at for what enters alone, so they cost nothing, and lists stay full.

    Args:
        rows: of the batch.
        base: the first item's index.
        near: `[B, C]` products by a library.
        slack: `[B]` how far these times `factors` may be from a score.
        factors: `[C]` float32: one over the norm; or empty.
        norms: `[C]` float32 that scores are divided by; or empty.
        stored: flat rows of which `row_products.add_stored` reads the same.
        dim: coordinates of a row.
        origin: the index of the item whose row is the first.
        users: `[B, d]` float32, d a multiple of 16.
        scales: by which products are multiplied, of the same rows; or empty.
        hidden: `[N]` uint8, 1 for items nobody shall get; or empty.
        seen: items of each row, ascending; or empty.
        offsets: `[B + 1]`: those of row b are `seen[offsets[b]:offsets[b + 1]]`.
        keep: how many each list holds in the end.
        scores: `[B, L]` float32, L > keep.
        items: `[B, L]` int64.
        counts: `[B]` int64: how many are in each list.
        floors: `[B]` float32: what a score must exceed.
    """
    width = users.shape[1]
    flat = users.reshape(users.size)
    for row in range(rows[0], rows[1]):
        limit = floors[row] - slack[row]
        for item in range(near.shape[1]):
            about = near[row, item] * factors[item] if len(factors) else near[row, item]
            if about <= limit:
                continue
            place = base + item - origin
            score = dot(stored, place * dim, flat, row * width, width // 16)
            if len(scales):
                score *= scales[place]
            if len(norms):
                score /= norms[item]
            if score > floors[row]:
                enter(
                    row, score, base + item,
                    hidden, seen, offsets, keep, scores, items, counts, floors,
                )  # fmt: skip
                limit = floors[row] - slack[row]


@kernel
def enter_scores(
    rows, base, sums, norms, hidden, seen, offsets, keep, scores, items, counts, floors
):
    """Lets a chunk of items enter the lists of the users `rows[0] .. rows[1] - 1` by exact scores.

    Args:
        rows: of the batch.
        base: the first item's index.
        sums: `[B, C]` float32.
        norms: `[N]` float32 that scores are divided by; or empty.
        hidden: the rest as `enter_chunk`.
    """
    for row in range(rows[0], rows[1]):
        floor = floors[row]
        for item in range(sums.shape[1]):
            score = sums[row, item]
            if len(norms):
                score /= norms[base + item]
            if score > floor:
                enter(
                    row, score, base + item,
                    hidden, seen, offsets, keep, scores, items, counts, floors,
                )  # fmt: skip
                floor = floors[row]


@kernel
def _finish(rows, scores, items, counts, keep, taken):
    for row in range(rows[0], rows[1]):
        if counts[row] > keep:
            shrink(scores[row], items[row], counts[row], keep)
            counts[row] = keep
        for place in range(keep):
            taken[row, place] = items[row, place] if place < counts[row] else -1
