"""Step time and peak memory as the catalogue grows, 512 negatives; each size in its own process.

python -m benchmarks.catalogue NUM_ITEMS GRANULARITIES   prints milliseconds of one step
"""

from __future__ import annotations

import statistics
import sys
import time

from benchmarks.measure import Row, peak_mib_of
from benchmarks.steps import SIX, stepper


def measure(sizes: tuple[int, ...]) -> dict[str, list[Row]]:
    """One row per catalogue; `table` is the arithmetic: weights and two Adam moments."""
    rows = []
    for num_items in sizes:
        for number in (1, 6):
            peak, printed = peak_mib_of("benchmarks.catalogue", str(num_items), str(number))
            table = num_items * 256 * 4 * 3 / 2**20
            rows.append(
                {
                    "items": num_items,
                    "granularities": number,
                    "ms": float(printed.splitlines()[-1]),
                    "peak MiB": peak,
                    "table MiB": table,
                    "rest MiB": peak - table,
                }
            )
    return {"training step by catalogue, 512 negatives, touched rows alone": rows}


def main(num_items: int, number: int) -> None:
    """Prints the median step time in milliseconds."""
    step = stepper(SIX if number == 6 else (256,), 512, num_items, sparse=True)
    times = []
    for _ in range(7):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    print(1e3 * statistics.median(times[2:]))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
