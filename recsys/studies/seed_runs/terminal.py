"""Figures over seeds on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from recsys.console import make_console
from recsys.reports.words import card_lines
from recsys.studies.seed_runs.figures import SeedFigures

_ENDLESS = 10_000
_NOTE = (
    "mean, standard deviation (with S - 1), least and most over S seeds; interval: 95 % bootstrap "
    "over users and seeds (over users alone where there is one seed)"
)


def print_seeds(
    found: SeedFigures,
    metrics: Sequence[str] = ("recall", "ndcg"),
    ks: Sequence[int] = (10,),
    console: Console | None = None,
) -> None:
    """Prints a table for each metric and cutoff, what is missing, and the card."""
    console = console or make_console()
    for k in ks:
        for metric in metrics:
            rows = found.frame.filter((pl.col("metric") == metric) & (pl.col("k") == k))
            if rows.is_empty():
                continue
            console.print(f"{metric}@{k} over seeds", style="bold", highlight=False)
            table = _table(rows)
            endless = console.options.update(width=_ENDLESS)
            table.width = Measurement.get(console, endless, table).maximum  # no figure is cut
            console.print(table, crop=False, overflow="ignore")
    console.print(_NOTE, style="dim", highlight=False)
    for line in found.missing:
        console.print(f"not in it: {line}", style="yellow", markup=False, highlight=False)
    for what, text in card_lines(found.card)[:2]:
        console.print(f"{what}: {text}", style="dim", markup=False, highlight=False)


def _table(rows: pl.DataFrame) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
    table.add_column("run", overflow="fold", max_width=28)
    table.add_column("vector", no_wrap=True)
    for name in ("seeds", "mean", "sd", "min", "max", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    before = None
    for row in rows.iter_rows(named=True):
        if before not in (None, row["run"]):
            table.add_section()
        name, before = "" if row["run"] == before else row["run"], row["run"]
        vector = "-" if row["granularity"] is None else f"d{row['granularity']}"
        spread = "-" if row["sd"] is None else f"{row['sd']:.4f}"
        figures = [f"{row[key]:.4f}" for key in ("min", "max")]
        interval = f"{row['low']:.4f} to {row['high']:.4f}"
        seeds = str(row["num_seeds"])
        table.add_row(Text(name), vector, seeds, f"{row['mean']:.4f}", spread, *figures, interval)
    return table
