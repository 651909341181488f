"""Benchmark of first stages and their rivals at any size.

python -m benchmarks.retrieval 100000                          vectors made up
python -m benchmarks.retrieval 1000000 --like runs/beauty_sasrec --structured
python -m benchmarks.retrieval --run runs/synthetic_1m         vectors as they were trained
python -m benchmarks.retrieval --folder FOLDER                 vectors in FOLDER
python -m benchmarks.retrieval 10000000 --within 2 --latency   10M: ways of at most 2 GB alone

Everything is built in `--folder`, once, each way in a process of its own: that takes long and need
not be alone on the machine (`--build` stops there); measuring must be. Parameters are tuned on half
of the users and measured with the others, way after way, round by round (`measuring`). Rivals want
packages that are no dependency: `pip install scann usearch scalable-vs`; what is missing is named
and left out. A part that stands in the folder (`NAME/`, see `way.Part`) is not built again.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.measure import Row, machine
from benchmarks.retrieval import frontier
from benchmarks.retrieval.measuring import measure_grid, measure_in_turns, measure_latency
from benchmarks.retrieval.pool import Pool, WorkerError
from benchmarks.retrieval.sources import Drawn, Source, Trained
from benchmarks.retrieval.vectors import CARD, Vectors, write_vectors
from benchmarks.retrieval.way import Way, is_built
from benchmarks.retrieval.ways import WAYS
from recsys.console import make_console
from recsys.files.atomic import write_json

_PACKAGES = ("faiss-cpu", "scann", "usearch", "scalable-vs")
_LATENCY_AT = (0.95, 0.99)
console = make_console(width=200)


def vectors_of(
    num_items: int | None,
    like: Path | None,
    structured: bool,
    run: Path | None,
    folder: Path | None,
) -> Vectors:
    """The vectors that are asked for, written where they are not there yet.

    Raises:
        typer.BadParameter: it is not said which, or the folder holds others.
    """
    if folder and (folder / CARD).is_file() and not (num_items or run):
        return Vectors(folder)
    if (num_items is None) == (run is None):
        raise typer.BadParameter("give NUM_ITEMS to draw, or --run, or a --folder that has vectors")
    card: dict[str, Any] = {"run": str(run)}
    if run:
        name = run.name
    else:
        shape = "structured" if structured else "normal"
        card = {"num_items": num_items, "like": str(like or ""), "structured": structured}
        name = f"{num_items}-{like.name if like else 'falling'}-{shape}"
    place = folder or Path("runs/retrieval") / name
    if (place / CARD).is_file():
        found = Vectors(place).card
        if {key: found.get(key) for key in card} != card:
            raise typer.BadParameter(f"{place} holds {found}, not {card}; choose another --folder")
        return Vectors(place)
    try:
        source: Source = Trained(run) if run else Drawn(num_items or 0, like, structured)
        return write_vectors(place, source, card)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def left_out(vectors: Vectors, way: Way, within: float | None) -> str | None:
    """Why a way is not measured."""
    gigabytes = way.item_bytes(vectors.dim) * vectors.card["num_items"] / 1e9
    if within and gigabytes > within:
        return f"keeps about {gigabytes:.1f} GB in memory, --within {within:g}"
    return way.missing()


def built(pool: Pool, names: list[str], within: float | None) -> Iterator[tuple[str, str | None]]:
    """Each way, once it is built, and why it is left out if it is."""
    for name in names:
        way = pool.ways[name]
        reason = left_out(pool.vectors, way, within)
        if reason is None and not is_built(pool.vectors, way):
            console.print(f"build {name}", style="dim")
            try:
                pool.build(name)
            except WorkerError as error:
                reason = f"cannot be built: {error}"
        yield name, reason


def measured(pool: Pool, names: list[str], at_least: float, rounds: int, seconds: float) -> Any:
    """All points of the grids, and those measured in turns; ways that fail are named."""
    points: list[Row] = []
    failed: dict[str, str] = {}
    for name in names:
        console.print(f"tune {name}", style="dim")
        try:
            points += measure_grid(pool, name)
        except WorkerError as error:
            failed[name] = f"cannot be measured: {error}"
    turns = frontier.worth_measuring(points, at_least)
    console.print(f"measure {len(turns)} of {len(points)} points in turns", style="dim")
    done, ended = measure_in_turns(pool, turns, rounds, seconds)
    return points, done, failed | ended


def versions() -> dict[str, str]:
    """Of the libraries compared."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def show(title: str, rows: list[Row]) -> None:
    """Prints a table, where there is anything to print."""
    from benchmarks.__main__ import as_table

    if rows:
        console.print(as_table(title, rows))


