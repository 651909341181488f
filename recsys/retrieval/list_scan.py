"""Inverted lists, compiled: packing them, choosing those to visit, scanning them list by list.

A list is read once for all users of a batch that visit it: with many users that is a product of
matrices out of the cache, where a search user by user waits for memory.

Shape legend: N items, L lists, B users, P lists a user visits, C items of a block (16), d
coordinates in S steps of K.
"""

from __future__ import annotations

import numpy as np

from recsys.compiling import kernel
from recsys.retrieval.amx import configure, release
from recsys.retrieval.gather import fetch
from recsys.retrieval.list_tiles import above, copy_line, lowest, multiply
from recsys.retrieval.listing import forbidden, largest, shrink

_AHEAD = 1 << 14  # bytes: of what is scanned, so far behind it is asked for
_BUCKETS = 256


@kernel
def pack(codes, places, depth, packed):
    """Puts int8 `codes [n, S * K]` at their `places [n]` of `packed [blocks, S, K / 4, 16, 4]`."""
    pieces = codes.shape[1] // 4
    for row in range(len(codes)):
        block, lane = places[row] // 16, places[row] % 16
        for piece in range(pieces):
            step, part = piece * 4 // depth, piece % (depth // 4)
            for c in range(4):
                packed[block, step, part, lane, c] = codes[row, 4 * piece + c]


@kernel
def choose(rows, scores, first, chosen):
    """The best P lists of the users `rows[0] .. rows[1] - 1`, the best `first` of them in front.

    `scores [B, L]`, `chosen [B, P]` int32. Scores are counted into buckets, and only those of the
    last bucket compared: a selection by pivots takes five times as long.
    """
    num_lists, wanted = scores.shape[1], chosen.shape[1]
    counts, rest = np.empty(_BUCKETS, np.int64), np.empty(num_lists, np.float32)
    buckets = np.empty(num_lists, np.int64)
    for row in range(rows[0], rows[1]):
        own, listed = scores[row], chosen[row]
        best, worst = own.max(), own.min()
        scale = np.float32(_BUCKETS - 1) / max(best - worst, np.float32(1e-30))
        counts[:] = 0
        for place in range(num_lists):
            buckets[place] = np.int64((best - own[place]) * scale)
            counts[buckets[place]] += 1
        last, room = 0, wanted
        while counts[last] < room:
            room -= counts[last]
            last += 1
        others = 0
        for place in range(num_lists):
            if buckets[place] == last:
                rest[others] = own[place]
                others += 1
        edge, equals = largest(rest[:others], room - 1), room
        for place in range(others):
            equals -= rest[place] > edge
        count = 0
        for place in range(num_lists):
            if buckets[place] > last:
                continue
            if buckets[place] == last:
                if own[place] < edge or (own[place] == edge and equals == 0):
                    continue
                equals -= own[place] == edge
            listed[count] = place
            count += 1
        for front in range(min(first, wanted - 1)):
            found = front
            for place in range(front + 1, wanted):
                if own[listed[place]] > own[listed[found]]:
                    found = place
            listed[front], listed[found] = listed[found], listed[front]


@kernel
def by_list(chosen, offsets, users):
    """Who visits each list: `users[offsets[l]:offsets[l + 1]]`, of `chosen [B, P]`."""
    offsets[:] = 0
    for row in range(chosen.shape[0]):
        for place in range(chosen.shape[1]):
            offsets[chosen[row, place] + 1] += 1
    for number in range(1, len(offsets)):
        offsets[number] += offsets[number - 1]
    edges = offsets[:-1].copy()
    for row in range(chosen.shape[0]):
        for place in range(chosen.shape[1]):
            number = chosen[row, place]
            users[edges[number]] = row
            edges[number] += 1


@kernel
def scan_lists(
    lists, starts, sizes, edges, visitors, users, shape, config, codes, factors, ids,
    hidden, seen, offsets, keep, scores, items, counts, floors,
):  # fmt: skip
    """Lets the items of the lists `lists[0] .. lists[1] - 1` enter their visitors' lists.

    Args:
        lists: from, to.
        starts: `[L]` the first block of each list.
        sizes: `[L]` items of each.
        edges: `[L + 1]`: who visits list l is `visitors[edges[l]:edges[l + 1]]`.
        visitors: rows of the batch.
        users: flat int8 `[B, S, 64]`.
        shape: S, K.
        config: as `configurations` gives it; None: without tiles, which finds the same.
        codes: flat int8, as `pack` leaves it, 3 blocks longer.
        factors: `[16 * blocks]` float32: of each item, what its sum is multiplied by.
        ids: `[16 * blocks]` int32: which item it is.
        hidden: as for `kernel.scan_codes`, and so are all that follow.
        seen: likewise.
        offsets: likewise.
        keep: likewise.
        scores: likewise.
        items: likewise.
        counts: likewise.
        floors: likewise.
    """
    steps, depth = shape
    block, filtered = steps * depth * 16, len(hidden) > 0 or len(seen) > 0
    tile, sums = np.zeros(steps * 16 * 64, np.int8), np.empty(4 * 256, np.int32)
    for number in range(lists[0], lists[1]):
        for first in range(edges[number], edges[number + 1], 16):
            group = min(16, edges[number + 1] - first)
            for user in range(group):
                for step in range(steps):
                    start = (visitors[first + user] * steps + step) * 64
                    copy_line(users, start, tile, (step * 16 + user) * 64)
            if config is not None:
                configure(config, 64 * group)
            for item in range(0, sizes[number], 64):
                place, at = (starts[number] + item // 16) * block, starts[number] * 16 + item
                if config is not None:
                    if first == edges[number]:
                        ahead = min(place + _AHEAD, len(codes) - 4 * block)
                        for line in range(ahead, ahead + 4 * block, 64):
                            fetch(codes, line)
                    multiply(codes, place, block, steps, depth, tile, sums)
                else:
                    _multiply_plain(codes, place, block, steps, depth, tile, group, sums)
                left = sizes[number] - item
                valid = np.int64(-1) if left >= 64 else (np.int64(1) << left) - 1
                # Written out: a call would count references to a dozen arrays, atomically.
                for user in range(group):
                    row = visitors[first + user]
                    hits = above(sums, user, factors, at, floors[row]) & valid
                    while hits:
                        lane = lowest(hits)
                        hits &= hits - 1
                        score = np.float32(sums[lane // 16 * 256 + user * 16 + lane % 16])
                        score *= factors[at + lane]
                        found = ids[at + lane]
                        if score <= floors[row] or (
                            filtered and forbidden(row, found, hidden, seen, offsets)
                        ):
                            continue
                        count = counts[row]
                        scores[row, count], items[row, count] = score, found
                        counts[row] = count + 1
                        if count + 1 == scores.shape[1]:
                            floors[row] = shrink(scores[row], items[row], count + 1, keep)
                            counts[row] = keep
    if config is not None:
        release()


@kernel
def _multiply_plain(codes, place, block, steps, depth, tile, group, sums):
    """As `list_tiles.multiply`, of the first `group` users."""
    sums[:] = 0
    for part in range(4):
        for user in range(group):
            own = sums[256 * part + 16 * user :][:16]
            for piece in range(steps * depth // 4):
                step, coordinate = 4 * piece // depth, 4 * piece % depth
                codes_of = codes[place + part * block + 64 * piece :][:64]
                factors = tile[(step * 16 + user) * 64 + coordinate :][:4]
                for lane in range(16):
                    for c in range(4):
                        own[lane] += np.int32(codes_of[4 * lane + c]) * factors[c]
