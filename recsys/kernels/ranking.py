"""Ranks of targets and lists of best items, from score tiles that fit the cache.

Scores are made as in the softmax, 8 users x 256 items at a time, and every granularity looks at
them as soon as its coordinates are added. Counting compares them with the target's own score;
lists take what exceeds the worst of the best so far. A score is one chain of fused multiply-adds
(`products.py`), so `pair_scores` gives a target the very bits that stand in the tile, and ties
are ties.

Shape legend: B users (padded to a multiple of 8), N items, G granularities, D coordinates,
S seen items, K length of the lists.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from recsys.kernels.compiling import kernel
from recsys.kernels.lanes import LANES, Lanes, piece
from recsys.kernels.logsumexp import SWEEP_COLUMNS, add_scores, pack_columns
from recsys.kernels.products import ROWS
from recsys.kernels.rank_order import compiled_key_of, compiled_turn_bits

_VECTORS = SWEEP_COLUMNS // LANES
_SPARE = 48
"""A list is shortened to its K best and up to so many more: exactly K takes thrice the steps."""


@piece(types.float32, "aiaiif")
def _chain(lanes: Lanes, x: Any, x_start: Any, y: Any, y_start: Any, depth: Any, total: Any) -> Any:
    """`total` and the products of `depth` pairs, added one after the other."""
    builder = lanes.builder
    with lanes.steps(depth, [total]) as loop:
        left = builder.load(builder.gep(x, [builder.add(x_start, loop.turn)]))
        right = builder.load(builder.gep(y, [builder.add(y_start, loop.turn)]))
        loop.carried[0] = lanes.call("llvm.fma.f32", left, right, loop.carried[0])
    return loop.carried[0]


@piece(types.int64, "aiaif")
def _count(
    lanes: Lanes, scores: Any, start: Any, factors: Any, factor_start: Any, least: Any
) -> Any:
    """How many scores of a tile's row, times their factors, are at least `least`."""
    bound, total = lanes.same(least), lanes.index(0)
    for n in range(_VECTORS):
        step = lanes.index(n * LANES)
        score = lanes.load(scores, lanes.builder.add(start, step))
        factor = lanes.load(factors, lanes.builder.add(factor_start, step))
        found = lanes.count(lanes.mask(">=", lanes.mul(score, factor), bound))
        total = lanes.builder.add(total, found)
    return total


@piece(types.int64, "aiaifiaai")
def _take(
    lanes: Lanes,
    scores: Any,
    start: Any,
    factors: Any,
    factor_start: Any,
    worst: Any,
    first_item: Any,
    kept: Any,
    kept_items: Any,
    place: Any,
) -> Any:
    """Appends the scores of a tile's row that exceed `worst`, and their items' numbers.

    The numbers are int32 in the bits of `kept_items`. Returns how many there were.
    """
    builder = lanes.builder
    bound, begin = lanes.same(worst), place
    for n in range(_VECTORS):
        step = lanes.index(n * LANES)
        score = lanes.load(scores, builder.add(start, step))
        factor = lanes.load(factors, builder.add(factor_start, step))
        value = lanes.mul(score, factor)
        better = lanes.mask(">", value, bound)
        lanes.store_chosen(value, better, kept, place)
        lanes.store_chosen(lanes.numbers(builder.add(first_item, step)), better, kept_items, place)
        place = builder.add(place, lanes.count(better))
    return builder.sub(place, begin)


@piece(types.int64, "aiif")
def _count_kept(lanes: Lanes, kept: Any, start: Any, vectors: Any, least: Any) -> Any:
    """How many numbers of a list are at least `least`."""
    bound = lanes.same(least)
    with lanes.steps(vectors, [lanes.index(0)]) as loop:
        score = lanes.load(kept, lanes.at(start, loop.turn, lanes.index(LANES)))
        found = lanes.count(lanes.mask(">=", score, bound))
        loop.carried[0] = lanes.builder.add(loop.carried[0], found)
    return loop.carried[0]


@piece(types.float32, "aii")
def _highest(lanes: Lanes, kept: Any, start: Any, vectors: Any) -> Any:
    """The largest number of a list."""
    with lanes.steps(vectors, [lanes.same(-np.inf)]) as loop:
        score = lanes.load(kept, lanes.at(start, loop.turn, lanes.index(LANES)))
        loop.carried[0] = lanes.larger(loop.carried[0], score)
    return lanes.fold(loop.carried[0], lanes.larger)


@piece(types.void, "aaiif")
def _filter(lanes: Lanes, kept: Any, kept_items: Any, start: Any, vectors: Any, least: Any) -> None:
    """Moves the numbers of a list that are at least `least` to its beginning."""
    bound = lanes.same(least)
    with lanes.steps(vectors, [start]) as loop:
        here = lanes.at(start, loop.turn, lanes.index(LANES))
        score, number = lanes.load(kept, here), lanes.load(kept_items, here)
        chosen = lanes.mask(">=", score, bound)
        lanes.store_chosen(score, chosen, kept, loop.carried[0])
        lanes.store_chosen(number, chosen, kept_items, loop.carried[0])
        loop.carried[0] = lanes.builder.add(loop.carried[0], lanes.count(chosen))


