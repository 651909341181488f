"""Percentile bootstrap over users: how far would a mean move with other users of the same kind?

Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 16.
Shape legend: U users, P figures, R resamples.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from recsys.data.dataset import Int32, Int64
from recsys.errors import ProtocolError
from recsys.evaluation.metrics import Float64
from recsys.kernels.ranking import count_draws
from recsys.kernels.threads import run_shares, shares

_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class PairedDifference:
    """Two runs measured on the same users; every interval is a percentile interval."""

    difference: float
    """Mean of the second run minus mean of the first."""
    difference_low: float
    difference_high: float
    ratio: float
    """Mean of the second run over mean of the first."""
    ratio_low: float
    ratio_high: float
    num_users: int


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
    both = np.stack([first, second], axis=1)
    means = resampled_means(both, num_resamples=num_resamples, seed=seed)
    differences = means[:, 1] - means[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.divide(second.mean(), first.mean())
        ratios = means[:, 1] / means[:, 0]
    bounds = _bounds(confidence)
    difference_low, difference_high = np.quantile(differences, bounds)
    ratio_low, ratio_high = np.quantile(ratios, bounds)
    return PairedDifference(
        difference=float(second.mean() - first.mean()),
        difference_low=float(difference_low),
        difference_high=float(difference_high),
        ratio=float(ratio),
        ratio_low=float(ratio_low),
        ratio_high=float(ratio_high),
        num_users=len(first),
    )


def _bounds(confidence: float) -> tuple[float, float]:
    return (1 - confidence) / 2, (1 + confidence) / 2
