"""Routing: early stop for users whose list is clear at a short prefix.

After the adaptive classification of Kusupati et al., Matryoshka Representation Learning, NeurIPS
2022 (section 4.2.1), with score gaps in place of class probabilities.

Shape legend: B users, n items kept, K requested.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.arrays import Float32, Float64, Int64


@dataclass(frozen=True)
class Routing:
    """Thresholds: how certain a stage must be of a user's list to end the search."""

    thresholds: tuple[float, ...]
    """For every stage but the last; inf: never."""


def confidence(scores: Float32, k: int) -> Float64:
    """`[B]` by how much the first K of `scores [B, n]`, descending, stand out.

    The gap between the mean of the first K and that of the K behind them, in standard deviations
    of all; 0 where there are no more than K.
    """
    shown = np.isfinite(scores)
    values = np.where(shown, scores, 0).astype(np.float64)
    if scores.shape[1] <= k:
        return np.zeros(len(scores))
    first, behind = values[:, :k].mean(1), values[:, k : 2 * k].mean(1)
    full = shown[:, : 2 * k].all(axis=1)
    spread = values.std(axis=1)
    return np.where(full & (spread > 0), (first - behind) / np.maximum(spread, 1e-12), 0.0)


def overlaps(found: Int64, wanted: Int64) -> Float64:
    """`[B]` share of each row of `wanted` that is in the same row of `found`."""
    rows = np.arange(len(wanted))[:, None] << 32
    hits = np.isin(rows + wanted, np.where(found >= 0, rows + found, -1)) & (wanted >= 0)
    shares: Float64 = hits.sum(axis=1) / np.maximum((wanted >= 0).sum(axis=1), 1)
    return shares
