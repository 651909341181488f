"""Metrics of labelled events and calibrators, against plain loops and known curves."""

import numpy as np
import pytest
from pydantic import TypeAdapter

from recsys.errors import DataError
from recsys.evaluation.clicks.metrics import auc, grouped_auc, log_loss, reliability
from recsys.rankers.calibration.calibrators import Calibrator, fit_calibrator


def drawn(seed, rows=60):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-3, 4, rows).astype(np.float32)
    return scores, (rng.random(rows) < 0.5).astype(np.float32), rng.integers(0, 8, rows)


def auc_by_loops(scores, labels):
    pairs = [(p, n) for p in scores[labels > 0] for n in scores[labels == 0]]
    return sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs) / len(pairs)


@pytest.mark.parametrize("seed", range(3))
def test_auc_counts_pairs_with_ties_as_half(seed):
    scores, labels, users = drawn(seed)
    assert auc(scores, labels) == pytest.approx(auc_by_loops(scores, labels))
    total = weight = 0.0
    for user in np.unique(users):
        mine = users == user
        if 0 < labels[mine].sum() < mine.sum():
            total += mine.sum() * auc_by_loops(scores[mine], labels[mine])
            weight += mine.sum()
    assert grouped_auc(scores, labels, users) == pytest.approx(total / weight)


def test_log_loss_and_reliability_by_hand():
    logits = np.array([0.0, 2.0, -800.0], np.float32)
    labels = np.array([1.0, 0.0, 0.0], np.float32)
    assert log_loss(logits, labels) == pytest.approx((np.log(2) + np.log1p(np.exp(2))) / 3)
    found = reliability(np.array([0.1, 0.2, 0.8, 1.0]), np.array([0, 1, 1, 1.0]), bins=2)
    np.testing.assert_allclose(found.predicted, [0.15, 0.9])
    np.testing.assert_allclose(found.observed, [0.5, 1.0])
    assert found.error == pytest.approx((0.35 + 0.1) / 2)
    with pytest.raises(DataError, match="both labels"):
        auc(logits, np.ones(3))


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_calibrators_find_the_curve_that_labels_were_drawn_by(kind):
    rng = np.random.default_rng(0)
    scores = rng.normal(3, 2, 40_000).astype(np.float32)
    truth = 1 / (1 + np.exp(-(0.7 * scores - 2)))
    labels = (rng.random(len(scores)) < truth).astype(np.float32)
    found = fit_calibrator(kind, scores, labels)
    read = TypeAdapter(Calibrator).validate_json(found.model_dump_json())
    grid = np.linspace(-1, 7, 50).astype(np.float32)
    wanted = 1 / (1 + np.exp(-(0.7 * grid - 2)))
    np.testing.assert_allclose(read.probabilities(grid), wanted, atol=0.05)
    logits = read.logits(grid)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), read.probabilities(grid), atol=1e-9)
    assert (np.diff(read.probabilities(grid)) >= 0).all()
    if kind == "platt":
        assert (found.slope, found.offset) == pytest.approx((0.7, -2), abs=0.05)
    with pytest.raises(DataError, match="both labels"):
        fit_calibrator(kind, scores, np.ones_like(labels))
