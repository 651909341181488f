"""Step time and peak memory by size of the catalogue.

python -m benchmarks.catalogue NUM_ITEMS GRANULARITIES [full]   prints milliseconds of one step

With 512 negatives touched rows alone are updated, so the gradient is small; with the full softmax
(`full`) every row has one.
"""

from __future__ import annotations

import statistics
import sys
import time

from benchmarks.measure import Row, peak_mib_of
from benchmarks.steps import SIX, stepper


def measure(sizes: tuple[int, ...]) -> dict[str, list[Row]]:
    """One row per catalogue and number of granularities.

    `table` is the arithmetic: weights, two Adam moments, and the gradient where all rows have one.
    """
    return {
        "training step by catalogue, 512 negatives, touched rows alone": _rows(sizes, 3),
        "training step by catalogue, full softmax": _rows(sizes, 4, "full"),
    }


def _rows(sizes: tuple[int, ...], copies: int, *kind: str) -> list[Row]:
    rows: list[Row] = []
    for num_items in sizes:
        for number in (1, 6):
            peak, printed = peak_mib_of("benchmarks.catalogue", str(num_items), str(number), *kind)
            table = num_items * 256 * 4 * copies / 2**20
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
    return rows


def main(num_items: int, number: int, *, full: bool) -> None:
    """Prints the median step time in milliseconds."""
    sizes = SIX if number == 6 else (256,)
    step = stepper(sizes, None if full else 512, num_items, sparse=not full)
    times = []
    for _ in range(4 if full else 7):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    print(1e3 * statistics.median(times[2:]))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), full="full" in sys.argv[3:])
