"""`make bench`: every measurement as a table, and all of them as one JSON file.

python -m benchmarks [steps evaluation catalogue preparing] [--quick] [--out FILE]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import catalogue, evaluation, preparing, steps
from benchmarks.measure import Row, machine
from recsys.files import write_json

NAMES = ("steps", "evaluation", "catalogue", "preparing")


def run(
    names: Annotated[list[str] | None, typer.Argument(help=", ".join(NAMES))] = None,
    quick: Annotated[bool, typer.Option(help="Fewer rounds and sizes.")] = False,
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("runs/bench.json"),
) -> None:
    """Measures on this machine; nothing else should run meanwhile."""
    rounds = 3 if quick else 9
    measures = {
        "steps": lambda: steps.measure(rounds),
        "evaluation": lambda: evaluation.measure(2 if quick else 5),
        "catalogue": lambda: catalogue.measure((10_000, 100_000, 1_000_000)[: 3 - quick]),
        "preparing": lambda: preparing.measure((1, 10, 50)[: 1 if quick else 3]),
    }
    if unknown := [name for name in names or [] if name not in measures]:
        raise typer.BadParameter(f"{unknown[0]!r} is not among {NAMES}")
    console, tables = Console(), {}
    console.print(machine())
    for name in names or NAMES:
        found = measures[name]()
        tables |= found
        for title, rows in found.items():
            console.print(as_table(title, rows))
    write_json(out, {"machine": machine(), "tables": tables})
    print(out)


def as_table(title: str, rows: list[Row]) -> Table:
    """Rows as a table; numbers with the decimals they deserve."""
    table = Table(*rows[0], title=title, title_justify="left")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    return table


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if value < 10 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    typer.run(run)
