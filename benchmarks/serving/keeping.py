"""Figures of `benchmarks.serving` as a results file."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.measure import machine
from recsys.recipes.evaluating.results import as_typed
from recsys.reports.results.record import Figure, Results, Step, write_results


def keep(path: Path, module: str, rows: Iterable[Figure], *, timed: bool = True) -> None:
    """Writes results/NAME.json.

    Args:
        path: of the file.
        module: `python -m MODULE` and the arguments of this process have measured.
        rows: the figures.
        timed: the machine is told with them.
    """
    told = machine()
    command = as_typed(shlex.join(["python", "-m", module, *sys.argv[1:]]))
    step = Step(command=command, commit=told.pop("commit"))
    write_results(
        path, Results(steps=(step,), seeds=(), machine=told if timed else None, rows=tuple(rows))
    )
