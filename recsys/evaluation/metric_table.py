"""MetricTable: figures in one long table, read and written as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recsys.config import parse
from recsys.errors import ProtocolError, RunError
from recsys.evaluation.protocol import ProtocolCard
from recsys.evaluation.target_ranks import TargetRanks, join_ranks, ranks_from_json
from recsys.files.atomic import write_json

SCHEMA = {
    "run": pl.String,
    "split": pl.String,
    "protocol": pl.String,
    "segment": pl.String,  # all, head, tail, cold, warm: the targets that count (see the card)
    "granularity": pl.Int64,  # null: a model without nested vectors
    "metric": pl.String,  # recall, ndcg, mrr, hit, map, coverage, gini, novelty
    "k": pl.Int64,
    "value": pl.Float64,
    "low": pl.Float64,  # 95 % bootstrap interval over users; null where there is none
    "high": pl.Float64,
    "num_users": pl.Int64,
}

_UNTUNED = "their default settings (measured by an earlier version; run `recsys evaluate` again)"
"""What a card that does not tell of its baselines means."""


@dataclass(frozen=True)
class MetricTable:
    """Figures in long form, with the card of their protocol."""

    card: ProtocolCard
    rows: pl.DataFrame
    ranks: TargetRanks | None = None
    """What its runs are compared by, user by user; None: figures alone are known."""

    def save(self, path: Path) -> None:
        """Writes card, rows and ranks as one JSON file, whole or not at all."""
        tree = {"card": self.card.model_dump(), "rows": self.rows.to_dicts()}
        write_json(path, tree | ({"ranks": self.ranks.to_json()} if self.ranks else {}))

    def renamed(self, old: str, new: str) -> MetricTable:
        """The same with another name of one of its runs."""
        rows = self.rows.with_columns(pl.col("run").replace({old: new}))
        ranks = self.ranks and self.ranks.renamed(lambda run: new if run == old else run)
        return MetricTable(self.card, rows, ranks)

    def value(
        self,
        metric: str,
        k: int,
        granularity: int | None = None,
        *,
        run: str | None = None,
        segment: str = "all",
    ) -> float:
        """One figure; `granularity=None` means the full width (or the model has only one)."""
        chosen = self.rows.filter(
            (pl.col("metric") == metric) & (pl.col("k") == k) & (pl.col("segment") == segment)
        )
        if run is not None:
            chosen = chosen.filter(pl.col("run") == run)
        if granularity is not None:
            chosen = chosen.filter(pl.col("granularity") == granularity)
        if chosen.is_empty() or chosen["run"].n_unique() != 1:
            raise RunError(f"no single figure for {metric}@{k}/d{granularity} of run {run}")
        return float(chosen.sort("granularity", nulls_last=False)["value"][-1])


def load_table(path: Path) -> MetricTable:
    """Reads what `MetricTable.save` wrote.

    Raises:
        RunError: the file is absent or not such a file.
    """
    if not path.is_file():
        raise RunError(f"no metrics at {path}; run `recsys evaluate` first")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        card = {"baselines": _UNTUNED, **tree["card"]}
        rows = pl.DataFrame(tree["rows"], schema=SCHEMA)
        ranks = ranks_from_json(tree["ranks"]) if "ranks" in tree else None
    except (ValueError, TypeError, KeyError, pl.exceptions.PolarsError) as error:
        raise RunError(
            f"{path} is not a metrics file ({error}); run `recsys evaluate` again"
        ) from error
    return MetricTable(parse(ProtocolCard, card, str(path)), rows, ranks)


def join_tables(tables: Sequence[MetricTable]) -> MetricTable:
    """One table of several runs.

    Raises:
        ProtocolError: the protocol cards differ (the message says in what), or the users.
    """
    first, *others = tables
    for other in others:
        lines = first.card.differences(other.card)
        if lines:
            raise ProtocolError(
                "these runs were not measured alike and cannot stand in one table:\n  "
                + "\n  ".join(lines)
            )
    ranks = join_ranks([table.ranks for table in tables])
    return MetricTable(first.card, pl.concat([table.rows for table in tables]), ranks)
