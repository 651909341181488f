"""Measurements on one device, in less than ten minutes on a GPU.

python -m benchmarks device [--device NAME] [--tiny] [--rectools PYTHON] [--out FILE]

Everything is made up, so nothing is downloaded. PYTHON is the interpreter of an environment with
`rectools[torch]`; without one, this interpreter is asked.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.device import epochs, others, steps
from benchmarks.device.plan import FULL, TINY
from benchmarks.device.timing import Clock, described
from benchmarks.measure import Row
from benchmarks.tables import as_table
from recsys.console import make_console
from recsys.devices import find_device
from recsys.files.atomic import write_json


def main(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    tiny: Annotated[bool, typer.Option(help="Sizes that a CPU takes in seconds.")] = False,
    minutes: Annotated[float, typer.Option(help="What is not begun by then is left out.")] = 9.0,
    rectools: Annotated[
        Path | None, typer.Option(help="Interpreter that has rectools[torch].")
    ] = None,
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("runs/device.json"),
) -> None:
    """Measures; nothing else should run on the device meanwhile."""
    found, plan = find_device(device), TINY if tiny else FULL
    console, told = make_console(), described(found)
    clock = Clock(found, plan.seconds, time.monotonic() + 60 * minutes)
    console.print(told)
    tables: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as folder:
        tables |= epochs.measure(plan, clock, Path(folder))
        tables |= others.measure(plan, clock, Path(folder), rectools)
        tables |= steps.measure(plan, clock)
    for title, rows in tables.items():
        if rows:
            console.print(as_table(title, rows))
    for each in clock.left_out:
        console.print(f"left out, as {minutes:g} minutes are over: {each}")
    write_json(out, {"machine": told, "tables": tables, "left out": clock.left_out})
    print(out)


if __name__ == "__main__":
    typer.run(main)
