"""Speed and peak memory of `prepare`, by size.

python -m benchmarks.preparing NUM_ROWS FOLDER   prints the seconds
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Row, peak_mib_of
from data_prep import PrepareOptions, SyntheticOptions, prepare


def measure(millions: tuple[int, ...]) -> dict[str, list[Row]]:
    """One row per size, in millions of rows."""
    rows = []
    for size in (10**6 * million for million in millions):
        with tempfile.TemporaryDirectory() as folder:
            peak, printed = peak_mib_of("benchmarks.preparing", str(size), folder)
        seconds = float(printed.splitlines()[-1])
        rows.append({"rows": size, "seconds": seconds, "rows/s": size / seconds, "peak MiB": peak})
    return {"prepare synthetic": rows}


def main(num_rows: int, folder: Path) -> None:
    """Prints the seconds `prepare` took."""
    sizes = SyntheticOptions(
        num_users=num_rows // 20, num_items=50_000, num_interactions=num_rows, num_clusters=100
    )
    started = time.perf_counter()
    prepare("synthetic", PrepareOptions(synthetic=sizes), out=folder / "data")
    print(time.perf_counter() - started)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
