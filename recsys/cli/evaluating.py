"""Verbs that measure runs and show their figures: evaluate, baselines, compare, report."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from recsys.cli.arguments import (
    DataOption,
    DeviceOption,
    JsonFlag,
    KsOption,
    MetricsOption,
    PartOption,
    ProtocolOption,
    ResultsOption,
    Run,
    checked_part,
    measured_ks,
    names,
    one_of,
    opened,
    shown_ks,
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
    ks: KsOption = None,
    data: DataOption = None,
    device: DeviceOption = None,
    results: ResultsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Measures recall, NDCG and more at every granularity, beside the simple baselines."""
    from recsys.recipes.evaluating.evaluate import evaluate as measure
    from recsys.recipes.evaluating.results import keep_table, origin_of
    from recsys.studies.seed_runs.folder import holds_seeds

    if holds_seeds(run):
        _refuse_for_seeds(run, unfinished=unfinished, without=without, results=results)
        _evaluate_seeds(
            run,
            as_json,
            names(metrics),
            ks,
            part=checked_part(split),
            protocol=protocol,
            with_baselines=baselines,
            data=data,
        )
        return
    origin = origin_of(results, [run]) if results else None
    table = measure(
        opened(run, data, unfinished=unfinished, device=device),
        part=checked_part(split),
        protocol=protocol,
        with_baselines=baselines,
        without=without or (),
        metrics=names(metrics),
        ks=measured_ks(ks),
        show=lambda table: show_table(
            table, as_json, names(metrics), shown_ks(ks, table.card.protocol)
        ),
    )
    if origin:
        keep_table(origin, table, names(metrics))


def _refuse_for_seeds(run: Path, **options: Any) -> None:
    """Raises BadParameter for options that are of one run."""
    given = [name for name, value in options.items() if value]
    if given:
        raise typer.BadParameter(
            f"{run} holds runs of several seeds, and --{given[0]} is of one run; name one of them"
        )


def _evaluate_seeds(
    run: Path, as_json: bool, metrics: tuple[str, ...], ks: str | None, **options: Any
) -> None:
    from recsys.studies.seed_runs.figures import evaluate_seeds

    found = evaluate_seeds(run, metrics=metrics, ks=measured_ks(ks), **options)
    _show_seeds(found, as_json, metrics, shown_ks(ks, found.card.protocol))


def _show_seeds(found: Any, as_json: bool, metrics: tuple[str, ...], ks: list[int]) -> None:
    if as_json:
        tree = {"card": found.card.model_dump(), "rows": found.frame.to_dicts()}
        json.dump(tree | {"missing": found.missing}, sys.stdout)
        print()
        return
    from recsys.reports.content import ALWAYS_SHOWN
    from recsys.studies.seed_runs.terminal import print_seeds

    print_seeds(found, list(dict.fromkeys([*ALWAYS_SHOWN, *metrics])), ks)


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
    ks: KsOption = None,
    results: ResultsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Fits and measures simple baselines; settings not given are chosen on the validation part."""
    from recsys.files.atomic import check_writable
    from recsys.recipes.evaluating.baselines import evaluate_baselines
    from recsys.recipes.evaluating.results import keep_table, origin_of

    origin = origin_of(results) if results else None
    if out is not None:
        check_writable(out)
    table = evaluate_baselines(
        data,
        [name for name in which or [] if "=" not in name],
        [name for name in which or [] if "=" in name],
        protocol=protocol,
        part=checked_part(split),
        fit_on=one_of("--fit-on", fit_on, ("train", "train+valid")),
        metrics=names(metrics),
        ks=measured_ks(ks),
    )
    show_table(table, as_json, names(metrics), shown_ks(ks, table.card.protocol))
    if out is not None:
        table.save(out)
    if origin:
        keep_table(origin, table, names(metrics))


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Evaluated run folders.")],
    split: PartOption = "test",
    protocol: ProtocolOption = None,
    metrics: MetricsOption = None,
    ks: KsOption = None,
    paired: Annotated[
        bool, typer.Option("--paired", help="Test differences of the first run, user by user.")
    ] = False,
    metric: Annotated[str, typer.Option(help="What --paired compares.")] = "ndcg@10",
    results: ResultsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Prints the figures of several runs in one table; refuses to mix protocols."""
    from recsys.studies.seed_runs.folder import holds_seeds, open_seeds

    several = any(map(holds_seeds, runs))
    if paired:
        runs = [
            each
            for run in runs
            for each in (open_seeds(run).finished if holds_seeds(run) else [run])
        ]
        _compare_paired(runs, checked_part(split), protocol, metric, as_json)
        return
    from recsys.recipes.evaluating.evaluate import compare as join
    from recsys.recipes.evaluating.results import keep_table, origin_of

    if several:
        from recsys.studies.seed_runs.figures import compare_seeds

        _refuse_for_seeds(runs[0], results=results)
        found = compare_seeds(runs, part=checked_part(split), protocol=protocol)
        _show_seeds(found, as_json, names(metrics), shown_ks(ks, found.card.protocol))
        return
    origin = origin_of(results, runs) if results else None
    table = join(runs, part=checked_part(split), protocol=protocol)
    show_table(table, as_json, names(metrics), shown_ks(ks, table.card.protocol))
    if origin:
        keep_table(origin, table, names(metrics))


def _compare_paired(
    runs: list[Path], part: Any, protocol: str | None, metric: str, as_json: bool
) -> None:
    from recsys.recipes.evaluating.paired import compare_paired
    from recsys.reports.paired.terminal import print_paired

    found = compare_paired(runs, metric=metric, part=part, protocol=protocol)
    if as_json:
        json.dump({"card": found.card.model_dump(), "rows": found.frame.to_dicts()}, sys.stdout)
        print()
    else:
        print_paired(found.families, found.run, metric)


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
