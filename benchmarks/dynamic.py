"""Time and memory of a dynamic table under a stream of changing ids.

Ids are drawn from a window that wanders over all of them, some far more often than others, so that
old ids end and new ones begin. Batches of 4,096 events: `observe`, a lookup, an update of the rows,
expiry now and then; every row is checked to belong to one id, or to be free.

python -m benchmarks.dynamic EVENTS IDS ROWS      prints one line of figures
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from benchmarks.measure import Row, own_peak_mib, peak_mib_of
from recsys.kernels.row_admission import ADMITTED, DROPPED, EXPIRED, FREE_ROWS, REFUSED
from recsys.tables import DynamicConfig, DynamicTable, UpdateRule
from recsys.tables.dynamic import COMMON

BATCH, DIM = 4_096, 32


def measure(millions: tuple[int, ...], millions_of_ids: float = 2.0) -> dict[str, list[Row]]:
    """One row per length of the stream; the table stays the same, and so must memory."""
    rows: list[Row] = []
    num_ids, num_rows = int(millions_of_ids * 10**6), int(millions_of_ids * 2.5 * 10**5)
    for events in (10**6 * million for million in millions):
        peak, printed = peak_mib_of("benchmarks.dynamic", str(events), str(num_ids), str(num_rows))
        before, seconds, table, *totals = (float(value) for value in printed.split())
        seen, admitted, expired, waiting, refused, held = (int(value) for value in totals)
        rows.append(
            {
                "events": events,
                "ids seen": seen,
                "rows": num_rows,
                "held": held,
                "admitted": admitted,
                "expired": expired,
                "dropped waiting": waiting,
                "not noted": refused,
                "us / 1,000 events": 1e9 * seconds / events,
                "grown MiB": peak - before,
                "table MiB": table,
            }
        )
    return {f"a stream of ids through a dynamic table, d{DIM}": rows}


def main(num_events: int, num_ids: int, num_rows: int) -> None:
    """Prints MiB before, seconds, MiB of table and moments, ids seen, totals and rows held."""
    torch.manual_seed(0)
    before = own_peak_mib()
    config = DynamicConfig(
        rows=num_rows, entries=4 * num_rows, min_count=2, time_to_live=300, expire_every=25
    )
    table = DynamicTable(config, num_ids, DIM, init_std=0.02)
    rng = np.random.default_rng(0)
    window, seen = num_ids // 4, np.zeros(num_ids, np.bool_)
    seconds = 0.0
    for number, start in enumerate(range(0, num_events, BATCH)):
        place = int((num_ids - window) * start / num_events)
        spread = window * rng.random(BATCH) ** 3  # many events of few ids
        ids = place + spread.astype(np.int64)
        ids = (ids * 2_654_435_761) % num_ids  # ids that are neighbours are not alike
        seen[ids] = True
        events = torch.from_numpy(ids)
        started = time.perf_counter()
        table.observe(events)
        table(events).square().sum().backward()
        table.update_rows(UpdateRule(1e-3))
        seconds += time.perf_counter() - started
        if number % 100 == 0:
            check(table, num_ids)
    check(table, num_ids)
    totals = table.get_buffer("totals")
    size = table.nbytes + sum(slot.nbytes for slot in table.optimizer_slots().values())
    counts = [int(totals[which]) for which in (ADMITTED, EXPIRED, DROPPED, REFUSED)]
    held = num_rows - int(totals[FREE_ROWS])
    print(before, seconds, size / 2**20, int(seen.sum()), *counts, held)


def check(table: DynamicTable, num_ids: int) -> None:
    """Every row that is not free belongs to one id, and to no other."""
    rows = table.rows_of(torch.arange(num_ids))
    own = rows[rows != COMMON]
    free = table.get_buffer("free_rows")[: int(table.get_buffer("totals")[FREE_ROWS])].long()
    everything = torch.cat([own, free]).sort().values
    assert torch.equal(everything, torch.arange(1, len(table.weight)))


if __name__ == "__main__":
    main(*(int(value) for value in sys.argv[1:4]))
