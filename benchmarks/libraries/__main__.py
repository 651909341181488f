"""Libraries side by side on one data set: lines of code and quality.

python -m benchmarks.libraries --rectools PYTHON --implicit PYTHON --lenskit PYTHON

Each PYTHON is the interpreter of an environment with that library and pandas; a library without
one is left out. Every library gets the same rows, its settings are chosen among
`candidates.py` on the validation part, and its lists are measured by `recsys evaluate-lists`.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.libraries.compare import METRICS, K, Line, Sides, check_interpreter, compare
from benchmarks.measure import machine
from recsys.console import make_console
from recsys.data.dataset import load_dataset
from recsys.recipes.evaluating.results import as_typed
from recsys.reports.results.record import DataName, Figure, Results, Step, write_results

Python = Annotated[Path | None, typer.Option(help="An interpreter that has it.")]


def main(
    data: Annotated[Path, typer.Option(help="A dataset folder with times.")] = Path("data/ml-100k"),
    rectools: Python = None,
    implicit: Python = None,
    lenskit: Python = None,
    keep: Annotated[
        Path | None,
        typer.Option(help="A folder for the figures of each run: a killed comparison goes on."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Of models that draw.")] = "0,1,2",
    results: Annotated[
        Path | None, typer.Option(help="Keep for a page: results/NAME.json.")
    ] = None,
) -> None:
    """Compares; takes some hours of a core, most of them for the two SASRecs."""
    given = {"rectools": rectools, "implicit": implicit, "lenskit": lenskit}
    pythons = {"recsys": Path(sys.executable)} | {k: v for k, v in given.items() if v}
    for library, python in pythons.items():
        check_interpreter(library, python)
    drawn = tuple(int(seed) for seed in seeds.split(","))
    dataset = load_dataset(data)
    commit = machine()["commit"]
    with tempfile.TemporaryDirectory() as folder:
        sides = Sides(dataset, pythons, Path(folder), kept=keep, commit=commit)
        lines = compare(sides, drawn, pythons)
    make_console().print(_table(lines))
    if results is not None:
        told = machine()
        typed = [f"--{library} PYTHON" for library in pythons if library != "recsys"]
        command = as_typed(f"python -m benchmarks.libraries --data {data} {' '.join(typed)}")
        versions = {line.library: line.version for line in lines}
        record = Results(
            steps=(Step(command=f"{command} --seeds {seeds}", commit=told.pop("commit")),),
            data=DataName(name=dataset.manifest.name, content_hash=dataset.manifest.content_hash),
            seeds=drawn,
            machine=versions,
            rows=tuple(figure for line in lines for figure in _figures(line)),
        )
        write_results(results, record)


def _figures(line: Line) -> list[Figure]:
    settings = ", ".join(f"{key.split('.')[-1]}={value}" for key, value in line.settings.items())
    name = f"{line.library} {line.model}" + (f" ({settings})" if settings else "")
    scores = [
        Figure(
            name=name,
            metric=f"{metric}@{K}",
            value=statistics.mean(values),
            low=min(values) if len(values) > 1 else None,
            high=max(values) if len(values) > 1 else None,
        )
        for metric, values in line.test.items()
    ]
    return [
        Figure(name=name, metric="lines", unit="count", value=line.lines),
        *scores,
    ]


def _table(lines: list[Line]) -> Table:
    table = Table("library", "lines", "model", "settings", *(f"{m}@{K}" for m in METRICS))
    for line in lines:
        scores = [f"{statistics.mean(values):.4f}" for values in line.test.values()]
        settings = " ".join(f"{k}={v}" for k, v in line.settings.items())
        table.add_row(
            f"{line.library} {line.version}",
            str(line.lines),
            line.model,
            settings,
            *scores,
        )
    return table


if __name__ == "__main__":
    typer.run(main)
