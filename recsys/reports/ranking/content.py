"""The content of the ranking stage's report: one row for each funnel and ranker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recsys.evaluation.bootstrap import PairedDifference
from recsys.evaluation.protocol import ProtocolCard
from recsys.files.atomic import atomic_path
from recsys.rankers.base import Ranker
from recsys.reports.view import percent

TABLE = "ranking.csv"
RANKING = "ranking"
"""The folder of a run that holds the table."""


@dataclass(frozen=True)
class Fit:
    """A ranker that was fitted and written."""

    folder: Path
    """Of the ranker; in a bundle, that of the bundle's new version."""
    ranker: Ranker
    before: float
    """ndcg@10 of the dot products' order on the validation part."""
    after: float
    """ndcg@10 of the ranker's order there; of rankers that were fitted on other users."""
    lift: PairedDifference
    """The second beside the first, paired over users."""
    told: dict[str, Any]
    """Users, targets and rows."""


@dataclass(frozen=True)
class RankedRow:
    """One way to order candidates, with its figures."""

    name: str
    """Of the ranker; `dot products`: the funnel's own order."""
    stages: str
    """The funnel, as `parse_stages` reads it."""
    keep: int
    codecs: str = "fp32"
    """Of the items' tiers."""
    reached: float | None = None
    """Recall of the candidates: mean share of a user's targets among them. None: all items are."""
    recall: float = 0.0
    """recall@k at the end."""
    ndcg: float = 0.0
    """ndcg@k at the end."""
    beside_dot: PairedDifference | None = None
    """ndcg@k beside that of the dot products' order of the same candidates."""
    beside_exact: PairedDifference | None = None
    """ndcg@k beside that of exact search at full width."""
    multiply_adds: float = 0.0
    """For one user: search, and the ranker's for each candidate; those of features are left out."""
    ms: float | None = None
    """Milliseconds of one user alone: search, features, ranker. None: not measured."""
    num_users: int | None = None
    """Where fewer were measured than in the other rows."""

    def same_funnel(self, other: RankedRow) -> bool:
        """Whether both order the same candidates."""
        return (self.stages, self.keep, self.codecs) == (other.stages, other.keep, other.codecs)

    @property
    def candidates(self) -> str:
        """The funnel in words."""
        if self.reached is None:
            return "all items"
        return _funnel(self.keep, self.stages, self.codecs)


@dataclass(frozen=True)
class RankingContent:
    """Everything that the report shows."""

    run: str
    card: ProtocolCard
    k: int
    num_users: int
    rows: tuple[RankedRow, ...]
    """The first one is exact search at full width."""

    @property
    def frame(self) -> pl.DataFrame:
        """One row for each, with the intervals as columns."""
        return pl.DataFrame([_flat(row) for row in self.rows], infer_schema_length=None)


def _flat(row: RankedRow) -> dict[str, str | float | int | None]:
    flat: dict[str, str | float | int | None] = {
        "ranker": row.name,
        "stages": row.stages,
        "keep": row.keep,
        "codecs": row.codecs,
        "candidates": row.reached,
        "recall": row.recall,
        "ndcg": row.ndcg,
        "multiply_adds": row.multiply_adds,
        "ms": row.ms,
        "num_users": row.num_users,
    }
    for name, beside in (("dot", row.beside_dot), ("exact", row.beside_exact)):
        flat |= {
            f"{name}_ratio": beside.ratio if beside else None,
            f"{name}_difference": beside.difference if beside else None,
            f"{name}_low": beside.difference_low if beside else None,
            f"{name}_high": beside.difference_high if beside else None,
        }
    return flat


def write_ranking(folder: Path, content: RankingContent) -> Path:
    """Writes the table as CSV, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / TABLE) as temporary:
        content.frame.write_csv(temporary)
    return folder / TABLE


@dataclass(frozen=True)
class ShownRow:
    """A row of a kept table, as a page shows it."""

    ranker: str
    candidates: str
    reached: str
    ndcg: str
    beside_dot: str
    """Change in percent with its 95 % interval; empty: it is the dot products' order itself."""
    beside_exact: str
    multiply_adds: str
    ms: str


def read_ranking(folder: Path) -> tuple[ShownRow, ...]:
    """The table that `recsys rank evaluate` has kept in a folder; empty: there is none."""
    path = folder / TABLE
    if not path.is_file():
        return ()
    return tuple(_shown(row) for row in pl.read_csv(path).to_dicts())


def _shown(row: dict[str, Any]) -> ShownRow:
    last = str(row["stages"]).rpartition(",")[2]
    found = _funnel(row["keep"], str(row["stages"]), row["codecs"])
    return ShownRow(
        ranker=str(row["ranker"]),
        candidates=f"all, by {last}" if row["candidates"] is None else found,
        reached="" if row["candidates"] is None else percent(row["candidates"]),
        ndcg=f"{row['ndcg']:.4f}",
        beside_dot=_change(row, "dot"),
        beside_exact=_change(row, "exact"),
        multiply_adds=f"{row['multiply_adds']:,.0f}",
        ms="" if row["ms"] is None else f"{row['ms']:.2f}",
    )


def _funnel(keep: int, stages: str, codecs: str) -> str:
    """How many candidates, by which coordinates: `200 by 8,256 (fp32)`."""
    return f"{keep:,} by {stages.replace(f':{keep}', '')} ({codecs})"


def _change(row: dict[str, Any], name: str) -> str:
    difference = row[f"{name}_difference"]
    if difference is None:
        return ""
    base = row["ndcg"] - difference
    if not base:
        return ""
    low, high = (100 * row[f"{name}_{edge}"] / base for edge in ("low", "high"))
    change = f"{100 * difference / base:+.1f} %"
    return change if low == high else f"{change} [{low:+.1f}, {high:+.1f}]"
