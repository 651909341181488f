"""The content of a report, shared by all its writers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from recsys.evaluation.metric_table import MetricTable
from recsys.evaluation.metrics import DEFAULT_METRICS
from recsys.reports.paired.comparing import Comparisons
from recsys.reports.paired.families import Family, families
from recsys.reports.view import (
    BEYOND_ACCURACY,
    Column,
    Line,
    check_rows,
    lead_column,
    main_run_of,
    make_lines,
    present,
)

CURVES_SCHEMA = {
    "epoch": pl.Int64,
    "step": pl.Int64,
    "loss": pl.Float64,  # null in validation rows
    "seconds": pl.Float64,
    "granularity": pl.Int64,  # this and what follows: null in training rows
    "metric": pl.String,  # with its cutoff, e.g. ndcg@10
    "value": pl.Float64,
}
SEGMENTS = ("head", "tail", "warm", "cold")


@dataclass(frozen=True)
class ReportContent:
    """Everything a report shows. Several nested runs in the table make a comparison page."""

    title: str
    table: MetricTable
    main_run: str | None = None
    """The run the report is about; None: the first nested one, if any."""
    curves: pl.DataFrame | None = None
    """Training log of the main run, columns of CURVES_SCHEMA; None: no training to show."""
    config_text: str = ""
    """The resolved configuration as YAML."""
    versions: dict[str, str] = field(default_factory=dict)
    """Commit and package versions."""
    command: str = ""
    """What to type to get these figures again."""


ALWAYS_SHOWN = ("recall", "ndcg")
"""The accuracy metrics of every table."""


@dataclass(frozen=True)
class View:
    """A checked metric table arranged for people."""

    table: MetricTable
    main_run: str | None
    metrics: Sequence[str] = ALWAYS_SHOWN
    ks: Sequence[int] = (10,)

    def __post_init__(self) -> None:
        check_rows(self.table)

    @cached_property
    def subject(self) -> str | None:
        """The main run, named or found."""
        return main_run_of(self.table, self.main_run)

    @cached_property
    def lead(self) -> Column:
        """The figure that retention is taken of."""
        return lead_column(self.table, self.ks[0])

    @cached_property
    def lines(self) -> list[Line]:
        """The rows, in the order in which they are shown."""
        return make_lines(self.table, self.lead, self.subject, self.comparisons)

    @cached_property
    def comparisons(self) -> Comparisons:
        """Of any two rows by the lead figure."""
        return Comparisons(self.table, self.lead.metric, self.lead.k)

    @cached_property
    def families(self) -> list[Family]:
        """What the main run is compared with, user by user; empty where ranks are not known."""
        if self.subject is None or self.table.ranks is None:
            return []
        return families(self.table, self.comparisons, self.subject)

    @cached_property
    def runs(self) -> list[list[Line]]:
        """The rows, run by run."""
        names = dict.fromkeys(line.run for line in self.lines)
        return [[line for line in self.lines if line.run == name] for name in names]

    @cached_property
    def columns(self) -> list[Column]:
        """Accuracy columns of the main table, `metrics` and those measured by wish; the lead alone
        where there are none of them.
        """
        told = self.table.rows["metric"].unique(maintain_order=True)
        wished = [m for m in told if m not in (*DEFAULT_METRICS, *BEYOND_ACCURACY)]
        shown = dict.fromkeys([*self.metrics, *wished])
        asked = [Column(metric, k) for k in self.ks for metric in shown]
        return present(self.table, asked) or [self.lead]

    @cached_property
    def second_columns(self) -> list[Column]:
        """Columns of the second table: the lead in every segment, then beyond accuracy."""
        lead = self.lead
        asked = [Column(lead.metric, lead.k, segment) for segment in SEGMENTS]
        asked += [Column(metric, lead.k) for metric in BEYOND_ACCURACY]
        return present(self.table, asked)

    @cached_property
    def all_columns(self) -> list[Column]:
        """Every accuracy figure over all users, metric by metric."""
        rows = self.table.rows.filter(
            (pl.col("segment") == "all") & ~pl.col("metric").is_in(BEYOND_ACCURACY)
        )
        pairs = rows.select("metric", "k").unique(maintain_order=True).sort("k").iter_rows()
        order = rows["metric"].unique(maintain_order=True).to_list()
        columns = [Column(metric, k) for metric, k in pairs]
        return sorted(columns, key=lambda column: order.index(column.metric))

    @cached_property
    def num_users(self) -> list[int]:
        """How many users the figures over all users were taken of (one number, as a rule)."""
        rows = self.table.rows.filter(pl.col("segment") == "all")
        return sorted(rows["num_users"].drop_nulls().unique().to_list())
