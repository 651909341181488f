"""Calibrators: maps from scores to probabilities, kept as plain numbers.

platt: a logistic curve of the score (Platt, 1999, with his smoothed targets). isotonic: the
rising step function with the least squared error, linear between its steps (Zadrozny and Elkan,
KDD 2002).

Shape legend: R rows, S steps.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from recsys.arrays import Float32, Float64
from recsys.config import StrictModel
from recsys.errors import DataError
from recsys.extras import extra

Kind = Literal["platt", "isotonic"]
_MOST_STEPS = 1024
_LEAST = 1e-6
_NEWTON = 100


class Platt(StrictModel):
    """`sigmoid(slope * score + offset)`."""

    kind: Literal["platt"] = "platt"
    slope: float
    offset: float

    def logits(self, scores: Float32) -> Float64:
        """`[R]` log-odds of the label."""
        return self.slope * scores.astype(np.float64) + self.offset

    def probabilities(self, scores: Float32) -> Float64:
        """`[R]`."""
        return _sigmoid(self.logits(scores))


class Isotonic(StrictModel):
    """Linear between points of which both coordinates rise."""

    kind: Literal["isotonic"] = "isotonic"
    scores: tuple[float, ...] = Field(min_length=1)
    """`[S]`."""
    values: tuple[float, ...] = Field(min_length=1)
    """`[S]` probabilities."""

    def probabilities(self, scores: Float32) -> Float64:
        """`[R]`; those of scores outside are those of the ends."""
        found: Float64 = np.interp(scores, self.scores, self.values)
        return found

    def logits(self, scores: Float32) -> Float64:
        """`[R]` log-odds of the label."""
        found = self.probabilities(scores)
        return np.log(found) - np.log1p(-found)


Calibrator = Annotated[Platt | Isotonic, Field(discriminator="kind")]
"""Either kind; pydantic reads and writes it as JSON."""


def fit_calibrator(kind: Kind, scores: Float32, labels: Float32) -> Platt | Isotonic:
    """A calibrator of that kind, fitted on rows that the ranker was not fitted on.

    Args:
        kind: platt or isotonic.
        scores: `[R]`.
        labels: `[R]` 0 or 1.

    Raises:
        DataError: all labels are alike.
        InstallationError: isotonic, and scipy is missing.
    """
    positive = float(labels.sum())
    if not 0 < positive < len(labels):
        raise DataError("a calibrator needs rows of both labels")
    return _platt(scores, labels) if kind == "platt" else _isotonic(scores, labels)


def _platt(scores: Float32, labels: Float32) -> Platt:
    """By Newton's method; scores are scaled first, so that its steps are well conditioned."""
    positive = float(labels.sum())
    negative = len(labels) - positive
    targets = np.where(labels > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
    mean, spread = float(scores.mean(dtype=np.float64)), float(scores.std(dtype=np.float64)) or 1.0
    x = np.stack([(scores.astype(np.float64) - mean) / spread, np.ones(len(scores))], axis=1)
    weights = np.array([0.0, np.log((positive + 1) / (negative + 1))])
    for _ in range(_NEWTON):
        found = _sigmoid(x @ weights)
        gradient = x.T @ (found - targets)
        curvature = (x * (found * (1 - found))[:, None]).T @ x + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        # A longer step than this would leave the region where the quadratic holds.
        weights = weights - step * min(1.0, 5.0 / (float(np.abs(step).max()) + 1e-12))
        if np.abs(step).max() < 1e-10:
            break
    slope = float(weights[0] / spread)
    return Platt(slope=slope, offset=float(weights[1]) - slope * mean)


def _isotonic(scores: Float32, labels: Float32) -> Isotonic:
    with extra("train", "isotonic calibration"):
        from scipy.optimize import isotonic_regression
    order = np.argsort(scores, kind="stable")
    values, starts = np.unique(scores[order], return_index=True)
    counts = np.diff(np.append(starts, len(order)))
    means = np.add.reduceat(labels[order].astype(np.float64), starts) / counts
    fitted = isotonic_regression(means, weights=counts.astype(np.float64)).x
    # The ends of each step say it all.
    ends = np.flatnonzero(np.diff(fitted) > 0)
    kept = np.unique([0, *ends, *(ends + 1), len(fitted) - 1])
    if len(kept) > _MOST_STEPS:
        kept = kept[np.unique(np.linspace(0, len(kept) - 1, _MOST_STEPS).astype(int))]
    return Isotonic(
        scores=tuple(values[kept].astype(float).tolist()),
        values=tuple(fitted[kept].clip(_LEAST, 1 - _LEAST).tolist()),
    )


def _sigmoid(x: Float64) -> Float64:
    found: Float64 = 0.5 * (1 + np.tanh(0.5 * x))
    return found
