"""Metrics of labelled events as pure functions.

Shape legend: R events.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.arrays import Float32, Float64, Int32, Int64
from recsys.errors import DataError


def auc(scores: Float32 | Float64, labels: Float32) -> float:
    """Chance that a positive event is scored higher than a negative one; ties count half.

    Raises:
        DataError: all labels are alike.
    """
    positive = labels > 0
    num_positive = int(positive.sum())
    num_negative = len(labels) - num_positive
    if not num_positive or not num_negative:
        raise DataError("AUC needs events of both labels")
    wins = _ranks(scores)[positive].sum() - num_positive * (num_positive + 1) / 2
    return float(wins / (num_positive * num_negative))


def grouped_auc(scores: Float32 | Float64, labels: Float32, groups: Int32) -> float:
    """GAUC: the AUC within each user's events, weighted by their number (Zhou et al., KDD 2018).

    Users whose labels are all alike are left out.

    Args:
        scores: `[R]`.
        labels: `[R]` 0 or 1.
        groups: `[R]` whose event it is.

    Raises:
        DataError: no user has both labels.
    """
    _, owners, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.lexsort((scores, owners))
    starts = np.cumsum(counts) - counts
    # Ranks within users: places in the joint order, ties averaged, minus what stands before.
    ranks = np.empty(len(scores))
    ranks[order] = _mean_places(owners[order], scores[order]) - starts[owners[order]]
    positive = np.bincount(owners, labels > 0, len(counts))
    negative = counts - positive
    sums = np.bincount(owners, np.where(labels > 0, ranks, 0.0), len(counts))
    both = (positive > 0) & (negative > 0)
    if not both.any():
        raise DataError("AUC by user needs users with events of both labels")
    wins = (sums - positive * (positive + 1) / 2)[both] / (positive * negative)[both]
    return float(np.average(wins, weights=counts[both]))


def log_loss(logits: Float32 | Float64, labels: Float32) -> float:
    """Mean of `-log p` of the label that was, from logits."""
    signed = np.where(labels > 0, -1.0, 1.0) * logits.astype(np.float64)
    return float(np.logaddexp(0.0, signed).mean())


@dataclass(frozen=True)
class Reliability:
    """How often events of like probability are positive; B bins of equally many events."""

    predicted: Float64
    """`[B]` mean probability."""
    observed: Float64
    """`[B]` share that is positive."""
    counts: Float64
    """`[B]` events."""

    @property
    def error(self) -> float:
        """Expected calibration error: the mean of `|predicted - observed|` over events."""
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.counts))


def reliability(probabilities: Float64, labels: Float32, bins: int = 20) -> Reliability:
    """Events in bins of equal size, by probability (Naeini et al., AAAI 2015)."""
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return Reliability(
        np.array([probabilities[part].mean() for part in parts]),
        np.array([labels[part].mean(dtype=np.float64) for part in parts]),
        np.array([float(len(part)) for part in parts]),
    )


def _ranks(scores: Float32 | Float64) -> Float64:
    """From 1, lowest first, ties averaged."""
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = _mean_places(np.zeros(len(scores), np.int32), scores[order])
    return ranks


def _mean_places(owners: Int32 | Int64, scores: Float32 | Float64) -> Float64:
    """Places from 1 of sorted rows; equal rows of one owner have the mean of theirs."""
    new = np.ones(len(scores), bool)
    new[1:] = (owners[1:] != owners[:-1]) | (scores[1:] != scores[:-1])
    firsts = np.flatnonzero(new)
    lasts = np.append(firsts[1:], len(scores))
    places = (firsts + 1 + lasts) / 2
    found: Float64 = places[np.cumsum(new) - 1]
    return found
