"""Figures of labelled events over seeds: a table for the terminal, rows for a results file."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from recsys.console import make_console
from recsys.reports.results.record import Figure

METRICS = ("auc", "gauc", "log_loss", "calibrated_log_loss", "calibrated_error")
_TITLES = {
    "auc": "AUC",
    "gauc": "GAUC",
    "log_loss": "log-loss",
    "calibrated_log_loss": "log-loss, calibrated",
    "calibrated_error": "error, calibrated",
}


def over_seeds(figures: pl.DataFrame, part: str = "test") -> pl.DataFrame:
    """Means and the spread over seeds (standard deviation; 0 of one seed), in the given order.

    Columns: ranker, width, seeds, multiply_adds, and of each metric METRIC and METRIC_spread.
    """
    chosen = figures.filter(pl.col("part") == part)
    means = [pl.col(name).mean() for name in METRICS]
    spreads = [pl.col(name).std().fill_null(0.0).alias(f"{name}_spread") for name in METRICS]
    return chosen.group_by("ranker", "width", maintain_order=True).agg(
        pl.len().alias("seeds"), pl.col("multiply_adds").mean(), *means, *spreads
    )


def label_of(ranker: str, width: float | None) -> str:
    """A name for one line: the ranker, and its share of the width where it is not whole."""
    return ranker if width is None or width == 1 else f"{ranker}, width {width:g}"


def print_clicks(figures: pl.DataFrame, part: str = "test") -> None:
    """Prints one line for each ranker and width."""
    from rich.table import Table

    frame = over_seeds(figures, part)
    shown = [name for name in METRICS if frame[name].null_count() < len(frame)]
    table = Table("ranker", *(_TITLES[name] for name in shown), "multiply-adds", "seeds")
    for row in frame.iter_rows(named=True):
        cells = [f"{row[name]:.4f} ±{row[f'{name}_spread']:.4f}" for name in shown]
        adds = f"{row['multiply_adds']:,.0f}"
        table.add_row(label_of(row["ranker"], row["width"]), *cells, adds, str(row["seeds"]))
    make_console().print(table)


def click_rows(figures: pl.DataFrame) -> Iterator[Figure]:
    """The test part's means over seeds, as rows of a results file."""
    for row in over_seeds(figures).iter_rows(named=True):
        name = label_of(row["ranker"], row["width"])
        for metric in METRICS:
            if row[metric] is not None:
                yield Figure(name=name, metric=_TITLES[metric], value=row[metric])
        adds = row["multiply_adds"]
        yield Figure(name=name, metric="multiply-adds", unit="count", value=adds)
