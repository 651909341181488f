"""Figures of a ranker on labelled events, before and after calibration.

Shape legend: R events of a part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.arrays import Float32, Float64
from recsys.evaluation.clicks.metrics import (
    Reliability,
    auc,
    grouped_auc,
    log_loss,
    reliability,
)
from recsys.rankers.base import Ranker
from recsys.rankers.calibration.calibrators import Isotonic, Kind, Platt, fit_calibrator
from recsys.rankers.examples import Examples


@dataclass(frozen=True)
class Measured:
    """Figures of one ranker at one width."""

    rows: list[dict[str, Any]]
    """One for each part."""
    calibrator: Platt | Isotonic
    reliability: dict[str, Any]
    """raw, calibrated: predicted and observed shares of the test part."""


def at_widths(ranker: Ranker) -> Iterator[tuple[float | None, Any]]:
    """A ranker at each of its widths, the widest last; None: it has but one."""
    widths = getattr(ranker, "widths", None)
    if widths is None:
        yield None, ranker
        return
    for width in widths:
        yield width, ranker.at(width)  # type: ignore[attr-defined]


def measured(
    ranker: Ranker, parts: tuple[Examples, Examples], users: Mapping[str, Any], kind: Kind
) -> Measured:
    """Figures of the validation and the test part.

    Args:
        ranker: fitted with a pointwise loss: its scores are taken for logits.
        parts: validation and test.
        users: part -> whose events they are, or None.
        kind: of the calibrator, which is fitted on the validation part: its own figures there are
            flattered.
    """
    named = dict(zip(("valid", "test"), parts, strict=True))
    scores = {name: ranker.scores(part) for name, part in named.items()}
    labels = {name: _labels(part) for name, part in named.items()}
    calibrator = fit_calibrator(kind, scores["valid"], labels["valid"])
    rows, curves = [], {}
    for part, found in scores.items():
        given, owners = labels[part], users.get(part)
        better = calibrator.probabilities(found)
        raw, calibrated = (reliability(each, given) for each in (_sigmoid(found), better))
        rows.append(
            {
                "part": part,
                "auc": auc(found, given),
                "gauc": None if owners is None else grouped_auc(found, given, owners),
                "log_loss": log_loss(found, given),
                "calibration_error": raw.error,
                "calibrated_log_loss": log_loss(calibrator.logits(found), given),
                "calibrated_error": calibrated.error,
                "multiply_adds": ranker.multiply_adds(),
            }
        )
        curves = {"raw": _points(raw), "calibrated": _points(calibrated)}
    return Measured(rows, calibrator, curves)


def _labels(examples: Examples) -> Float32:
    assert examples.labels is not None
    return examples.labels


def _sigmoid(scores: Float32) -> Float64:
    found: Float64 = 0.5 * (1 + np.tanh(0.5 * scores.astype(np.float64)))
    return found


def _points(found: Reliability) -> dict[str, list[float]]:
    return {"predicted": found.predicted.tolist(), "observed": found.observed.tolist()}
