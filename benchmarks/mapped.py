"""Time and memory of training steps on a mapped table, by size.

SASRec of 64 coordinates, 512 uniform negatives, new random batches in every step. Their rows are
as popular as Zipf's law has it, or uniformly random, which no data is and which is the worst case
for a file: no page is warm because others looked at it. A table of N rows takes 256 N bytes of
disk, its moments twice as many with adamw, 4 N with adagrad. It needs room for that in /var/tmp;
what lies in memory beyond `resident_mib` is the page cache's, which the system takes back when
memory is short.

python -m benchmarks.mapped NUM_ROWS OPTIMIZER ROWS     prints MiB before, milliseconds of a step
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time

import numpy as np
import torch

from benchmarks.measure import Row, own_peak_mib, peak_mib_of
from benchmarks.steps import granularities, random_batch
from recsys.losses.softmax import Negatives
from recsys.models import SASRec, SASRecConfig
from recsys.tables import MappedConfig
from recsys.training.optimizers import OptimizerConfig, build_optimizer, clip_gradients

SIZES = (8, 16, 32, 64)
RESIDENT = 512
_WARM, _TIMED = 20, 60


def measure(millions: tuple[int, ...]) -> dict[str, list[Row]]:
    """One row per optimizer, popularity and size; `ratio`: step time over that of the smallest.

    `table` is what the files take; `memory` what a step may take: `resident_mib`, twice as much
    while it is exceeded, and the rest of the model.
    """
    rows: list[Row] = []
    copies_of = {"adagrad": 1 + 1 / 64, "adamw": 3.0}
    for optimizer, popular in itertools.product(copies_of, ("zipf", "uniform")):
        first, copies = None, copies_of[optimizer]
        for num_rows in (10**6 * million for million in millions):
            peak, printed = peak_mib_of("benchmarks.mapped", str(num_rows), optimizer, popular)
            before, step = (float(value) for value in printed.split()[-2:])
            first = first or step
            rows.append(
                {
                    "rows": num_rows,
                    "optimizer": optimizer,
                    "popularity": popular,
                    "ms / step": step,
                    "ratio": step / first,
                    "grown MiB": peak - before,
                    "table MiB": copies * 256 * num_rows / 2**20,
                }
            )
    return {f"training step on a mapped table, d64, {RESIDENT} MiB resident": rows}


def main(num_rows: int, optimizer: str, *, skewed: bool) -> None:
    """Prints MiB of the imports, and the median step in milliseconds."""
    torch.manual_seed(0)
    before = own_peak_mib()
    table = MappedConfig.model_validate({"optimizer": optimizer, "resident_mib": RESIDENT})
    config = SASRecConfig(granularities=granularities(SIZES), table=table)
    model = SASRec(config, num_rows)
    update = build_optimizer(model, OptimizerConfig())
    rng = np.random.default_rng(0)
    times = []
    for number in range(_WARM + _TIMED):
        batch = random_batch(num_rows, seed=number, skewed=skewed)
        chosen = np.unique(rng.integers(0, num_rows, 512))
        sample = Negatives(torch.from_numpy(chosen), torch.zeros(len(chosen)))
        started = time.perf_counter()
        update.zero_grad(set_to_none=True)
        model.loss(batch, sample).total.backward()
        clip_gradients(model.parameters(), 1.0)
        update.step()
        times.append(time.perf_counter() - started)
    print(before, 1e3 * statistics.median(times[_WARM:]))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], skewed=sys.argv[3] == "zipf")
