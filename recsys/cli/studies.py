"""Verbs that train and compare many runs: study, clicks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.arguments import Overrides, PartOption, ResultsOption, checked_part
from recsys.errors import ConfigError


def study(
    config: Annotated[
        Path, typer.Argument(help="The config of a study; configs/*_study.yaml are ready ones.")
    ],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Study folder [default: runs/CONFIG].")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="A method to train and measure now; repeatable.")
    ] = None,
    training: Annotated[
        bool,
        typer.Option("--train/--no-train", help="Train missing runs, or only make the tables."),
    ] = True,
    dry: Annotated[bool, typer.Option(help="List the runs and their state, then stop.")] = False,
    results: ResultsOption = None,
) -> None:
    """Nested against separate widths, truncation, PCA, codecs; the same command resumes."""
    from recsys.recipes.evaluating.results import origin_of
    from recsys.studies import print_states
    from recsys.studies import study as run_study
    from recsys.studies.panel.terminal import print_panel
    from recsys.studies.panel.verb import PanelResult
    from recsys.studies.report.terminal import print_study
    from recsys.studies.results import keep_study

    if dry and results:
        raise ConfigError("--dry makes no figures that --results could keep; leave one of them out")
    origin = origin_of(results) if results else None
    result = run_study(
        config,
        overrides or [],
        out=out or Path("runs") / config.stem,
        only=only or [],
        train=training,
        dry=dry,
    )
    if isinstance(result, PanelResult):
        (print_states if dry else print_panel)(result)
    elif result.content is not None:
        print_study(result.content)
    else:
        print_states(result)
    for path in reversed(result.files):
        print(path)
    if origin:
        keep_study(origin, result)


def clicks(
    config: Annotated[
        Path, typer.Argument(help="Labelled events and rankers; see configs/ml1m_rating.yaml.")
    ],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Folder [default: runs/CONFIG].")] = None,
    only: Annotated[list[str] | None, typer.Option(help="A ranker to fit now; repeatable.")] = None,
    split: PartOption = "test",
    results: ResultsOption = None,
) -> None:
    """Fits rankers on labelled events and measures AUC, log-loss and calibration."""
    from recsys.recipes.clicks.fit import fit_clicks
    from recsys.recipes.clicks.keeping import keep_clicks, write_plot
    from recsys.recipes.evaluating.results import origin_of
    from recsys.reports.clicks.summary import print_clicks

    part = checked_part(split)
    origin = origin_of(results) if results else None
    found = fit_clicks(
        config, overrides or [], out=out or Path("runs") / config.stem, only=only or []
    )
    print_clicks(found.figures, part)
    print(write_plot(found))
    if origin:
        keep_clicks(origin, found)
