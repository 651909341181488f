"""Percentile bootstrap over users: intervals of means and of paired differences.

Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 16.
Shape legend: U users, P figures, R resamples.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recsys.arrays import Float64, Int32, Int64
from recsys.errors import ProtocolError
from recsys.kernels.ranking import count_draws
from recsys.kernels.threads import run_shares, shares
from recsys.progress import progress

_BLOCK_BYTES = 16 << 20
_LONG = 200_000_000
"""Draws that take more than a few seconds."""


@dataclass(frozen=True)
class PairedDifference:
    """Two figures of the same users, resampled together, with percentile intervals."""

    difference: float
    """Mean of the second minus mean of the first."""
    difference_low: float
    difference_high: float
    ratio: float
    """Mean of the second over mean of the first."""
    ratio_low: float
    """NaN, as `ratio_high`, where the first is 0 in a resample: then only differences tell."""
    ratio_high: float
    num_users: int

    @property
    def verdict(self) -> Literal["above", "below", "level"]:
        """Where the second lies; `level`: the interval of the difference holds 0."""
        if self.difference_low > 0:
            return "above"
        return "below" if self.difference_high < 0 else "level"


@dataclass(frozen=True)
class Resampled:
    """P figures of the same U users, and their means over bootstrap samples of the users."""

    means: Float64
    """`[P]`."""
    draws: Float64
    """`[R, P]`; a row is one draw of users."""
    num_users: int
    """U."""

    def paired(self, first: int, second: int, *, confidence: float = 0.95) -> PairedDifference:
        """Figure `second` beside figure `first`."""
        base, other = self.draws[:, first], self.draws[:, second]
        difference = self.means[second] - self.means[first]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.divide(self.means[second], self.means[first])
            ratios = other / base
        bounds = _bounds(confidence)
        low, high = np.quantile(other - base, bounds)
        ratio_low, ratio_high = np.quantile(ratios, bounds) if base.all() else (np.nan, np.nan)
        return PairedDifference(
            difference=float(difference),
            difference_low=float(low),
            difference_high=float(high),
            ratio=float(ratio),
            ratio_low=float(ratio_low),
            ratio_high=float(ratio_high),
            num_users=self.num_users,
        )


def resample(values: Float64, *, num_resamples: int = 1000, seed: int = 0) -> Resampled:
    """Resamples the P figures of `values [U, P]` together, so that any two can be compared."""
    draws = resampled_means(values, num_resamples=num_resamples, seed=seed)
    return Resampled(values.mean(axis=0), draws, len(values))


def resample_often(values: Float64, *, num_resamples: int = 10_000, seed: int = 0) -> Resampled:
    """As `resample`, for many draws of many users: by other random numbers of the same law.

    How many draws fall on users that have any figure is binomial, and only these draws are made: of
    a million users most have found nothing. A bar shows how far it is where it takes long.

    Args:
        values: `[U, P]`.
        num_resamples: R.
        seed: of the draws.
    """
    num_users = len(values)
    kept = values[values.any(axis=1)]
    draws = np.zeros((num_resamples, values.shape[1]))
    random = np.random.default_rng(seed)
    drawn = random.binomial(num_users, len(kept) / num_users, size=num_resamples)
    block = max(1, _BLOCK_BYTES // (8 * max(1, len(kept))))
    with progress() if int(drawn.sum()) > _LONG else nullcontext() as bar:
        task = bar.add_task("paired bootstrap", total=num_resamples) if bar else None
        for start in range(0, num_resamples if len(kept) else 0, block):
            rows = drawn[start : start + block]
            weights = np.empty((len(rows), len(kept)))
            for row, count in enumerate(rows):
                chosen = random.integers(0, len(kept), size=count)
                weights[row] = np.bincount(chosen, minlength=len(kept))
            draws[start : start + block] = weights @ kept / num_users
            if bar and task is not None:
                bar.advance(task, len(rows))
    return Resampled(values.mean(axis=0), draws, num_users)


def resampled_means(values: Float64, *, num_resamples: int = 1000, seed: int = 0) -> Float64:
    """Means over users drawn with replacement; one draw of users serves all P figures.

    Args:
        values: `[U, P]`, one row per user.
        num_resamples: R.
        seed: of the draws.

    Returns:
        `[R, P]`. Resample r is the same draw of users whatever P is.
    """
    # Most users found nothing at any cutoff: they are drawn, and share one row of zeros.
    found = np.flatnonzero(values.any(axis=1))
    place = np.full(len(values), len(found))
    place[found] = np.arange(len(found))
    kept = np.concatenate([values[found], np.zeros((1, values.shape[1]))])
    sums = [weights @ kept for weights in _weights(place, len(kept), num_resamples, seed)]
    means: Float64 = np.concatenate(sums) / len(values)
    return means


def _weights(place: Int64, num_places: int, num_resamples: int, seed: int) -> Iterator[Float64]:
    """How often each place was drawn, `[block, places]`, R rows in all; user u has `place[u]`."""
    num_users = len(place)
    random = np.random.default_rng(seed)
    block = max(1, min(num_resamples, _BLOCK_BYTES // (8 * num_users)))
    rows = [min(block, num_resamples - start) for start in range(0, num_resamples, block)]

    def draw(num_rows: int) -> Int32:
        return random.integers(0, num_users, size=(num_rows, num_users), dtype=np.int32)

    with ThreadPoolExecutor(1) as ahead:  # the next block is drawn while this one is used
        coming = ahead.submit(draw, rows[0])
        for following in [*rows[1:], 0]:
            draws, coming = coming.result(), ahead.submit(draw, following)
            yield _counted(draws, place, num_places)


def _counted(draws: Int32, place: Int64, num_places: int) -> Float64:
    counts = np.zeros((len(draws), num_places))

    def count(_: int, part: tuple[int, int]) -> None:
        count_draws(draws[slice(*part)], place, counts[slice(*part)])

    run_shares(count, shares(len(draws)))
    return counts


def intervals(
    values: Float64, *, confidence: float = 0.95, num_resamples: int = 1000, seed: int = 0
) -> tuple[Float64, Float64]:
    """Percentile interval of the mean of each column of `values [U, P]`: `(low [P], high [P])`."""
    means = resampled_means(values, num_resamples=num_resamples, seed=seed)
    low, high = np.quantile(means, _bounds(confidence), axis=0)
    return low, high


def paired_difference(
    first: Float64,
    second: Float64,
    *,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> PairedDifference:
    """Difference and ratio of two runs' means, resampling the users both were measured on.

    Args:
        first: `[U]` values of one metric, one per user.
        second: `[U]` of the other run, the same users in the same order.
        confidence: of the intervals.
        num_resamples: R.
        seed: of the draws.

    Raises:
        ProtocolError: the two runs were not measured on the same number of users.
    """
    if first.shape != second.shape:
        raise ProtocolError(
            f"a paired comparison needs the same users, found {len(first)} and {len(second)}; "
            "measure both runs under one protocol card"
        )
    both = resample(np.stack([first, second], axis=1), num_resamples=num_resamples, seed=seed)
    return both.paired(0, 1, confidence=confidence)


def _bounds(confidence: float) -> tuple[float, float]:
    return (1 - confidence) / 2, (1 + confidence) / 2
