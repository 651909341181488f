"""`make bench`: all measurements as tables and one JSON file.

python -m benchmarks [NAME ...] [--quick] [--out FILE]
python -m benchmarks rectools --rectools PYTHON [--rectools-model hstu] [--data DATA] [--epochs E]
python -m benchmarks recbole --recbole PYTHON [--data DATA] [--config CONFIG] [--epochs E]
python -m benchmarks device [--device NAME] [--tiny] [--rectools PYTHON]

PYTHON is the interpreter of an environment with `rectools[torch]`, or with `recbole`. `rectools`,
`recbole` and `device` are no part of `make bench`: each is asked for by name, and has options of
its own.
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
    timed,
)
from benchmarks.device import __main__ as device
from benchmarks.measure import Row, machine
from benchmarks.recbole import compare as recbole
from benchmarks.results_file import check_kept, keep_benchmarks
from benchmarks.sides import Side
from benchmarks.tables import as_table
from recsys.console import make_console
from recsys.errors import InstallationError, RecsysError
from recsys.files.atomic import write_json

NAMES = (
    *("steps", "evaluation", "cutting", "catalogue", "preparing", "loading"),
    *("sharding", "mapped", "dynamic", "timed"),
)


def _can_be_kept(path: Path | None) -> Path | None:
    try:
        if path:
            check_kept(path)
    except RecsysError as error:
        raise typer.BadParameter(str(error)) from error
    return path


ResultsFile = Annotated[
    Path | None,
    typer.Option(help="Keep for a page: results/NAME.json.", callback=_can_be_kept),
]


def run(
    names: Annotated[list[str] | None, typer.Argument(help=", ".join(NAMES))] = None,
    quick: Annotated[bool, typer.Option(help="Fewer rounds and sizes.")] = False,
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("runs/bench.json"),
    results: ResultsFile = None,
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
        "timed": lambda: timed.measure(rounds),
    }
    if unknown := [name for name in names or [] if name not in measures]:
        raise typer.BadParameter(f"{unknown[0]!r} is not among {NAMES}")
    console = make_console()
    tables: dict[str, list[Row]] = {}
    console.print(machine())
    for name in names or measures:
        found = measures[name]()
        tables |= found
        _print_tables(found)
    write_json(out, {"machine": machine(), "tables": tables})
    if results:
        keep_benchmarks(results, machine(), tables)
    print(out)


def compare(
    rectools_python: Annotated[
        Path | None, typer.Option("--rectools", help="Interpreter that has rectools[torch].")
    ] = None,
    rectools_model: Annotated[
        str, typer.Option(help="What is compared: " + ", ".join(rectools.PAIRS))
    ] = "sasrec",
    data: Annotated[Path, typer.Option(help="A dataset folder.")] = Path("data/beauty"),
    epochs: Annotated[int, typer.Option(min=1)] = 1,
    users: Annotated[int | None, typer.Option(min=1, help="The first of the data set.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of each library.")] = 2,
    rectools_steps: Annotated[
        int | None, typer.Option(min=1, help="RecTools trains no longer: evaluation alone.")
    ] = None,
    results: ResultsFile = None,
) -> None:
    """Compares with a model of RecTools; nothing else should run meanwhile."""
    if rectools_python is None:
        raise typer.BadParameter(f"rectools needs --rectools PYTHON; {rectools.HOW_TO}")
    if rectools_model not in rectools.PAIRS:
        raise typer.BadParameter(f"{rectools_model!r} is not among {tuple(rectools.PAIRS)}")
    _check(rectools.SIDE, rectools_python)
    settings = rectools.Settings(
        python=rectools_python,
        data=data,
        model=rectools_model,
        epochs=epochs,
        num_users=users,
        threads=threads,
        steps=rectools_steps,
    )
    _tell(rectools.measure(settings), results)


def compare_recbole(
    recbole_python: Annotated[
        Path | None, typer.Option("--recbole", help="Interpreter that has recbole.")
    ] = None,
    data: Annotated[Path, typer.Option(help="A dataset folder.")] = Path("data/gowalla"),
    config: Annotated[
        Path, typer.Option(help="How LightGCN is trained here, beside RecBole's way.")
    ] = recbole.CONFIGS / "gowalla_lightgcn.yaml",
    epochs: Annotated[int, typer.Option(min=1)] = 1,
    embedding_dim: Annotated[int, typer.Option(min=1, help="In RecBole's way.")] = 64,
    threads: Annotated[int, typer.Option(min=1, help="Of each library.")] = 2,
    results: ResultsFile = None,
) -> None:
    """Compares with LightGCN of RecBole; nothing else should run meanwhile."""
    if recbole_python is None:
        raise typer.BadParameter(f"recbole needs --recbole PYTHON; {recbole.HOW_TO}")
    _check(recbole.SIDE, recbole_python)
    settings = recbole.Settings(
        python=recbole_python,
        data=data,
        config=config,
        epochs=epochs,
        embedding_dim=embedding_dim,
        threads=threads,
    )
    _tell(recbole.measure(settings), results)


def _check(side: Side, python: Path) -> None:
    try:
        side.check(python)
    except InstallationError as error:
        raise typer.BadParameter(str(error)) from error


def _tell(tables: dict[str, list[Row]], results: Path | None) -> None:
    make_console().print(machine())
    _print_tables(tables)
    if results:
        keep_benchmarks(results, machine(), tables)


def _print_tables(tables: dict[str, list[Row]]) -> None:
    console = make_console()
    for title, rows in tables.items():
        console.print(as_table(title, rows))


ALONE = {"device": device.main, "rectools": compare, "recbole": compare_recbole}
"""What has options of its own, and is asked for by name."""

if __name__ == "__main__":
    if alone := ALONE.get(next(iter(sys.argv[1:]), "")):
        app = typer.Typer()
        app.command()(alone)
        app(args=sys.argv[2:])
    else:
        typer.run(run)
