"""The funnel beside exact search and full-width indexes of Faiss and SVS, at 100k, 1M and 10M.

python -m benchmarks.retrieval 100000                  one table: recall, speed, memory
python -m benchmarks.retrieval 1000000 --like runs/beauty_sasrec --structured
python -m benchmarks.retrieval 10000000 --only-ours    cold tiers mapped from disk

Vectors are drawn with the mean and the second moments of a trained run's items and users
(`--like`), or with a spectrum that falls; see `vectors.Source`. Everything is built in `--folder`,
once: building takes long and need not be alone on the machine (`--build` stops there), measuring
must be. Every way to search is measured in a process of its own, whose memory is what it takes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.measure import Row, machine
from benchmarks.retrieval_ways import OURS, RIVALS, build, measure, names_of
from benchmarks.vectors import DIM, draw


def run_alone(folder: Path, name: str, threads: int | None) -> Row:
    """Measures one way to search in a process of its own."""
    code = (
        "import json, sys; from pathlib import Path; from benchmarks.retrieval_ways import measure;"
        "print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) or None)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), name, str(threads or 0)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def table_of(folder: Path, threads: int | None, report: Callable[[str], None]) -> list[Row]:
    """One row for each way that was built; ratios to the fastest exact search at full width."""
    rows = []
    for name in names_of(folder):
        report(name)
        rows.append(run_alone(folder, name, threads))
    exact = max((row["queries/s"] for row in rows if row["search"].startswith("exact")), default=0)
    for row in rows:
        row["times exact"] = row["queries/s"] / exact if exact else float("nan")
    return rows


def main(
    num_items: int,
    like: Annotated[Path | None, typer.Option(help="A run to match.")] = None,
    structured: Annotated[
        bool, typer.Option(help="Groups of alike items around trained ones; else normal.")
    ] = False,
    threads: Annotated[int | None, typer.Option(help="[all cores]")] = None,
    only_ours: Annotated[bool, typer.Option(help="No other index, for 10M.")] = False,
    ways: Annotated[
        list[str] | None, typer.Option("--way", help=f"{', '.join([*OURS, *RIVALS])}.")
    ] = None,
    only_build: Annotated[bool, typer.Option("--build", help="Build, measure later.")] = False,
    folder: Annotated[Path | None, typer.Option(help="[runs/retrieval/...]")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the table.")] = None,
) -> None:
    """Builds what is not there yet, measures, prints one table."""
    from benchmarks.__main__ import as_table
    from recsys.console import make_console
    from recsys.files import write_json

    console = make_console(width=160)
    like_name = like.name if like else "falling"
    shape = "structured" if structured else "normal"
    place = folder or Path(f"runs/retrieval/{num_items}-{like_name}-{shape}")
    drawn = draw(num_items, like, structured, place)
    chosen = ways or [*OURS, *(() if only_ours else RIVALS)]
    for name in chosen:
        build(drawn, name, threads, console.print)
    if only_build:
        return
    rows = table_of(place, threads, lambda name: console.print(f"measure {name}", style="dim"))
    title = f"{num_items:,} x {DIM}, like {like_name}, {shape}"
    console.print(machine())
    console.print(as_table(title, rows))
    if out:
        write_json(out, {"machine": machine(), "title": title, "rows": rows})


if __name__ == "__main__":
    typer.run(main)

__all__ = ["main", "measure", "table_of"]
