"""The content of a table study's report, and its tables on a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from recsys.console import make_console
from recsys.evaluation.protocol import ProtocolCard
from recsys.reports.view import MISSING, percent

TABLE_SCHEMA = {
    "table": pl.String,  # `dense`, `hashed double`, or a codec
    "trained": pl.Boolean,  # false: the dense table, compressed after training
    "share": pl.Float64,  # of the dense bytes, that was asked for; 1: none was
    "bytes": pl.Int64,  # of the whole table
    "byte_share": pl.Float64,  # of the dense bytes, that it takes
    "granularity": pl.Int64,
    "metric": pl.String,
    "k": pl.Int64,
    "num_seeds": pl.Int64,
    "num_users": pl.Int64,
    "value": pl.Float64,
    "low": pl.Float64,  # 95 % interval over users and seeds
    "high": pl.Float64,
    "kept": pl.Float64,  # over the dense table at the same granularity; null: that is 0
    "kept_low": pl.Float64,  # null: the dense table's figure reaches 0 in a resample
    "kept_high": pl.Float64,
}
LEAD = "ndcg"
_QUARTER = 0.27
"""A quarter, and room for the scales of a codec."""
Row = dict[str, Any]


@dataclass(frozen=True)
class TablesContent:
    """Everything the report shows."""

    title: str
    card: ProtocolCard
    figures: pl.DataFrame
    """Columns of `TABLE_SCHEMA`."""
    dense: str
    """The label of the dense table."""
    sizes: tuple[int, ...]
    """Granularities, ascending."""
    missing: tuple[str, ...] = ()
    command: str = ""

    def of(self, metric: str, granularity: int) -> list[Row]:
        """Figures of one metric at one granularity, largest tables first."""
        rows = self.figures.filter(
            (pl.col("metric") == metric) & (pl.col("granularity") == granularity)
        )
        return rows.sort(["byte_share", "trained", "table"], descending=True).to_dicts()

    def lines(self, metric: str, granularity: int) -> dict[tuple[str, bool], list[Row]]:
        """`(table, trained)` -> its figures, smallest first; the dense table last of each."""
        found: dict[tuple[str, bool], list[Row]] = {}
        for row in reversed(self.of(metric, granularity)):
            found.setdefault((row["table"], row["trained"]), []).append(row)
        return found

    def table(self, metric: str) -> list[list[str]]:
        """Rows of text: table, share of bytes, a figure per granularity, what is kept of dense."""
        full = self.of(metric, self.sizes[-1])
        rows = []
        for row in full:
            cells = [self._cell(metric, size, row) for size in self.sizes]
            name = row["table"] + ("" if row["trained"] else " (after training)")
            rows.append([name, percent(row["byte_share"]), *cells, _kept(row)])
        return rows

    def _cell(self, metric: str, size: int, like: Row) -> str:
        own = [
            row["value"]
            for row in self.of(metric, size)
            if all(row[key] == like[key] for key in ("table", "trained", "share", "bytes"))
        ]
        return f"{own[0]:.4f}".removeprefix("0") if own else MISSING

    @property
    def headline(self) -> str:
        """The best table of about a quarter of the bytes, or less, that was trained so."""
        return self._best(trained=True) or "No compressed table has been trained yet."

    @property
    def standing(self) -> str:
        """The same of the dense table, compressed after training."""
        return self._best(trained=False)

    def _best(self, *, trained: bool) -> str:
        rows = [
            row
            for row in self.of(LEAD, self.sizes[-1])
            if row["trained"] == trained
            and row["byte_share"] <= _QUARTER
            and row["kept"] is not None
        ]
        if not rows:
            return ""
        best = max(rows, key=lambda row: row["value"])
        how = "trained" if trained else "compressed after training"
        interval = "no interval: in a resample the dense table finds nothing"
        if best["kept_low"] is not None:
            low, high = 100 * best["kept_low"], 100 * best["kept_high"]
            interval = f"95 % interval {low:.1f} to {high:.1f} %{_beside(best)}"
        return (
            f"Highest of the tables {how}, at a quarter of the bytes or less: {best['table']}, "
            f"{percent(best['byte_share'])} of the bytes, keeps {percent(best['kept'])} of "
            f"{LEAD}@10 ({interval})."
        )


def _kept(row: Row) -> str:
    """The share of the dense table's figure, with half its interval where it has one."""
    if row["kept"] is None:
        return MISSING
    if row["kept_low"] is None or row["kept_low"] == row["kept_high"]:
        return percent(row["kept"])
    return f"{percent(row['kept'])} ±{50 * (row['kept_high'] - row['kept_low']):.1f}"


def _beside(row: Row) -> str:
    """Whether a table can be told from the dense one."""
    level = row["kept_low"] <= 1 <= row["kept_high"]
    return "; the difference from the dense table may be noise" if level else ""


def print_tables(content: TablesContent, console: Console | None = None) -> None:
    """Prints ndcg@10 of every table by granularity, and the headline."""
    console = console or make_console()
    for metric in (LEAD, "recall"):
        table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
        names = ("table", "bytes", *(f"d{size}" for size in content.sizes), "kept")
        for number, name in enumerate(names):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for row in content.table(metric):
            table.add_row(*row, style="bold" if row[0] == content.dense else "")
        console.print(f"{metric}@10 by granularity; bytes: of the dense table's", style="bold")
        console.print(table, crop=False, overflow="ignore", no_wrap=True)
    console.print(f"{content.headline} {content.standing}", highlight=False)
    if content.missing:
        console.print(f"missing: {', '.join(content.missing)}", style="yellow", highlight=False)
