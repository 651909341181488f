"""Figures of runs with several seeds: mean, spread, and an interval over users and seeds.

Shape legend: S seeds, U users.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recsys.arrays import Float64
from recsys.errors import RunError
from recsys.evaluation.evaluate import DEFAULT_KS
from recsys.evaluation.metric_table import MetricTable, join_tables
from recsys.evaluation.protocol import Part, ProtocolCard
from recsys.files.atomic import write_text
from recsys.recipes.evaluating.evaluate import evaluate, run_table
from recsys.runs.loading import LoadedRun
from recsys.runs.records import run_name
from recsys.studies.seed_runs.folder import SeedRuns, holds_seeds, open_seeds
from recsys.studies.seeds import resample_figures

CSV = "seeds.csv"
SCHEMA = {
    "run": pl.String,
    "granularity": pl.Int64,  # null: a model without nested vectors
    "metric": pl.String,
    "k": pl.Int64,
    "num_seeds": pl.Int64,
    "mean": pl.Float64,
    "sd": pl.Float64,  # over seeds, with S - 1; null: one seed
    "min": pl.Float64,
    "max": pl.Float64,
    "low": pl.Float64,  # 95 % bootstrap interval over users and seeds
    "high": pl.Float64,
}


@dataclass(frozen=True)
class SeedFigures:
    """Figures over seeds, of one or several configs, and of the baselines beside them."""

    frame: pl.DataFrame
    """Columns of `SCHEMA`."""
    card: ProtocolCard
    missing: tuple[str, ...] = ()
    """A line for every run that is planned and not in the figures."""


def evaluate_seeds(
    folder: str | Path,
    *,
    part: Part = "test",
    protocol: str | None = None,
    ks: Sequence[int] = DEFAULT_KS,
    metrics: Sequence[str] = (),
    with_baselines: bool = True,
    data: str | Path | None = None,
) -> SeedFigures:
    """Measures every finished run of a folder, and its figures over the seeds.

    Each run keeps its table as after `recsys.evaluate`; baselines are measured once, beside the
    first. The figures are written as `seeds.csv` too.

    Args:
        folder: of `train_seeds`.
        part, protocol, ks, metrics, with_baselines: as of `recsys.evaluate`.
        data: the dataset folder of the runs; None: where they say.

    Raises:
        RunError: no run of it has ended. DataError, ProtocolError: see their messages.
    """
    runs = open_seeds(folder)
    _check(runs)
    for number, run in enumerate(runs.finished):
        loaded = LoadedRun(run, data=data)
        beside = with_baselines and not number
        evaluate(
            loaded, part=part, protocol=protocol, ks=ks, metrics=metrics, with_baselines=beside
        )
    found = compare_seeds([folder], part=part, protocol=protocol or loaded.config.protocol)
    write_text(Path(folder) / CSV, found.frame.write_csv())
    return found


def compare_seeds(
    folders: Sequence[str | Path], *, part: Part = "test", protocol: str | None = None
) -> SeedFigures:
    """Figures over seeds of several configs side by side, as far as they have been evaluated.

    Args:
        folders: of `train_seeds`, and of single runs, which count as one seed.
        part: which tables.
        protocol: which tables; None: the only ones there are.

    Raises:
        RunError: a run has no table, or two share a name. ProtocolError: their cards differ.
    """
    tables: list[MetricTable] = []
    members: dict[str, list[str]] = {}
    missing: list[str] = []
    for folder in map(Path, folders):
        runs = open_seeds(folder) if holds_seeds(folder) else None
        name = runs.name if runs else run_name(folder)
        if name in members:
            raise RunError(f"two runs share a name: {name}; rename one of the folders")
        if runs:
            _check(runs)
            missing += _missing(runs)
        mine = runs.finished if runs else [folder]
        tables += [run_table(run, part, protocol) for run in mine]
        members[name] = [run_name(run) for run in mine]
    joined = join_tables(tables)
    return SeedFigures(_frame(joined, members), joined.card, tuple(missing))


def _check(runs: SeedRuns) -> None:
    if not runs.finished:
        raise RunError(
            f"no run of {runs.folder} has ended; continue with `recsys train --seeds ... --resume`"
        )


def _missing(runs: SeedRuns) -> list[str]:
    made = runs.finished
    return [
        f"{runs.run(seed).name}: {runs.failed.get(seed, 'its training has not ended')}"
        for seed in runs.seeds
        if runs.run(seed) not in made
    ]


def _frame(table: MetricTable, members: dict[str, list[str]]) -> pl.DataFrame:
    """One row for each config or baseline, granularity, metric and cutoff."""
    if table.ranks is None:
        raise RunError("these tables keep no ranks of their targets; run `recsys evaluate` again")
    mine = {run for runs in members.values() for run in runs}
    groups = members | {
        run: [run] for run in table.rows["run"].unique(maintain_order=True) if run not in mine
    }
    sizes = {name: _sizes(table, runs[0]) for name, runs in groups.items()}
    places = [(name, size) for name in groups for size in sizes[name]]
    ranks, rows = table.ranks, []
    pairs = (
        table.rows.filter((pl.col("segment") == "all") & pl.col("low").is_not_null())
        .select("metric", "k")
        .unique(maintain_order=True)
    )

    def values(name: str, size: int | None, metric: str, k: int) -> Float64:
        return np.stack([ranks.per_user((run, size), metric, k) for run in groups[name]])

    for metric, k in pairs.iter_rows():
        figures = [values(name, size, metric, k) for name, size in places]
        rows += _rows(places, figures, metric, k)
    return pl.DataFrame(rows, schema=SCHEMA)


def _rows(
    places: Sequence[tuple[str, int | None]],
    figures: Sequence[Float64],
    metric: str,
    k: int,
) -> list[dict[str, object]]:
    """Of one metric at one cutoff, of figures `[S, U]`."""
    keys: list[Hashable] = [name for name, _ in places]
    resampled = resample_figures(figures, keys)
    rows: list[dict[str, object]] = []
    for p, (name, size) in enumerate(places):
        by_seed, told = figures[p].mean(axis=1), resampled.estimate(p)
        rows.append(
            {
                "run": name,
                "granularity": size,
                "metric": metric,
                "k": k,
                "num_seeds": len(by_seed),
                "mean": float(by_seed.mean()),
                "sd": float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None,
                "min": float(by_seed.min()),
                "max": float(by_seed.max()),
                "low": told.low,
                "high": told.high,
            }
        )
    return rows


def _sizes(table: MetricTable, run: str) -> list[int | None]:
    found = table.rows.filter(pl.col("run") == run)["granularity"].unique().to_list()
    return sorted(found, key=lambda size: size or 0)
