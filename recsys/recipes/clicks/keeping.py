"""What is kept of rankers on labelled events beside their folders: results file and plot."""

from __future__ import annotations

from pathlib import Path

from recsys.recipes.clicks.fit import ClicksResult
from recsys.recipes.evaluating.results import Origin
from recsys.reports.clicks.summary import click_rows
from recsys.reports.results.record import DataName, Results, write_results

PLOT = "reliability.svg"


def keep_clicks(origin: Origin, result: ClicksResult) -> None:
    """Keeps the test part's means over seeds as a results file."""
    told = result.clicks.manifest
    results = Results(
        steps=origin.steps,
        data=DataName(name=told.name, content_hash=told.content_hash),
        seeds=result.config.seeds,
        rows=tuple(click_rows(result.figures)),
    )
    write_results(origin.path, results)


def write_plot(result: ClicksResult) -> Path:
    """Draws the reliability of every ranker into the folder.

    Raises:
        InstallationError: the extra `report` is missing.
    """
    from recsys.files.atomic import write_text
    from recsys.reports.clicks.plots import reliability_plot
    from recsys.reports.plot_style import to_svg

    path = result.folder / PLOT
    write_text(path, to_svg(reliability_plot(result.curves), "reliability"))
    return path