@kernel
def pair_scores(users, items, factors, num_items, rows, chosen, edges, found):
    """Scores of single (user, item) pairs, `[G, M]`, with the bits they have in a tile."""
    dim, num_pairs = edges[-1], len(rows)
    for m in range(num_pairs):
        total = np.float32(0.0)
        for g in range(len(edges) - 1):
            user, item = rows[m] * dim + edges[g], chosen[m] * dim + edges[g]
            total = _chain(users, user, items, item, edges[g + 1] - edges[g], total)
            found[g * num_pairs + m] = total * factors[g * num_items + chosen[m]]


@kernel
def _load_factors(tile, factors, num_items, num_sizes, first):
    """A tile's factors `[G, 256]`; 1 beyond the last item."""
    for g in range(num_sizes):
        for j in range(SWEEP_COLUMNS):
            inside = first + j < num_items
            value = factors[g * num_items + first + j] if inside else np.float32(1.0)
            tile[g * SWEEP_COLUMNS + j] = value


@kernel
def _reset(scores, seen, seen_offsets, cursors, row, first, num_items):
    """Empties a tile's scores; seen items and what is beyond the last item are hidden.

    `cursors [B]` stand in each user's ascending `seen` items at the first of this tile or later.
    """
    scores[:] = 0.0
    for i in range(ROWS):
        for j in range(num_items - first, SWEEP_COLUMNS):
            scores[i * SWEEP_COLUMNS + j] = -np.inf
        at, end = cursors[row + i], seen_offsets[row + i + 1]
        while at < end and seen[at] < first + SWEEP_COLUMNS:
            scores[i * SWEEP_COLUMNS + seen[at] - first] = -np.inf
            at += 1
        cursors[row + i] = at


@kernel
def _start(seen, seen_offsets, first):
    """`[B]` for each user the first place in `seen` of an item not before `first`."""
    cursors = seen_offsets[:-1].copy()
    for b in range(len(cursors)):
        lo, hi = seen_offsets[b], seen_offsets[b + 1]
        cursors[b] = lo + np.searchsorted(seen[lo:hi], first)
    return cursors


@kernel
def count_better(users, items, factors, own, seen, seen_offsets, edges, blocks, counts):
    """Adds to `counts [G, B]` the unseen items of `blocks` scored at least as high as `own`.

    Args:
        users: `[B, D]`.
        items: `[N, D]`.
        factors: `[G, N]`, what scores are multiplied by (one over the norm, or 1).
        own: `[G, B]`.
        seen: `[S]` int32, ascending for each user.
        seen_offsets: `[B + 1]`.
        edges: `[G + 1]` where slices begin and end.
        blocks: `(first, last)` tile of 256 items.
        counts: `[G, B]` int64.
    """
    num_sizes, dim, num_users = len(edges) - 1, edges[-1], len(seen_offsets) - 1
    num_items = len(items) // dim
    panels = np.empty(dim * SWEEP_COLUMNS, np.float32)
    tile = np.empty(num_sizes * SWEEP_COLUMNS, np.float32)
    scores = np.empty(ROWS * SWEEP_COLUMNS, np.float32)
    cursors = _start(seen, seen_offsets, blocks[0] * SWEEP_COLUMNS)
    for block in range(blocks[0], blocks[1]):
        first = block * SWEEP_COLUMNS
        pack_columns(panels, items, num_items, dim, first, SWEEP_COLUMNS)
        _load_factors(tile, factors, num_items, num_sizes, first)
        for row in range(0, num_users, ROWS):
            _reset(scores, seen, seen_offsets, cursors, row, first, num_items)
            for g in range(num_sizes):
                add_scores(
                    scores, users, row * dim + edges[g], dim,
                    panels, dim, edges[g], edges[g + 1] - edges[g], ROWS, SWEEP_COLUMNS,
                )  # fmt: skip
                for i in range(ROWS):
                    at = g * num_users + row + i
                    counts[at] += _count(
                        scores, i * SWEEP_COLUMNS, tile, g * SWEEP_COLUMNS, own[at]
                    )


