"""Verbs that measure runs and show their figures: evaluate, baselines, compare, report."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from recsys.cli.arguments import (
    JsonFlag,
    MetricsOption,
    PartOption,
    ProtocolOption,
    ResultsOption,
    Run,
    checked_part,
    names,
    one_of,
)


def evaluate(
    run: Run,
    split: PartOption = "test",
    protocol: ProtocolOption = None,
    baselines: Annotated[bool, typer.Option(help="Measure the baselines as well.")] = True,
    unfinished: Annotated[
        bool, typer.Option(help="Allow a run whose training has not ended.")
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(help="A feature, or ids, to remove from all items; repeatable."),
    ] = None,
    metrics: MetricsOption = None,
    results: ResultsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Measures recall, NDCG and more at every granularity, beside the simple baselines."""
    from recsys.recipes.evaluating.evaluate import evaluate as measure
    from recsys.recipes.evaluating.results import keep_table, origin_of
    from recsys.runs.loading import LoadedRun

    origin = origin_of(results, [run]) if results else None
    table = measure(
        LoadedRun(run, unfinished=unfinished),
        part=checked_part(split),
        protocol=protocol,
        with_baselines=baselines,
        without=without or (),
        metrics=names(metrics),
        show=lambda table: show_table(table, as_json, names(metrics)),
    )
    if origin:
        keep_table(origin, table, names(metrics))


def baselines(
    data: Annotated[Path, typer.Argument(help="A dataset folder.")],
    which: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME | NAME.KEY=VALUE]...", help="ease, als, ..., ease.l2=50"),
    ] = None,
    split: PartOption = "test",
    protocol: Annotated[
        str, typer.Option(help="Evaluation protocol, see `recsys evaluate`.")
    ] = "s3rec",
    fit_on: Annotated[
        str, typer.Option(help="The parts to fit on: train or train+valid.")
    ] = "train",
    out: Annotated[Path | None, typer.Option(help="JSON file for the table.")] = None,
    metrics: MetricsOption = None,
    results: ResultsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Fits and measures simple baselines; settings not given are chosen on the validation part."""
    from recsys.recipes.evaluating.baselines import evaluate_baselines
    from recsys.recipes.evaluating.results import keep_table, origin_of

    origin = origin_of(results) if results else None
    table = evaluate_baselines(
        data,
        [name for name in which or [] if "=" not in name],
        [name for name in which or [] if "=" in name],
        protocol=protocol,
        part=checked_part(split),
        fit_on=one_of("--fit-on", fit_on, ("train", "train+valid")),
        metrics=names(metrics),
    )
    show_table(table, as_json, names(metrics))
    if out is not None:
        table.save(out)
    if origin:
        keep_table(origin, table, names(metrics))


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Evaluated run folders.")],
    split: PartOption = "test",
    protocol: ProtocolOption = None,
    metrics: MetricsOption = None,
    results: ResultsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Prints the figures of several runs in one table; refuses to mix protocols."""
    from recsys.recipes.evaluating.evaluate import compare as join
    from recsys.recipes.evaluating.results import keep_table, origin_of

    origin = origin_of(results, runs) if results else None
    table = join(runs, part=checked_part(split), protocol=protocol)
    show_table(table, as_json, names(metrics))
    if origin:
        keep_table(origin, table, names(metrics))


def report(
    run: Run,
    beside: Annotated[
        list[Path] | None, typer.Argument(help="Other runs to show beside it.")
    ] = None,
    split: PartOption = "test",
    protocol: ProtocolOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report [default: RUN/report].")
    ] = None,
) -> None:
    """Writes the figures of runs as one HTML page, Markdown and CSV."""
    from recsys.recipes.evaluating.report import report as write

    files = write(run, beside or [], part=checked_part(split), protocol=protocol, out=out)
    print(*files[1:], files[0], sep="\n")


def show_table(
    table: Any, as_json: bool, metrics: tuple[str, ...], ks: Sequence[int] = (10,)
) -> None:
    """Prints a table of metrics, or its card and rows as JSON."""
    if as_json:
        json.dump({"card": table.card.model_dump(), "rows": table.rows.to_dicts()}, sys.stdout)
        print()
        return
    from recsys.reports.content import ALWAYS_SHOWN
    from recsys.reports.terminal import print_table

    print_table(table, (*ALWAYS_SHOWN, *metrics), ks)
