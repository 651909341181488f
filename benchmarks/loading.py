"""Memory of loading an epoch of batches, mapped and in memory.

50,000 users whose histories get longer, with times; an epoch reads every interaction. Each figure
is of a process of its own.

python -m benchmarks.loading write NUM_ROWS FOLDER   writes the data set
python -m benchmarks.loading mapped|memory FOLDER    prints MiB before loading, and the seconds
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.measure import Row, own_peak_mib, peak_mib_of
from recsys.data.batching import BatchingConfig, TrainBatches
from recsys.data.dataset import DatasetOrigin, load_dataset, write_indexed
from recsys.data.splitting import make_split

NUM_USERS, NUM_ITEMS = 50_000, 100_000


def measure(millions: tuple[int, ...]) -> dict[str, list[Row]]:
    """One row per size and way; `grown MiB` is what loading added to the imports."""
    rows = []
    for size in (10**6 * million for million in millions):
        with tempfile.TemporaryDirectory() as folder:
            peak_mib_of("benchmarks.loading", "write", str(size), folder)
            for name, way in (
                ("mapped, columns made", "mapped"),
                ("mapped", "mapped"),
                ("in memory", "memory"),
            ):
                peak, printed = peak_mib_of("benchmarks.loading", way, folder)
                before, opened, epoch = (float(value) for value in printed.split()[-3:])
                rows.append(
                    {
                        "rows": size,
                        "histories": name,
                        "peak MiB": peak,
                        "grown MiB": peak - before,
                        "s to open": opened,
                        "s / epoch": epoch,
                    }
                )
    return {f"loading batches, {NUM_USERS:,} users": rows}


def write(num_rows: int, folder: Path) -> None:
    """Random items, all histories of one length."""
    users = np.repeat(np.arange(NUM_USERS, dtype=np.int32), num_rows // NUM_USERS)
    items = np.random.default_rng(0).integers(0, NUM_ITEMS, len(users), dtype=np.int32)
    write_indexed(
        folder / "data",
        pl.DataFrame(
            {"user_index": users, "item_index": items, "timestamp": np.arange(len(users))}
        ),
        user_ids=pl.Series(range(NUM_USERS)),
        item_ids=pl.Series(range(NUM_ITEMS)),
        name="random",
        origin=DatasetOrigin(source="made up", licence="none", tie_rule="none"),
    )


def load(folder: Path, *, mapped: bool) -> None:
    """Iterates an epoch; prints MiB before, seconds to open, and seconds of the epoch."""
    before, started = own_peak_mib(), time.perf_counter()
    data = load_dataset(folder / "data", mapped=mapped)
    batches = TrainBatches(
        BatchingConfig(), data, make_split(data), fit_on="train", history_length=10**6, seed=0
    )
    opened = time.perf_counter()
    for index in range(batches.num_batches(0)):
        batches.batch(0, index)
    print(before, opened - started, time.perf_counter() - opened)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        load(Path(sys.argv[2]), mapped=sys.argv[1] == "mapped")