def main(
    num_items: Annotated[int | None, typer.Argument(help="To draw.")] = None,
    like: Annotated[Path | None, typer.Option(help="A run to match.")] = None,
    structured: Annotated[
        bool, typer.Option(help="Groups of alike items around trained ones; else normal.")
    ] = False,
    run: Annotated[Path | None, typer.Option(help="A run whose vectors are searched.")] = None,
    folder: Annotated[Path | None, typer.Option(help="[runs/retrieval/...]")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of every search.")] = 2,
    ways: Annotated[list[str] | None, typer.Option("--way", help=", ".join(WAYS))] = None,
    within: Annotated[float | None, typer.Option(help="GB a way may keep in memory.")] = None,
    only_build: Annotated[bool, typer.Option("--build", help="Build, measure later.")] = False,
    at_least: Annotated[float, typer.Option(help="Recall of points that are measured.")] = 0.85,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    seconds: Annotated[float, typer.Option(help="Of a batch's repeats, each round.")] = 0.2,
    latency: Annotated[bool, typer.Option(help="One user, warm and cold page cache.")] = False,
    out: Annotated[Path | None, typer.Option(help="JSON file with every point.")] = None,
) -> None:
    """Builds what is not there yet, measures, prints the frontier."""
    vectors = vectors_of(num_items, like, structured, run, folder)
    if unknown := [name for name in ways or () if name not in WAYS]:
        raise typer.BadParameter(f"--way {unknown[0]} is not among {', '.join(WAYS)}")
    pool = Pool(vectors, WAYS, threads)
    reasons = dict(built(pool, ways or list(WAYS), within))
    names = [name for name, reason in reasons.items() if reason is None]
    points: list[Row] = []
    turns: list[Row] = []
    slow: list[Row] = []
    if not only_build and names:
        points, turns, failed = measured(pool, names, at_least, rounds, seconds)
        reasons |= failed
        if latency:
            slow = measure_latency(pool, _asked(turns), 200)
        pool.close()
    out_of_it = {name: reason for name, reason in reasons.items() if reason}
    for name, reason in out_of_it.items():
        console.print(f"{name} is left out: {reason}", style="yellow")
    if only_build or not turns:
        return
    title = f"{vectors.card['num_items']:,} x {vectors.dim}, {threads} threads, {vectors.card}"
    report(title, turns, slow)
    if out:
        command = shlex.join(["python", "-m", "benchmarks.retrieval", *sys.argv[1:]])
        card = {"machine": machine(), "versions": versions(), "title": title, "threads": threads}
        card["command"] = command
        chosen = {
            f"{use} at {target}": frontier.fastest(turns, target, use)
            for target in frontier.TARGETS
            for use in frontier.USES
        }
        tables = {"points": points, "frontier": frontier.frontier(turns), "chosen": chosen}
        more = {"verdicts": frontier.verdicts(turns), "latency": slow, "left_out": out_of_it}
        everything: dict[str, Any] = card | {"vectors": vectors.card} | tables | more
        # What is unknown is NaN here, which JSON does not have.
        write_json(out, json.loads(json.dumps(everything), parse_constant=lambda _: None))


def report(title: str, turns: list[Row], slow: list[Row]) -> None:
    """Prints the tables."""
    console.print(machine() | versions())
    console.print(title)
    show(
        "every way's frontier; *: none has more recall, more queries/s and less memory",
        [frontier.printed(row, "best") for row in frontier.frontier(turns)],
    )
    for target in frontier.TARGETS:
        for use in frontier.USES:
            rows = frontier.fastest(turns, target, use)
            shown = [frontier.printed(row, "times") for row in rows]
            show(f"fastest, {use}, tuned to recall {target}; times: the fastest rival", shown)
    show("ours beside the fastest rival", frontier.verdicts(turns))
    states = [f"{state} {part}, ms" for state in ("warm", "cold") for part in ("p50", "p99")]
    show("one user at a time", [frontier.printed(row, *states) for row in slow])


def _asked(turns: list[Row]) -> list[Row]:
    """Points whose latency is measured."""
    return [row for target in _LATENCY_AT for row in frontier.fastest(turns, target, "one user")]


if __name__ == "__main__":
    typer.run(main)
