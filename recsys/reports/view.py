"""Rows and number formats of a MetricTable, the same in every report.

Terminal, HTML, Markdown and plots all take their rows from here, so they cannot disagree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from recsys.errors import RunError
from recsys.evaluation.bootstrap import PairedDifference
from recsys.evaluation.metric_table import MetricTable
from recsys.reports.paired.comparing import Comparisons

BYTES_PER_COORDINATE = 4  # fp32
MISSING = "-"
BEYOND_ACCURACY = ("coverage", "gini", "novelty")
_DECIMALS = {"novelty": 2}  # bits; every other metric lies in 0..1


class Column(NamedTuple):
    """A column of a report."""

    metric: str
    k: int
    segment: str = "all"

    @property
    def label(self) -> str:
        """The metric key, with the segment before it where there is one: `tail ndcg@10`."""
        key = f"{self.metric}@{self.k}"
        return key if self.segment == "all" else f"{self.segment} {key}"


class Cell(NamedTuple):
    """One figure, with its 95 % interval where it has one."""

    value: float
    low: float | None
    high: float | None

    @property
    def half_width(self) -> float | None:
        """Half the length of the interval."""
        if self.low is None or self.high is None:
            return None
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Line:
    """One row of a report: a run at one granularity."""

    run: str
    granularity: int | None
    """None: the model has no nested vectors."""
    full_width: int | None
    """The largest granularity of the run."""
    cells: dict[Column, Cell]
    retention: float | None
    """The lead figure divided by that of the run's full width."""
    paired: PairedDifference | None = None
    """The lead figure beside that of the run's full width, user by user; None: not known."""

    @property
    def is_full(self) -> bool:
        """Whether the whole vector is used."""
        return self.granularity is not None and self.granularity == self.full_width

    @property
    def vector(self) -> str:
        """`d64`, `d256 full`, or a dash."""
        if self.granularity is None:
            return MISSING
        return f"d{self.granularity} full" if self.is_full else f"d{self.granularity}"

    @property
    def num_bytes(self) -> int | None:
        """Bytes of one item's vector in fp32."""
        return None if self.granularity is None else self.granularity * BYTES_PER_COORDINATE

    def value(self, column: Column) -> str:
        """The figure as text."""
        cell = self.cells.get(column)
        return MISSING if cell is None else number(column.metric, cell.value)

    def interval(self, column: Column) -> str:
        """Half the interval as text, empty where there is none."""
        half = self.cells[column].half_width if column in self.cells else None
        return "" if half is None else f"±{number(column.metric, half)}"

    @property
    def kept(self) -> str:
        """The retention in percent as text."""
        return MISSING if self.retention is None else percent(self.retention)

    @property
    def kept_half(self) -> str:
        """Half the paired interval of the retention, in percent; empty where there is none."""
        if self.is_full or self.band is None:
            return ""
        low, high = self.band
        return f"±{100 * (high - low) / 2:.1f}"

    @property
    def band(self) -> tuple[float, float] | None:
        """The paired 95 % interval of the retention."""
        if self.retention is None or self.paired is None or math.isnan(self.paired.ratio_low):
            return None
        return self.paired.ratio_low, self.paired.ratio_high

    @property
    def size(self) -> str:
        """Bytes of one item as text."""
        return MISSING if self.num_bytes is None else f"{self.num_bytes:,}"


def number(metric: str, value: float) -> str:
    """A figure of `metric` with the decimals that it deserves."""
    return f"{value:.{_DECIMALS.get(metric, 4)}f}"


def percent(share: float) -> str:
    """0.974 -> `97.4 %`."""
    return f"{100 * share:.1f} %"


