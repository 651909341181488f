"""`recsys compare --paired`: differences of kept figures, user by user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recsys.errors import ConfigError, RunError
from recsys.evaluation.metric_table import MetricTable
from recsys.evaluation.metrics import METRICS
from recsys.evaluation.protocol import Part, ProtocolCard
from recsys.recipes.evaluating.evaluate import compare
from recsys.reports.paired.comparing import Comparisons
from recsys.reports.paired.families import Family, families, frame_of
from recsys.runs.records import run_name


@dataclass(frozen=True)
class Paired:
    """The first run beside its own full width, the other runs and the baselines."""

    run: str
    metric: str
    k: int
    card: ProtocolCard
    families: tuple[Family, ...]
    """Comparisons that are read together, and corrected for one another."""

    @property
    def frame(self) -> pl.DataFrame:
        """One row for each comparison: difference, interval, p-values and verdict."""
        return frame_of(self.families, self.metric, self.k)


def compare_paired(
    runs: Sequence[str | Path],
    *,
    metric: str = "ndcg@10",
    part: Part = "test",
    protocol: str | None = None,
) -> Paired:
    """Tests every granularity of the first run against full width, other runs and baselines.

    Each difference has a paired bootstrap interval (10,000 draws of users) and the p-value of
    Wilcoxon's signed-rank test, as it is and by Holm's correction. `recsys evaluate` has kept what
    is needed, so no model is opened.

    Args:
        runs: run folders that `evaluate` has measured; one is enough.
        metric: a metric and its cutoff, ndcg@10: any that ranks of targets give, also
            my_package.my_module:rbp@10.
        part: which table of each.
        protocol: which table of each; None: the only one there is.

    Raises:
        ConfigError: the metric is none, or its cutoff lies beyond those that were kept.
        RunError: a run has no such table, or one that keeps no ranks.
        ProtocolError: the runs are of other data, another protocol, part or other users.
    """
    table = compare(runs, part=part, protocol=protocol)
    name, k = _metric_of(metric, table)
    first = run_name(runs[0])
    if table.ranks is None or not {run for run, _ in table.ranks.ranks} >= set(table.rows["run"]):
        raise RunError(
            "not all of these tables keep the ranks of their targets, which paired comparisons are "
            "made of (an earlier version wrote them); run `recsys evaluate` again"
        )
    found = families(table, Comparisons(table, name, k), first)
    if not found:
        raise RunError(
            f"{runs[0]} has one granularity, and nothing stands beside it; name another run, or "
            "evaluate with baselines"
        )
    return Paired(first, name, k, table.card, tuple(found))


def _metric_of(text: str, table: MetricTable) -> tuple[str, int]:
    name, _, cutoff = text.rpartition("@")
    if not name or not cutoff.isdigit() or int(cutoff) < 1:
        raise ConfigError(f"metric {text!r} is not of the form ndcg@10")
    METRICS.find(name)
    kept = table.rows.group_by("run").agg(pl.col("k").max())["k"].to_list()
    largest = min(map(int, kept))
    if int(cutoff) > largest:
        raise ConfigError(
            f"{text} looks further than rank {largest}, the last that is kept; run `recsys "
            f"evaluate --ks {cutoff}` first"
        )
    return name, int(cutoff)
