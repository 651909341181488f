"""A results file out of a measured benchmark: every way's fastest search at a recall.

python -m benchmarks.retrieval --run runs/synthetic_1m --out runs/first_stages.json
python -m benchmarks.retrieval.digest runs/first_stages.json results/first_stages_trained.json
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.measure import Row
from recsys.recipes.evaluating.results import as_typed
from recsys.reports.results.record import Figure, Results, Step, Unit, write_results

_FIGURES: dict[str, tuple[str, Unit]] = {
    "recall@10": ("recall@10", "score"),
    "queries/s": ("queries/s", "per second"),
    "ms": ("one user, ms", "ms"),
    "resident bytes": ("bytes an item in memory", "bytes"),
    "mapped bytes": ("mapped", "bytes"),
    "times": ("times the fastest rival", "times"),
}
_LATENCY: dict[str, tuple[str, Unit]] = {
    f"{state} {part}, ms": (f"{state} cache, {part}, ms", "ms")
    for state in ("warm", "cold")
    for part in ("p50", "p99")
}
_PLACED = ("cpu", "threads", "capability")


def digest(measured: dict[str, Any], target: float) -> Results:
    """The fastest search of each way that finds `target` of exact search, a batch at a time; and,
    where latencies were measured, those of the fastest for one user.
    """
    machine = measured["machine"]
    chosen = measured["chosen"]
    asked = {_place(row) for row in chosen[f"one user at {target}"]}
    alone = {_place(row): row for row in measured["latency"]}.values()
    told = {key: str(machine[key]) for key in _PLACED} | measured["versions"]
    return Results(
        steps=(Step(command=as_typed(measured["command"]), commit=machine["commit"]),),
        seeds=(),
        machine=told,
        rows=(
            *(f for row in chosen[f"batch at {target}"] for f in _figures(row, _FIGURES)),
            *(f for row in alone if _place(row) in asked for f in _figures(row, _LATENCY)),
        ),
    )


def _place(row: Row) -> tuple[str, str]:
    return row["way"], json.dumps(row["point"], sort_keys=True)


def _figures(row: Row, wanted: dict[str, tuple[str, Unit]]) -> Iterator[Figure]:
    settings = ", ".join(f"{key} {value}" for key, value in row["point"].items())
    name = f"{row['title']}, {settings}" + ", one user" * (wanted is _LATENCY)
    for key, (metric, unit) in wanted.items():
        if row.get(key) is not None:
            yield Figure(name=name, metric=metric, unit=unit, value=row[key])


def main(
    measured: Annotated[Path, typer.Argument(help="JSON, as `--out` of the benchmark leaves it.")],
    results: Annotated[Path, typer.Argument(help="results/NAME.json.")],
    target: Annotated[float, typer.Option(help="Recall: 0.9, 0.95 or 0.99.")] = 0.99,
) -> None:
    """Writes the results file."""
    write_results(results, digest(json.loads(measured.read_text("utf-8")), target))


if __name__ == "__main__":
    typer.run(main)
