"""Percentile bootstrap over users: how far would a mean move with other users of the same kind?

Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 16.
Shape legend: U users, P figures, R resamples.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recsys.errors import ProtocolError
from recsys.evaluation.metrics import Float64

_BLOCK_BYTES = 64 << 20


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
    sums = [weights @ values for weights in _weights(len(values), num_resamples, seed)]
    means: Float64 = np.concatenate(sums) / len(values)
    return means


def _weights(num_users: int, num_resamples: int, seed: int) -> Iterator[Float64]:
    """How often each user was drawn, `[block, U]`, R rows in all."""
    random = np.random.default_rng(seed)
    block = max(1, min(num_resamples, _BLOCK_BYTES // (8 * num_users)))
    for start in range(0, num_resamples, block):
        rows = min(block, num_resamples - start)
        draws = random.integers(0, num_users, size=(rows, num_users))
        draws += np.arange(rows)[:, None] * num_users
        counts = np.bincount(draws.ravel(), minlength=rows * num_users)
        yield counts.reshape(rows, num_users).astype(np.float64)


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
