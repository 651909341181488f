"""Figures of a panel: what a lever gains on each data set, in the mean, and where it was left out.

A gain is ndcg@10 with the lever over ndcg without, less 1, at one granularity, on validation users.
The mean over data sets counts each of them alike. Its interval resamples the users of each data set
and the seeds. Levers are chosen by the mean gain over data sets and granularities; whether such a
choice carries over is seen by choosing on all data sets but one and looking at that one, in turn
(leave-one-out cross-validation, Stone, JRSS B 1974).

Shape legend: S seeds, U users of a data set, R resamples, D data sets, G granularities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from recsys.arrays import Float64
from recsys.studies.panel.config import BEFORE, PanelConfig
from recsys.studies.seeds import resample_figures

ALL = "mean of all"
Values = Mapping[tuple[str, str, int], Float64]
"""(data set, lever, granularity) -> `[S, U]` ndcg of every user."""
SCHEMA = {
    "lever": pl.String,
    "data": pl.String,
    "granularity": pl.Int64,
    "value": pl.Float64,  # ndcg; @10; null: a mean over data sets has none
    "keeps": pl.Float64,  # of full width
    "gain": pl.Float64,  # over the recipe without the lever
    "low": pl.Float64,
    "high": pl.Float64,
}


@dataclass(frozen=True)
class LeftOut:
    """A choice that was made without one data set."""

    data: str
    lever: str
    """What the other data sets choose; `before`: none of the levers."""
    gain: float
    """On the data set that was left out, mean over granularities."""


@dataclass(frozen=True)
class PanelFigures:
    """What a panel has found so far."""

    frame: pl.DataFrame
    """Columns of `SCHEMA`."""
    chosen: str
    """The lever that all data sets choose; `before`: none."""
    left_out: tuple[LeftOut, ...]

    def gain(self, lever: str, granularity: int, data: str = ALL) -> float:
        """Of a lever at a granularity: on one data set, or in the mean."""
        wanted = {"lever": lever, "granularity": granularity, "data": data}
        rows = self.frame.filter(*(pl.col(key) == value for key, value in wanted.items()))
        return float(rows["gain"].item())


def panel_figures(config: PanelConfig, values: Values) -> PanelFigures:
    """Figures of all levers that have been measured on every data set.

    Args:
        config: the panel.
        values: of the recipe and of levers; levers that lack a data set are left out.
    """
    datas = list(config.panel)
    sizes = sorted({size for _, _, size in values})
    levers = [
        lever
        for lever in (BEFORE, *config.levers)
        if all((data, lever, sizes[-1]) in values for data in datas)
    ]
    gains: dict[tuple[str, str], Float64] = {}
    rows: list[dict[str, object]] = []
    draws: dict[tuple[str, str], Float64] = {}
    for number, data in enumerate(datas):
        places = [(lever, size) for lever in levers for size in sizes]
        resampled = resample_figures(
            [values[data, lever, size] for lever, size in places],
            [lever for lever, _ in places],
            num_resamples=config.num_resamples,
            seed=number,  # the users of one data set say nothing about those of another
        )
        means = resampled.means.reshape(len(levers), -1)
        drawn = resampled.draws.reshape(len(resampled.draws), len(levers), -1)
        for place, lever in enumerate(levers):
            gains[data, lever] = means[place] / means[0] - 1
            draws[data, lever] = drawn[:, place] / drawn[:, 0] - 1
            told = gains[data, lever], draws[data, lever]
            rows += _rows(lever, data, sizes, *told, values=means[place])
    for lever in levers:
        mean = np.mean([gains[data, lever] for data in datas], axis=0)
        spread = np.mean([draws[data, lever] for data in datas], axis=0)
        rows += _rows(lever, ALL, sizes, mean, spread)
    left_out = tuple(_left_out(config, levers, gains, data) for data in datas if len(datas) > 1)
    chosen = _choose(levers, gains, datas, config.least_at_full_width)
    return PanelFigures(pl.DataFrame(rows, schema=SCHEMA), chosen, left_out)


def _choose(
    levers: Sequence[str],
    gains: Mapping[tuple[str, str], Float64],
    datas: Sequence[str],
    least: float,
) -> str:
    """The lever with the largest mean gain among those that do not lose at full width."""
    means = {
        lever: np.mean([gains[data, lever] for data in datas], axis=0) for lever in levers
    }  # BEFORE gains 0 everywhere
    allowed = [lever for lever in levers if lever == BEFORE or means[lever][-1] >= least]
    return max(allowed, key=lambda lever: float(means[lever].mean()))


def _left_out(
    config: PanelConfig,
    levers: Sequence[str],
    gains: Mapping[tuple[str, str], Float64],
    data: str,
) -> LeftOut:
    others = [name for name in config.panel if name != data]
    lever = _choose(levers, gains, others, config.least_at_full_width)
    return LeftOut(data, lever, float(gains[data, lever].mean()))


def _rows(
    lever: str,
    data: str,
    sizes: Sequence[int],
    gains: Float64,
    draws: Float64,
    values: Float64 | None = None,
) -> list[dict[str, object]]:
    """One row for each granularity; `gains [G]`, `draws [R, G]`, `values [G]`."""
    low, high = np.quantile(draws, (0.025, 0.975), axis=0)
    return [
        {
            "lever": lever,
            "data": data,
            "granularity": size,
            "value": None if values is None else float(values[g]),
            "keeps": None if values is None else float(values[g] / values[-1]),
            "gain": float(gains[g]),
            "low": float(low[g]),
            "high": float(high[g]),
        }
        for g, size in enumerate(sizes)
    ]
