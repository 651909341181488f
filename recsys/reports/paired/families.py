"""The comparisons of a run: its prefixes beside its full width, other runs and baselines.

All granularities beside one rival are a family: Holm's correction goes over a family.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from recsys.evaluation.bootstrap import PairedDifference
from recsys.evaluation.metric_table import MetricTable
from recsys.evaluation.target_ranks import Place
from recsys.reports.paired.comparing import UNSURE, Comparisons
from recsys.reports.paired.signed_rank import holm

LEVEL = 0.05
"""Corrected p-values below it confirm a difference."""

METHOD = (
    "difference: mean over users of the run's figure less the other's; interval: 95 % percentile "
    "bootstrap, 10,000 draws of users that both figures share; p: Wilcoxon's signed-rank test over "
    "the users whose figures differ, two-sided; corrected: by Holm over the comparisons of one "
    "heading. An interval that holds 0 means the difference may be noise; unconfirmed: it does "
    "not, yet the corrected p is 0.05 or more. The test goes by ranks of differences, not by their "
    "sizes, so the two can disagree."
)

SCHEMA = {
    "run": pl.String,
    "granularity": pl.Int64,  # null: a model without nested vectors
    "against": pl.String,
    "against_granularity": pl.Int64,
    "metric": pl.String,
    "k": pl.Int64,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p": pl.Float64,
    "p_holm": pl.Float64,
    "verdict": pl.String,
    "num_users": pl.Int64,
}


@dataclass(frozen=True)
class Comparison:
    """One row of a table beside another one."""

    place: Place
    against: Place
    paired: PairedDifference
    """Of the first less the second."""
    p: float
    p_holm: float

    @property
    def vector(self) -> str:
        """`d16`, or the name of a run that has no granularities."""
        run, size = self.place
        return run if size is None else f"d{size}"

    @property
    def rival(self) -> str:
        """What it stands beside: `ease l2=50`, `other d16`."""
        run, size = self.against
        return run if size is None else f"{run} d{size}"

    @property
    def interval(self) -> str:
        """As text: `-0.0031 to 0.0198`."""
        return f"{self.paired.difference_low:.4f} to {self.paired.difference_high:.4f}"

    @property
    def corrected(self) -> str:
        """The corrected p-value as text."""
        return p_text(self.p_holm)

    @property
    def raw(self) -> str:
        """The p-value as text."""
        return p_text(self.p)

    @property
    def says(self) -> str:
        """better, worse or may be noise; and whether the signed ranks agree."""
        if self.paired.verdict == "level":
            return UNSURE
        word = "better" if self.paired.verdict == "above" else "worse"
        return word if self.p_holm < LEVEL else f"{word}, unconfirmed"


def p_text(p: float) -> str:
    """A p-value in three decimals."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


@dataclass(frozen=True)
class Family:
    """Comparisons that are read together."""

    title: str
    comparisons: tuple[Comparison, ...]


def families(table: MetricTable, comparisons: Comparisons, run: str) -> list[Family]:
    """What a run is compared with: first its own full width, then every other row of the table.

    Beside another nested run stands the same granularity, or its full width where it has none such.

    Args:
        table: its rows and those of others.
        comparisons: of the table.
        run: the one that is compared.
    """
    sizes = _sizes(table)
    own = sizes[run]
    full = own[-1]
    pairs: dict[str, list[tuple[Place, Place]]] = {
        f"prefixes beside the full width, d{full}": [
            ((run, size), (run, full)) for size in own[:-1]
        ]
    }
    for rival, found in sizes.items():
        if rival != run:
            pairs[f"beside {rival}"] = [
                ((run, size), (rival, size if size in found else found[-1])) for size in own
            ]
    made = [Family(title, tuple(_compare(comparisons, each))) for title, each in pairs.items()]
    return [family for family in made if family.comparisons]


def _sizes(table: MetricTable) -> dict[str, list[int | None]]:
    """The granularities of each run, ascending."""
    found: dict[str, set[int | None]] = {}
    for run, size in (
        table.rows.select("run", "granularity").unique(maintain_order=True).iter_rows()
    ):
        found.setdefault(run, set()).add(size)
    return {run: sorted(sizes, key=lambda size: size or 0) for run, sizes in found.items()}


def _compare(
    comparisons: Comparisons, pairs: Sequence[tuple[Place, Place]]
) -> Iterator[Comparison]:
    """Those that the table can tell, corrected for one another."""
    known = [
        (place, against, found)
        for place, against in pairs
        if (found := comparisons.of(against, place)) is not None
    ]
    p_values = [comparisons.p_value(against, place) for place, against, _ in known]
    for (place, against, found), p, corrected in zip(known, p_values, holm(p_values), strict=True):
        yield Comparison(place, against, found, p, corrected)


def frame_of(found: Sequence[Family], metric: str, k: int) -> pl.DataFrame:
    """Columns of `SCHEMA`, one row for each comparison."""
    rows = [
        {
            "run": each.place[0],
            "granularity": each.place[1],
            "against": each.against[0],
            "against_granularity": each.against[1],
            "metric": metric,
            "k": k,
            "difference": each.paired.difference,
            "low": each.paired.difference_low,
            "high": each.paired.difference_high,
            "p": each.p,
            "p_holm": each.p_holm,
            "verdict": each.paired.verdict,
            "num_users": each.paired.num_users,
        }
        for family in found
        for each in family.comparisons
    ]
    return pl.DataFrame(rows, schema=SCHEMA)
