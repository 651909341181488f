"""Benchmarks as a results file: every number of every table, with the machine."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Row, Score
from recsys.recipes.evaluating.results import as_typed
from recsys.reports.results.record import (
    Figure,
    Results,
    Step,
    Unit,
    check_path,
    write_results,
)

_UNITS: dict[str, Unit] = {
    "ms": "ms",
    "ratio": "times",
    "seconds": "seconds",
    "s/epoch": "seconds",
    "rows/s": "per second",
    "steps": "count",
    "weights": "count",
    "MiB": "count",
    "KiB": "count",
    "ndcg@10": "score",
    "recall@10": "score",
    "ndcg@20": "score",
    "recall@20": "score",
}
"""By a word of the title of a measured column; other columns tell what was measured."""

_INTERPRETERS = ("--rectools", "--recbole")
_NAMED = f"^({'|'.join(_INTERPRETERS)})=.*"


def check_kept(path: Path) -> None:
    """Refuses what `keep_benchmarks` could not write, before anything is measured.

    Raises:
        ConfigError: `path` is no JSON file.
        RunError: the command names a place of this machine alone.
    """
    check_path(path)
    _command()


def keep_benchmarks(path: Path, machine: dict[str, str], tables: dict[str, list[Row]]) -> None:
    """Writes the tables.

    Args:
        path: results/NAME.json.
        machine: what they were measured on, and the commit.
        tables: title -> rows; columns that are no measurement name a row.
    """
    told = {key: value for key, value in machine.items() if key != "commit"}
    step = Step(command=_command(), commit=machine["commit"])
    found = [(title, row) for title, lines in tables.items() for row in lines]
    rows = tuple(figure for title, row in found for figure in _figures(title, row))
    write_results(path, Results(steps=(step,), seeds=(), machine=told, rows=rows))


def _command() -> str:
    """What is running, as it is typed in the project folder; interpreters are named PYTHON."""
    words = ["python", "-m", "benchmarks", *sys.argv[1:]]
    words = [
        "PYTHON" if before in _INTERPRETERS else re.sub(_NAMED, r"\1=PYTHON", word)
        for before, word in zip(["", *words], words, strict=False)
    ]
    return as_typed(shlex.join(words))


def _figures(title: str, row: Row) -> Iterator[Figure]:
    units = {column: unit for column in row if (unit := _unit(column, row[column]))}
    told = [v if isinstance(v, str) else f"{k} {v:,}" for k, v in row.items() if k not in units]
    for column, unit in units.items():
        name = ", ".join([title, *told])
        value = row[column]
        if isinstance(value, Score):
            yield Figure(name=name, metric=column, unit=unit, **value._asdict())
        else:
            yield Figure(name=name, metric=column, unit=unit, value=float(value))


def _unit(column: str, value: object) -> Unit | None:
    """Of a column that was measured; None: of one that tells what was."""
    known = [_UNITS[word] for word in column.replace(",", " ").split() if word in _UNITS]
    return known[0] if known and isinstance(value, int | float | Score) else None
