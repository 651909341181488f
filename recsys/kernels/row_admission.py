"""Admission and expiry of the rows of a dynamic table.

Every id that was seen has an entry: id, count, when it was last seen, and its row (-1: none yet).
Entries and rows are of fixed number, whatever the stream:

- an id whose count reaches the minimum takes a free row; while there is none, it goes on waiting;
- an entry not seen for longer than the time to live is dropped, and its row is free again;
- when no entry is free for a new id, the ids that wait and were not seen for longest make room; if
  all have rows, the new id is not noted (it shares the common row, as all without a row do).

No two ids ever have one row. Liu et al., Monolith: Real Time Recommendation System With
Collisionless Embedding Table, 2022, section 2.

Shape legend: E entries at most, P rows, M = places of the map (see `id_map.py`), B events.
"""

import numpy as np

from recsys.kernels.compiling import kernel
from recsys.kernels.id_map import EMPTY, delete, find

FREE_ROWS, FREE_ENTRIES, ADMITTED, EXPIRED, DROPPED, REFUSED = range(6)
"""Places in `totals [6]` int64: rows and entries that are free now; ids that were ever admitted,
expired with their row, dropped while waiting, and events whose id could not be noted."""


@kernel
def observe(
    keys, slots, ids, counts, seen, rows, free_rows, free_entries, totals, events, now,
    min_count, time_to_live, fresh,
):  # fmt: skip
    """Counts events, and admits.

    Args:
        keys, slots: the map from ids to entries.
        ids, counts, seen, rows: `[E]` int64, int32, int64, int32.
        free_rows: `[P]` int32, a stack; free_entries: `[E]` int32, another.
        totals: `[6]` int64.
        events: `[B]` int64 ids.
        now: int64, not less than before.
        min_count: events until an id is admitted.
        time_to_live: entries not seen for longer go; negative: never.
        fresh: `[B]` int32, to be filled with the rows that were given out.

    Returns:
        How many rows were given out.
    """
    given = 0
    for i in range(len(events)):
        place = find(keys, events[i])
        if keys[place] == EMPTY:
            if totals[FREE_ENTRIES] == 0:
                _make_room(
                    keys, slots, ids, counts, seen, rows, free_rows, free_entries, totals, now,
                    time_to_live,
                )  # fmt: skip
                if totals[FREE_ENTRIES] == 0:
                    totals[REFUSED] += 1
                    continue
                place = find(keys, events[i])
            totals[FREE_ENTRIES] -= 1
            entry = free_entries[totals[FREE_ENTRIES]]
            keys[place], slots[place] = events[i], entry
            ids[entry], counts[entry], rows[entry] = events[i], 0, -1
        entry = slots[place]
        seen[entry] = now
        counts[entry] = min(counts[entry] + 1, 2**31 - 2)
        if rows[entry] < 0 and counts[entry] >= min_count and totals[FREE_ROWS]:
            totals[FREE_ROWS] -= 1
            rows[entry] = free_rows[totals[FREE_ROWS]]
            fresh[given] = rows[entry]
            given += 1
            totals[ADMITTED] += 1
    return given


@kernel
def expire(
    keys, slots, ids, counts, seen, rows, free_rows, free_entries, totals, before, waiting_only
):
    """Drops entries last seen before a time; returns how many.

    `waiting_only`: those that have no row.
    """
    dropped = 0
    for entry in range(len(ids)):
        if counts[entry] == 0 or seen[entry] >= before or (waiting_only and rows[entry] >= 0):
            continue
        if rows[entry] >= 0:
            free_rows[totals[FREE_ROWS]] = rows[entry]
            totals[FREE_ROWS] += 1
            totals[EXPIRED] += 1
        else:
            totals[DROPPED] += 1
        delete(keys, slots, find(keys, ids[entry]))
        counts[entry], rows[entry] = 0, -1
        free_entries[totals[FREE_ENTRIES]] = entry
        totals[FREE_ENTRIES] += 1
        dropped += 1
    return dropped


@kernel
def _make_room(
    keys, slots, ids, counts, seen, rows, free_rows, free_entries, totals, now, time_to_live
):
    """Drops what has expired, or else the half of the waiting ids that was seen longest ago."""
    if time_to_live >= 0 and expire(
        keys, slots, ids, counts, seen, rows, free_rows, free_entries, totals,
        now - time_to_live, False,
    ):  # fmt: skip
        return
    waiting = seen[rows < 0]
    if len(waiting):
        middle = np.int64(np.median(waiting)) + 1
        expire(keys, slots, ids, counts, seen, rows, free_rows, free_entries, totals, middle, True)
