"""The content of a study's report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import polars as pl

from recsys.evaluation.protocol import ProtocolCard
from recsys.reports.view import MISSING, percent

MEAN, RETENTION, VERSUS_SEPARATE = "mean", "retention", "nested / separate"
SUMMARY_SCHEMA = {
    "figure": pl.String,  # mean; retention: over the full width of the same model; or the last one
    "method": pl.String,
    "granularity": pl.Int64,  # coordinates of the vector that is stored, or of the decoded one
    "setting": pl.String,  # pq16, 8 of 1024; empty for plain prefixes
    "trained": pl.Boolean,  # false: a prefix of a nested model that no loss has looked at
    "bytes": pl.Int64,  # of one item
    "shared_bytes": pl.Int64,  # stored once beside all items
    "metric": pl.String,
    "k": pl.Int64,
    "num_seeds": pl.Int64,
    "num_users": pl.Int64,
    "value": pl.Float64,
    "low": pl.Float64,  # 95 % interval over users and seeds; null where it cannot be told
    "high": pl.Float64,
}
SCALE_BYTES = 8
"""What a vector may be over its column's bytes: the scales of a codec."""
SHOWN = ("recall", "ndcg")
"""The metrics of every study."""
K = 10
LEAD = "ndcg"


class Figure(NamedTuple):
    """One row of the summary."""

    method: str
    granularity: int
    setting: str
    trained: bool
    num_bytes: int
    shared_bytes: int
    num_seeds: int
    value: float
    low: float | None
    high: float | None

    @property
    def vector(self) -> str:
        """`d64`; with its setting where it has one: `pq16`, `8 of 1024 atoms`."""
        if self.setting:
            return f"{self.setting} atoms" if " of " in self.setting else self.setting
        return f"d{self.granularity}" + ("" if self.trained else " (never trained)")

    @property
    def figure(self) -> str:
        """Four decimals."""
        return f"{self.value:.4f}"

    @property
    def short(self) -> str:
        """Four decimals without the zero before the point."""
        return self.figure.removeprefix("0")

    @property
    def half(self) -> str:
        """Half the interval, empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"±{(self.high - self.low) / 2:.4f}"

    @property
    def share(self) -> str:
        """A ratio in percent; a dash where there is nothing to divide by."""
        return percent(self.value) if math.isfinite(self.value) else MISSING

    @property
    def share_interval(self) -> str:
        """`98.1 to 101.2`, in percent; empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"{100 * self.low:.1f} to {100 * self.high:.1f}"

    @property
    def verdict(self) -> str:
        """Where a ratio lies: `above`, `below`, `level` where its interval holds 1; a dash where it
        has no interval, as a figure reaches 0 in a resample.
        """
        if self.low is None or self.high is None:
            return MISSING
        if self.low <= 1 <= self.high:
            return "level"
        return "above" if self.value > 1 else "below"


@dataclass(frozen=True)
class StudyContent:
    """Everything a study's report shows."""

    title: str
    card: ProtocolCard
    summary: pl.DataFrame
    """Columns of `SUMMARY_SCHEMA`."""
    labels: Mapping[str, str]
    """Method -> what people call it, in the order of tables."""
    families: Mapping[str, str]
    """Method -> what it starts from; methods of one family stand together."""
    full: int
    """The full width."""
    seeds: tuple[int, ...]
    missing: tuple[str, ...] = ()
    command: str = ""
    config_text: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def figures(self, what: str, metric: str, method: str | None = None) -> list[Figure]:
        """Rows at k = 10 of one kind of figure, by method and bytes."""
        rows = self.summary.filter(
            (pl.col("figure") == what) & (pl.col("metric") == metric) & (pl.col("k") == K)
        )
        found = [_figure(row) for row in rows.iter_rows(named=True)]
        order = list(self.labels)
        found.sort(key=lambda each: (order.index(each.method), each.num_bytes))
        return [each for each in found if method in (None, each.method)]

    @cached_property
    def methods(self) -> list[str]:
        """The methods that have figures."""
        present = set(self.summary["method"].unique())
        return [name for name in self.labels if name in present]

    @property
    def drawn(self) -> str:
        """What the resamples of an interval draw: users, and seeds where there are several."""
        return "users and seeds" if len(self.seeds) > 1 else "users"

    def opens_family(self, method: str) -> bool:
        """Whether it is the first present method of its family."""
        family = [name for name in self.methods if self.families[name] == self.families[method]]
        return method == family[0]

    @cached_property
    def budgets(self) -> list[int]:
        """Columns of the main tables: powers of two that hold every figure."""
        sizes: list[int] = self.summary["bytes"].unique().to_list()
        powers = [2**exponent for exponent in range(max(sizes, default=1).bit_length() + 1)]
        return [b for b in powers if any(self._column(b, size) for size in sizes)]

    def _column(self, budget: int, num_bytes: int) -> bool:
        """Whether a vector of that many bytes stands in the column of `budget` bytes."""
        slack = min(SCALE_BYTES, budget // 4)
        return budget // 2 + min(SCALE_BYTES, budget // 8) < num_bytes <= budget + slack

    @property
    def shown(self) -> tuple[str, ...]:
        """The metrics that tables and plots show."""
        return tuple(dict.fromkeys([*SHOWN, *self.summary["metric"].unique(maintain_order=True)]))

    def row(self, metric: str, method: str) -> list[Figure | None]:
        """The figure of a method in each column: the longest vector that belongs there."""
        own = self.figures(MEAN, metric, method)
        cells = [[f for f in own if self._column(b, f.num_bytes)] for b in self.budgets]
        return [max(cell, key=lambda f: f.num_bytes, default=None) for cell in cells]

    def best(self, metric: str) -> list[float]:
        """The highest value of each column, as it is written."""
        rows = [self.row(metric, method) for method in self.methods]
        columns = zip(*rows, strict=True)
        return [max((round(f.value, 4) for f in column if f), default=0.0) for column in columns]

    def ratios(self, what: str) -> list[dict[str, Figure]]:
        """Nested ratios width by width: metric -> figure."""
        widths: dict[int, dict[str, Figure]] = {}
        for metric in self.shown:
            for figure in self.figures(what, metric, "nested"):
                widths.setdefault(figure.granularity, {})[metric] = figure
        return [widths[width] for width in sorted(widths)]

    def kept_by(self, method: str, granularity: int) -> str:
        """What share of its own full width another method keeps, of the lead metric."""
        own = self.figures(RETENTION, LEAD, method)
        shares = [f.share for f in own if f.granularity == granularity and not f.setting]
        return shares[0] if shares else MISSING

    def mean_of(self, method: str, metric: str, granularity: int) -> str:
        """A plain figure with half its interval."""
        own = self.figures(MEAN, metric, method)
        texts = [f"{f.figure} {f.half}".strip() for f in own if f.granularity == granularity]
        return texts[0] if texts else MISSING


def _figure(row: dict[str, Any]) -> Figure:
    return Figure(
        row["method"],
        row["granularity"],
        row["setting"],
        row["trained"],
        row["bytes"],
        row["shared_bytes"],
        row["num_seeds"],
        row["value"] if row["value"] is not None else float("nan"),
        row["low"],
        row["high"],
    )
