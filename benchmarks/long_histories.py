"""Histories of thousands: time and memory of a training step, and of users' vectors, by length.

    python -m benchmarks.long_histories [--lengths 200,1000,4000] [--rounds 5] [--out FILE]
        [--results results/long_histories.json]
    python -m benchmarks.long_histories --lengths 30,60 --rounds 1        # a minute's trial

Each row is a process of its own: one user a batch, 64 coordinates, two layers of one head, sampled
softmax. `at once` holds the scores of all queries, `blocks` those of one block at a time
(`recsys/layers/timed/query_blocks.py`). Memory is what the process takes beyond what it had when
the model was built.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table

from benchmarks.measure import Row, in_turns, machine, own_peak_mib
from benchmarks.serving.keeping import check_results, keep
from recsys.console import make_console
from recsys.data.batching import Batch
from recsys.data.histories import Histories
from recsys.errors import ConfigError
from recsys.files.atomic import write_json
from recsys.layers.timed import query_blocks
from recsys.losses.softmax import Negatives
from recsys.models import MODELS, Model
from recsys.progress import progress
from recsys.reports.results.record import Figure, Unit

KINDS = ("sasrec", "hstu", "fuxi")
WAYS = ("at once", "blocks")
NUM_ITEMS, NEGATIVES, DIM = 10_000, 256, 64


def build(kind: str, length: int) -> Model:
    """A model that reads the time of requests."""
    torch.manual_seed(0)
    owner: Any = MODELS.find(kind)
    config = owner.Config.model_validate(
        {
            "granularities": {"sizes": [16, DIM]},
            "encoder": {"num_layers": 2},
            "history_length": length,
            "time": "request",
        }
    )
    built: Model = owner(config, NUM_ITEMS)
    return built


def batch_of(length: int) -> Batch:
    """One user, who takes something every hour or so."""
    rng = np.random.default_rng(0)
    times = rng.integers(1, 7_200, length + 1).cumsum()
    items = rng.integers(0, NUM_ITEMS, length + 1)
    offsets = np.array([0, length])
    read = items[:-1].astype(np.int32)
    histories = Histories(np.zeros(1, np.int64), read, offsets, times[:-1], times[-1:])
    return Batch(histories, items[1:])


def measure(kind: str, way: str, length: int, rounds: int) -> Row:
    """Milliseconds and MiB of one model at one length, in this process."""
    if way == "at once":
        query_blocks.SCORES = 1 << 62
    model, batch = build(kind, length), batch_of(length)
    chosen = torch.from_numpy(np.random.default_rng(1).choice(NUM_ITEMS, NEGATIVES, replace=False))
    negatives = Negatives(chosen, torch.zeros(NEGATIVES))

    def step() -> None:
        model.train().zero_grad(set_to_none=True)
        model.loss(batch, negatives).total.backward()

    def serve() -> None:
        with torch.inference_mode():
            model.eval().user_vectors(batch.histories)

    before = own_peak_mib()
    times = in_turns({"step": step, "serve": serve}, rounds)
    medians = {f"{name}_ms": 1e3 * float(np.median(values)) for name, values in times.items()}
    grown = own_peak_mib() - before
    return {"model": kind, "scores": way, "length": length, **medians, "mib": grown}


def measured_apart(kind: str, way: str, length: int, rounds: int) -> Row:
    """`measure` in a process of its own, whose memory nothing else has touched."""
    words = [sys.executable, "-m", "benchmarks.long_histories", "--one", kind, "--way", way]
    words += ["--lengths", str(length), "--rounds", str(rounds)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found: Row = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main(
    lengths: Annotated[str, typer.Option(help="Interactions of a history.")] = "200,1000,4000",
    rounds: Annotated[int, typer.Option(help="Steps that are timed.")] = 5,
    out: Annotated[Path | None, typer.Option(help="JSON file.")] = None,
    results: Annotated[Path | None, typer.Option(help="results/NAME.json.")] = None,
    one: Annotated[str | None, typer.Option(hidden=True)] = None,
    way: Annotated[str, typer.Option(hidden=True)] = "blocks",
) -> None:
    """Measures every model, at once and in blocks."""
    wanted = [int(length) for length in lengths.split(",")]
    if min(wanted) < 2 or rounds < 1:
        raise ConfigError(f"lengths {lengths} and rounds {rounds} are too small: 2 and 1 at least")
    if one is not None:
        print(json.dumps(measure(one, way, wanted[0], rounds)))
        return
    check_results(results, "benchmarks.long_histories")
    cases = [(kind, each, length) for length in wanted for kind in KINDS for each in WAYS]
    rows = []
    with progress() as bar:
        task = bar.add_task("long histories", total=len(cases))
        for kind, each, length in cases:
            rows.append(measured_apart(kind, each, length, rounds))
            bar.advance(task)
    table = Table("model", "scores", "length", "step, ms", "users, ms", "MiB")
    for row in rows:
        numbers = (f"{row[name]:,.1f}" for name in ("step_ms", "serve_ms", "mib"))
        table.add_row(row["model"], row["scores"], f"{row['length']:,}", *numbers)
    make_console().print(table)
    if out is not None:
        write_json(out, {"machine": machine(), "rows": rows})
    if results is not None:
        keep(results, "benchmarks.long_histories", figures_of(rows))


def figures_of(rows: list[Row]) -> Iterator[Figure]:
    """What is kept."""
    metrics: tuple[tuple[str, str, Unit], ...] = (
        ("step_ms", "training step", "ms"),
        ("serve_ms", "user vector", "ms"),
        ("mib", "MiB", "count"),
    )
    for row in rows:
        name = f"{row['model']}, {row['scores']}, {row['length']:,} interactions"
        for key, metric, unit in metrics:
            yield Figure(name=name, metric=metric, unit=unit, value=row[key])


if __name__ == "__main__":
    typer.run(main)
