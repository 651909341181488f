"""Figures over several seeds: means, ratios, and intervals over users and seeds.

A mean over users and seeds would be another one with other users, and with other seeds. Both
movements are resampled and added: with v[s, u] the value that seed s gives user u,

    draw = mean of v[., u] over users drawn with replacement
         + mean of (v[s, .] - v[., .]) * sqrt(S / (S - 1)) over seeds drawn with replacement

where a dot is a mean. The root undoes the understatement of a spread that is taken of S values
(Rao and Wu, JASA 1988). With one seed the second line is absent: the interval is over users alone.
The noise that belongs to a user and a seed together is counted in both lines, so intervals are a
little wide (Owen, Annals of Applied Statistics 2007, on why crossed resampling must be); with three
seeds the spread between seeds is itself known only roughly.

Every figure is resampled with the same draws of users, so ratios are paired over users. Figures of
one run have the same draws of seeds too; figures of different runs draw their seeds apart, because
seed 0 of one model says nothing about seed 0 of another.

Shape legend: U users, S seeds of a figure, P figures, R resamples.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.arrays import Float64
from recsys.errors import ProtocolError
from recsys.evaluation.bootstrap import resampled_means

_BOUNDS = (0.025, 0.975)


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % percentile interval; NaN for a ratio with denominator 0."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SeededFigures:
    """P figures and their bootstrap samples."""

    means: Float64
    """`[P]`, over users and seeds."""
    draws: Float64
    """`[R, P]`."""

    def estimate(self, p: int) -> Estimate:
        """Figure p."""
        return _estimate(float(self.means[p]), self.draws[:, p])

    def ratio(self, p: int, q: int) -> Estimate:
        """Figure p over figure q, resampled together."""
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.divide(self.means[p], self.means[q])
            ratios = self.draws[:, p] / self.draws[:, q]
        if not np.isfinite(value) or not np.isfinite(ratios).all():
            return Estimate(float(value), float("nan"), float("nan"))
        return _estimate(float(value), ratios)


def resample_figures(
    values: Sequence[Float64],
    runs: Sequence[Hashable],
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> SeededFigures:
    """Resamples P figures of one metric over the users and the seeds.

    Args:
        values: P arrays `[S, U]`: S may differ between figures, the users may not.
        runs: P keys; figures with one key come from the same S runs, in the same order.
        num_resamples: R.
        seed: of the draws.

    Raises:
        ProtocolError: the figures were not measured on the same number of users, or those of one
            run are not of the same number of seeds.
    """
    _check_pairs(values, runs)
    means = np.array([figure.mean() for figure in values])
    by_user = np.stack([figure.mean(axis=0) for figure in values], axis=1)
    draws = resampled_means(by_user, num_resamples=num_resamples, seed=seed)
    keys = list(dict.fromkeys(runs))
    for p, (figure, run) in enumerate(zip(values, runs, strict=True)):
        draws[:, p] += _seed_movements(
            figure.mean(axis=1), num_resamples, np.random.default_rng([seed, 1, keys.index(run)])
        )
    return SeededFigures(means, draws)


def _seed_movements(
    by_seed: Float64, num_resamples: int, random: np.random.Generator
) -> Float64 | float:
    """`[R]` what other seeds would have added to the mean of `by_seed [S]`."""
    count = len(by_seed)
    if count == 1:
        return 0.0
    chosen = random.integers(0, count, size=(num_resamples, count))
    movements: Float64 = (by_seed[chosen].mean(axis=1) - by_seed.mean()) * np.sqrt(
        count / (count - 1)
    )
    return movements


def _estimate(value: float, draws: Float64) -> Estimate:
    low, high = np.quantile(draws, _BOUNDS)
    return Estimate(value, float(low), float(high))


def _check_pairs(values: Sequence[Float64], runs: Sequence[Hashable]) -> None:
    users = sorted({figure.shape[1] for figure in values})
    if len(users) != 1:
        raise ProtocolError(
            f"a paired comparison needs the same users, found {users} of them; measure all runs "
            "under one protocol card"
        )
    seeds: dict[Hashable, int] = {}
    for figure, run in zip(values, runs, strict=True):
        if seeds.setdefault(run, len(figure)) != len(figure):
            raise ProtocolError(
                f"figures of {run} are of {seeds[run]} and of {len(figure)} seeds; measure all of "
                "them on the same seeds"
            )