@kernel
def collect_best(
    users, items, factors, seen, seen_offsets, edges, keep, room, lengths, kept, kept_items
):
    """The `keep` best unseen items and a few more, for every granularity and user, in no order.

    Args:
        users, items, factors, seen, seen_offsets, edges: as `count_better`.
        keep: K.
        room: places for each list while it is made, a multiple of 16 and at least `keep + 304`.
        lengths: `[G, B]` int64, zeros; how many there are at the end.
        kept: `[G, B, room]` scores; kept_items the same of int32 in the bits of float32.
    """
    num_sizes, dim, num_users = len(edges) - 1, edges[-1], len(seen_offsets) - 1
    num_items = len(items) // dim
    panels = np.empty(dim * SWEEP_COLUMNS, np.float32)
    tile = np.empty(num_sizes * SWEEP_COLUMNS, np.float32)
    scores = np.empty(ROWS * SWEEP_COLUMNS, np.float32)
    worst = np.full(num_sizes * num_users, -np.inf, np.float32)
    cursors = seen_offsets[:-1].copy()
    for first in range(0, num_items, SWEEP_COLUMNS):
        pack_columns(panels, items, num_items, dim, first, SWEEP_COLUMNS)
        _load_factors(tile, factors, num_items, num_sizes, first)
        for row in range(0, num_users, ROWS):
            _reset(scores, seen, seen_offsets, cursors, row, first, num_items)
            for g in range(num_sizes):
                add_scores(
                    scores, users, row * dim + edges[g], dim,
                    panels, dim, edges[g], edges[g + 1] - edges[g], ROWS, SWEEP_COLUMNS,
                )  # fmt: skip
                for i in range(ROWS):
                    at = g * num_users + row + i
                    lengths[at] += _take(
                        scores, i * SWEEP_COLUMNS, tile, g * SWEEP_COLUMNS, worst[at], first,
                        kept, kept_items, at * room + lengths[at],
                    )  # fmt: skip
                    if lengths[at] > room - SWEEP_COLUMNS:
                        worst[at], lengths[at] = _shorten(
                            kept, kept_items, at * room, lengths[at], keep, worst[at]
                        )
    for at in range(num_sizes * num_users):
        if lengths[at] > keep + _SPARE:
            worst[at], lengths[at] = _shorten(
                kept, kept_items, at * room, lengths[at], keep, worst[at]
            )


@kernel
def _shorten(kept, kept_items, start, length, keep, worst):
    """Leaves the `keep` best of a list and up to `_SPARE` more, in their order.

    Returns a score that all of them reach, and how many there are. All exceed `worst`, the score
    of the call before (-inf at first).

    The score is found by halving an interval and counting: a selection that moves elements waits
    for its mispredicted branches three times as long.
    """
    vectors = -(-length // LANES)
    kept[start + length : start + vectors * LANES] = -np.inf
    high = _highest(kept, start, vectors)
    low = worst
    if low == -np.inf:
        low = high
        for n in range(length):
            low = min(low, kept[start + n])
    half = np.float32(0.5)
    while True:  # at least `keep` reach low; fewer reach high, or low is high
        middle = low * half + high * half
        if not low < middle < high:
            break
        found = _count_kept(kept, start, vectors, middle)
        if keep <= found <= keep + _SPARE:
            _filter(kept, kept_items, start, vectors, middle)
            return middle, found
        if found > keep:
            low = middle
        else:
            high = middle
    if _count_kept(kept, start, vectors, high) >= keep:
        low = high
    # Equal scores at the border. Items come in ascending order: the first of them are the best.
    equal = keep
    for n in range(length):
        equal -= kept[start + n] > low
    place = start
    for n in range(length):
        score = kept[start + n]
        if score > low or (score == low and equal > 0):
            equal -= score == low
            kept[place], kept_items[place] = score, kept_items[start + n]
            place += 1
    return low, np.int64(keep)


@kernel
def write_keys(levels, numbers, lengths, room, keys):
    """Inverted keys (`rank_order.py`) of the lists of `collect_best`, in no order.

    Inverted, the best is the smallest: numpy, whose sort is ten times as fast as a compiled one,
    sorts upwards.

    Args:
        levels: `[L, room]` int32, the bits of the scores.
        numbers: `[L, room]` int32 items.
        lengths: `[L]`.
        room: places of a list.
        keys: `[L, longest_list(K)]` int64, filled with `~NOTHING`.
    """
    for at in range(len(lengths)):
        for n in range(lengths[at]):
            bits = np.int64(levels[at * room + n])
            if bits == -0x80000000:  # -0 is 0: the same score
                bits = np.int64(0)
            item = np.int64(numbers[at * room + n])
            keys[at, n] = ~compiled_key_of(compiled_turn_bits(bits), item)


def longest_list(keep: int) -> int:
    """How many items `collect_best` leaves at most."""
    return keep + _SPARE


@kernel
def count_levels(keys, rows, levels, ranks):
    """`ranks [M]`: how many keys `[B, K]`, best first, of each row reach its level."""
    for m in range(len(rows)):
        row, found = rows[m], 0
        while found < keys.shape[1] and keys[row, found] >> 32 >= levels[m]:
            found += 1
        ranks[m] = found


@kernel
def count_listed(lists, ks, counts):
    """Adds the items of `lists [B, k]` (-1: none) to `counts [K, N]`, each place once.

    Row c gets the places from `ks[c - 1]` up to `ks[c]`.
    """
    for row in range(len(lists)):
        first = 0
        for column in range(len(ks)):
            for place in range(first, min(ks[column], lists.shape[1])):
                if lists[row, place] >= 0:
                    counts[column, lists[row, place]] += 1
            first = ks[column]


@kernel
def count_draws(draws, place, counts):
    """Adds to `counts [R, P]` how often a row of `draws [R, U]` has users of each `place [U]`."""
    for row in range(len(draws)):
        for n in range(draws.shape[1]):
            counts[row, place[draws[row, n]]] += 1.0
