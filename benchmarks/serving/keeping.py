"""Figures of `benchmarks.serving` as a results file."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.measure import machine
from recsys.recipes.evaluating.results import as_typed
from recsys.reports.results.record import Figure, Results, Step, check_path, write_results


def check_results(path: Path | None, module: str) -> None:
    """Raises ConfigError or RunError, before anything is measured, where `keep` could not write."""
    if path is not None:
        check_path(path)
        _command(module)


def keep(path: Path, module: str, rows: Iterable[Figure], *, timed: bool = True) -> None:
    """Writes results/NAME.json.

    Args:
        path: of the file.
        module: `python -m MODULE` and the arguments of this process have measured.
        rows: the figures.
        timed: the machine is told with them.
    """
    told = machine()
    step = Step(command=_command(module), commit=told.pop("commit"))
    write_results(
        path, Results(steps=(step,), seeds=(), machine=told if timed else None, rows=tuple(rows))
    )


def _command(module: str) -> str:
    return as_typed(shlex.join(["python", "-m", module, *sys.argv[1:]]))