def check_rows(table: MetricTable) -> None:
    """Refuses tables whose figures cannot stand in a report.

    Raises:
        RunError: there are no rows, a value is not a finite number, or a figure stands twice.
    """
    rows = table.rows
    if rows.is_empty():
        raise RunError("the metric table has no rows; run `recsys evaluate` first")
    broken = rows.filter(~pl.col("value").is_finite().fill_null(False))
    if not broken.is_empty():
        raise RunError(
            f"{_describe(broken)} is {broken['value'][0]}, every figure must be a finite "
            "number; look for a diverged training or an empty segment and evaluate again"
        )
    key = ["run", "segment", "granularity", "metric", "k"]
    twice = rows.filter(pl.struct(key).is_duplicated())
    if not twice.is_empty():
        raise RunError(f"{_describe(twice)} stands more than once; give each run a name of its own")


def _describe(rows: pl.DataFrame) -> str:
    row: dict[str, Any] = rows.row(0, named=True)
    granularity = "" if row["granularity"] is None else f"/d{row['granularity']}"
    return f"{row['metric']}@{row['k']}{granularity} ({row['segment']}) of run {row['run']!r}"


def main_run_of(table: MetricTable, main_run: str | None) -> str | None:
    """The run a report is about: the named one, else the first with granularities.

    Raises:
        RunError: the named run is not in the table.
    """
    runs = table.rows["run"].unique(maintain_order=True).to_list()
    if main_run is not None and main_run not in runs:
        raise RunError(f"run {main_run!r} is not among {tuple(runs)}")
    nested = table.rows.filter(pl.col("granularity").is_not_null())
    if main_run is None and not nested.is_empty():
        return str(nested["run"][0])
    return main_run


def present(table: MetricTable, columns: Sequence[Column]) -> list[Column]:
    """Those of `columns` for which the table has at least one figure, in the order given."""
    found = {
        Column(metric, k, segment)
        for metric, k, segment in table.rows.select("metric", "k", "segment").unique().iter_rows()
    }
    return [column for column in columns if column in found]


def lead_column(table: MetricTable, k: int) -> Column:
    """The figure that retention and headline speak of: ndcg@k, or what comes nearest to it.

    Raises:
        RunError: no accuracy metric is in the table.
    """
    rows = table.rows.filter(
        (pl.col("segment") == "all") & ~pl.col("metric").is_in(BEYOND_ACCURACY)
    )
    if rows.is_empty():
        raise RunError("the metric table has no accuracy metric such as ndcg or recall")
    order = rows.select("metric", "k").unique(maintain_order=True).iter_rows()
    metric, cutoff = min(order, key=lambda pair: (pair[0] != "ndcg", abs(pair[1] - k)))
    return Column(metric, cutoff)


def make_lines(
    table: MetricTable,
    lead: Column,
    main_run: str | None = None,
    comparisons: Comparisons | None = None,
) -> list[Line]:
    """Rows of a report: the main run, then other nested runs, then the rest, best first.

    Args:
        table: long rows of one or more runs.
        lead: the figure that retention is taken of and un-nested runs are sorted by.
        main_run: stands first.
        comparisons: of the table's rows by the lead figure; None: shares have no intervals.
    """
    cells: dict[tuple[str, int | None], dict[Column, Cell]] = {}
    for row in table.rows.iter_rows(named=True):
        place = cells.setdefault((row["run"], row["granularity"]), {})
        column = Column(row["metric"], row["k"], row["segment"])
        place[column] = Cell(row["value"], row["low"], row["high"])
    widths: dict[str, int] = {}
    for run, granularity in cells:
        if granularity is not None:
            widths[run] = max(granularity, widths.get(run, 0))
    lines = []
    for (run, granularity), own in cells.items():
        width = widths.get(run)
        full = cells[run, width].get(lead) if width is not None else None
        known = granularity is not None and lead in own and full is not None and full.value > 0
        share = own[lead].value / full.value if known and full is not None else None
        paired = comparisons.of((run, width), (run, granularity)) if comparisons else None
        lines.append(Line(run, granularity, width, own, share, paired))
    seen = list(dict.fromkeys(line.run for line in lines))

    def place_of(line: Line) -> tuple[bool, bool, float, int, int]:
        flat = line.full_width is None
        score = line.cells[lead].value if flat and lead in line.cells else 0.0
        return line.run != main_run, flat, -score, seen.index(line.run), line.granularity or 0

    return sorted(lines, key=place_of)
