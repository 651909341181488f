"""The figures of last stages, on the terminal and as rows of a results file."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from recsys.console import make_console
from recsys.recipes.evaluating.results import Origin
from recsys.recipes.last_stage.measure import LastStages
from recsys.reports.results.record import Figure


def print_last_stages(found: LastStages) -> None:
    """Prints a line for each chain of steps; `*` marks what differs from lists by score."""
    from rich.table import Table

    metrics = found.figures["metric"].unique(maintain_order=True).to_list()
    table = Table("last stage", *metrics, title=f"lists of {found.k}")
    for (stage,), rows in found.figures.group_by("stage", maintain_order=True):
        cells = []
        for metric in metrics:
            row = rows.row(by_predicate=pl.col("metric") == metric, named=True)
            low, high = row["difference_low"], row["difference_high"]
            differs = low is not None and (low > 0 or high < 0)
            cells.append(f"{row['value']:.4f}{'*' if differs else ''}")
        table.add_row(str(stage), *cells)
    console = make_console()
    console.print(table)
    console.print("*: the 95 % interval of the difference from lists by score is beside 0")


def last_stage_rows(found: LastStages) -> Iterator[Figure]:
    """Every figure, as a results file keeps it."""
    for row in found.figures.iter_rows(named=True):
        told = {key: row[key] for key in ("metric", "value", "low", "high")}
        yield Figure(name=row["stage"], **told)


def keep_last_stages(origin: Origin, found: LastStages) -> None:
    """Writes the results file."""
    origin.write(tuple(last_stage_rows(found)), found.card)
