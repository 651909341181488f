"""Statistics of the numeric features of training rows, which a network scales them by.

Shape legend: R rows, C numeric features, M of them that are missing somewhere, K intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.arrays import Float32, Int64

_MOST_ROWS = 500_000


@dataclass(frozen=True)
class NumberStatistics:
    """What is known of the numbers of the training rows."""

    edges: Float32
    """`[C, K + 1]` quantiles, ascending."""
    means: Float32
    """`[C]`."""
    deviations: Float32
    """`[C]` standard deviations; 1 where all are alike."""
    absent: Int64
    """`[M]` columns in which a number is missing."""


def number_statistics(numbers: Float32, num_quantiles: int, seed: int) -> NumberStatistics:
    """Statistics of `[R, C]` (NaN: missing), of a sample where there are very many rows.

    A column without any number has mean 0.
    """
    absent = np.flatnonzero([np.isnan(column).any() for column in numbers.T])
    if len(numbers) > _MOST_ROWS:
        rows = np.random.default_rng(seed).choice(len(numbers), _MOST_ROWS, replace=False)
        numbers = numbers[np.sort(rows)]
    levels = np.linspace(0, 1, num_quantiles + 1)
    edges = np.zeros((numbers.shape[1], len(levels)))
    means, deviations = np.zeros(len(edges)), np.ones(len(edges))
    for column, values in enumerate(numbers.T):
        known = values[~np.isnan(values)].astype(np.float64)
        if len(known):
            edges[column] = np.quantile(known, levels)
            means[column], spread = known.mean(), known.std()
            deviations[column] = spread if spread > 0 else 1.0
    return NumberStatistics(
        edges.astype(np.float32),
        means.astype(np.float32),
        deviations.astype(np.float32),
        absent.astype(np.int64),
    )
