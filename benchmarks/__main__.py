"""`make bench`: all measurements as tables and one JSON file.

python -m benchmarks [NAME ...] [--quick] [--out FILE]
python -m benchmarks rectools --rectools PYTHON [--data DATA] [--epochs E]
python -m benchmarks device [--device NAME] [--tiny] [--rectools PYTHON]

PYTHON is the interpreter of an environment with `rectools[torch]`; without one, `rectools` is
left out of `make bench`. `device` is asked for by name alone (benchmarks/device).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import (
    catalogue,
    cutting,
    dynamic,
    evaluation,
    loading,
    mapped,
    preparing,
    rectools,
    sharding,
    steps,
)
from benchmarks.device import __main__ as device
from benchmarks.measure import Row, machine
from benchmarks.results_file import keep_benchmarks
from benchmarks.tables import as_table
from recsys.console import make_console
from recsys.errors import InstallationError
from recsys.files.atomic import write_json

NAMES = (
    *("steps", "evaluation", "cutting", "catalogue", "preparing", "loading"),
    *("sharding", "mapped", "dynamic", "rectools"),
)


def run(
    names: Annotated[list[str] | None, typer.Argument(help=", ".join(NAMES))] = None,
    quick: Annotated[bool, typer.Option(help="Fewer rounds and sizes.")] = False,
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("runs/bench.json"),
    results: Annotated[
        Path | None, typer.Option(help="Keep for a page: results/NAME.json.")
    ] = None,
    rectools_python: Annotated[
        Path | None, typer.Option("--rectools", help="Interpreter that has rectools[torch].")
    ] = None,
    data: Annotated[Path, typer.Option(help="Of rectools: a dataset folder.")] = Path(
        "data/beauty"
    ),
    epochs: Annotated[int, typer.Option(min=1, help="Of rectools.")] = 1,
    rectools_steps: Annotated[
        int | None, typer.Option(min=1, help="RecTools trains no longer: evaluation alone.")
    ] = None,
) -> None:
    """Measures on this machine; nothing else should run meanwhile."""
    rounds = 3 if quick else 9
    measures = {
        "steps": lambda: steps.measure(rounds),
        "evaluation": lambda: evaluation.measure(2 if quick else 5),
        "cutting": lambda: cutting.measure(rounds),
        "catalogue": lambda: catalogue.measure((10_000, 100_000, 1_000_000)[: 3 - quick]),
        "preparing": lambda: preparing.measure((1, 10, 50)[: 1 if quick else 3]),
        "loading": lambda: loading.measure((1, 5, 20)[: 1 if quick else 3]),
        "sharding": lambda: sharding.measure(
            (1_000_000, 5_000_000, 20_000_000)[: 3 - quick], rounds
        ),
        "mapped": lambda: mapped.measure((1,) if quick else (1, 20)),
        "dynamic": lambda: dynamic.measure((1,) if quick else (2, 10)),
    }
    if rectools_python is not None:
        try:
            rectools.check_interpreter(rectools_python)
        except InstallationError as error:
            raise typer.BadParameter(str(error)) from error
        compared = rectools.Settings(
            python=rectools_python,
            data=data,
            epochs=epochs,
            steps=rectools_steps,
            num_users=2_000 if quick else None,
            rounds=1 if quick else 3,
        )
        measures["rectools"] = lambda: rectools.measure(compared)
    elif names and "rectools" in names:
        raise typer.BadParameter(f"rectools needs --rectools PYTHON; {rectools.HOW_TO}")
    if unknown := [name for name in names or [] if name not in measures]:
        raise typer.BadParameter(f"{unknown[0]!r} is not among {NAMES}")
    console = make_console()
    tables: dict[str, list[Row]] = {}
    console.print(machine())
    for name in names or measures:
        found = measures[name]()
        tables |= found
        for title, rows in found.items():
            console.print(as_table(title, rows))
    write_json(out, {"machine": machine(), "tables": tables})
    if results:
        keep_benchmarks(results, machine(), tables)
    print(out)


if __name__ == "__main__":
    if sys.argv[1:2] == ["device"]:  # has options of its own
        sys.argv = sys.argv[1:]
        typer.run(device.main)
    else:
        typer.run(run)
