"""The verbs that recommend: recommend, show, evaluate-lists, last-stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from recsys.cli.arguments import (
    DataOption,
    DeviceOption,
    JsonFlag,
    MetricsOption,
    Overrides,
    PartOption,
    ProtocolOption,
    ResultsOption,
    Run,
    checked_part,
    names,
    numbers,
    one_of,
    opened,
)

Source = Annotated[
    Path, typer.Argument(help="A run folder, a bundle, or (with --data) a baseline's name.")
]


def recommend(
    source: Source,
    out: Annotated[Path, typer.Option(help="File: .parquet, .csv or .jsonl.")],
    users: Annotated[
        Path | None, typer.Option(help="User ids: .txt, or a table with user_id (and columns).")
    ] = None,
    histories: Annotated[
        Path | None, typer.Option(help="A table with user_id, item_id, timestamp.")
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="All known users.")] = False,
    k: Annotated[int, typer.Option("-k", help="Length of the lists.")] = 10,
    granularity: Annotated[int | None, typer.Option(help="Prefix to rank by [all].")] = None,
    stages: Annotated[str | None, typer.Option(help="Rank in stages: 32:200,256.")] = None,
    allow: Annotated[Path | None, typer.Option(help="Item ids, the only ones.")] = None,
    block: Annotated[Path | None, typer.Option(help="Item ids nobody gets.")] = None,
    seen: Annotated[
        bool, typer.Option("--filter-seen/--with-seen", help="Nothing of the history.")
    ] = True,
    fallback: Annotated[
        str | None, typer.Option(help="popularity: for those without a history [no list].")
    ] = None,
    ranker: Annotated[
        bool | None,
        typer.Option(
            "--ranker/--no-ranker", help="Order candidates by the bundle's ranker [if it has one]."
        ),
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="given: histories stand in their order, without times.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="When items are asked for: 2026-11-29T12:00 [now].")
    ] = None,
    diverse_by: Annotated[
        str | None, typer.Option(help="Column of categories, of which lists shall have several.")
    ] = None,
    diversity: Annotated[
        float | None,
        typer.Option(help="How much more, of the range of scores; with --diverse-by [0.05]."),
    ] = None,
    data: DataOption = None,
    device: DeviceOption = None,
) -> None:
    """Lists for many users into a file; a killed command goes on where it was."""
    from recsys.library.diversity import Diversity
    from recsys.library.verb import recommend as write

    if diversity is not None and diverse_by is None:
        raise typer.BadParameter(
            "it says how much the categories of a column count; name the column by --diverse-by",
            param_hint="--diversity",
        )
    more = {} if diversity is None else {"strength": diversity}
    path = write(
        source,
        out,
        users=users,
        histories=histories,
        everyone=everyone,
        data=data,
        device=device,
        order=None if order is None else one_of("--order", order, ("given", "time")),
        allow=allow,
        block=block,
        k=k,
        granularity=granularity,
        stages=stages,
        filter_seen=seen,
        fallback=fallback,
        ranker=ranker,
        at=at,
        diversity=None if diverse_by is None else Diversity(diverse_by, **more),
    )
    print(f"recommended: {path}")


def show(
    source: Source,
    user: Annotated[str | None, typer.Option(help="External id [the first user].")] = None,
    granularity: Annotated[str | None, typer.Option(help="Prefixes: 16,256 [all].")] = None,
    k: Annotated[int, typer.Option("-k", help="Length of the lists.")] = 10,
    last: Annotated[int, typer.Option(help="Items of the history to show.")] = 5,
    data: DataOption = None,
) -> None:
    """What a user had last and what is recommended, by title."""
    from recsys.library.show import show as display

    sizes = [] if granularity is None else numbers("--granularity", granularity)
    display(source, user, granularities=sizes, k=k, last=last, data=data)


def evaluate_lists(
    lists: Annotated[Path, typer.Argument(help="A table: user_id, item_id, and rank or score.")],
    data: Annotated[Path, typer.Argument(help="The dataset folder the lists are for.")],
    protocol: Annotated[str, typer.Option(help="Preset, see `recsys evaluate`.")] = "s3rec",
    split: PartOption = "test",
    fit_on: Annotated[str, typer.Option(help="What their model was fitted on.")] = "train",
    name: Annotated[str | None, typer.Option(help="Name in the table [of the file].")] = None,
    ks: Annotated[str, typer.Option(help="Cutoffs, by comma.")] = "10",
    metrics: MetricsOption = None,
    beside: Annotated[
        list[Path] | None, typer.Option(help="An evaluated run to show with it; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the table.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measures anybody's recommendations under our protocols: another library's, say."""
    from recsys.cli.evaluating import show_table
    from recsys.recipes.evaluating.lists import evaluate_lists as measure

    wanted = numbers("--ks", ks)
    table: Any = measure(
        lists,
        data,
        protocol=protocol,
        part=checked_part(split),
        fit_on=one_of("--fit-on", fit_on, ("train", "train+valid")),
        ks=wanted,
        metrics=names(metrics),
        name=name,
        beside=beside or (),
    )
    show_table(table, as_json, names(metrics), wanted)
    if out is not None:
        table.save(out)


def last_stage(
    run: Run,
    config: Annotated[
        Path, typer.Argument(help="Chains of steps; configs/ml100k_last_stage.yaml is one.")
    ],
    overrides: Overrides = None,
    split: PartOption = "test",
    protocol: ProtocolOption = None,
    data: DataOption = None,
    device: DeviceOption = None,
    results: ResultsOption = None,
) -> None:
    """Measures lists after MMR, DPP, calibration, caps or exploration beside lists by score."""
    from recsys.recipes.evaluating.results import origin_of
    from recsys.recipes.last_stage.measure import compare_last_stages
    from recsys.recipes.last_stage.showing import keep_last_stages, print_last_stages

    origin = origin_of(results, [run]) if results else None
    found = compare_last_stages(
        opened(run, data, device=device),
        config,
        overrides or [],
        part=checked_part(split),
        protocol=protocol,
    )
    print_last_stages(found)
    if origin:
        keep_last_stages(origin, found)
