import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import ProtocolError
from recsys.evaluation.bootstrap import intervals, paired_difference
from recsys.studies.seeds import resample_figures


def random_values(seeds, users, seed=0):
    return np.random.default_rng(seed).random((seeds, users))


def test_one_seed_gives_the_interval_over_users_alone():
    values = random_values(1, 50)
    found = resample_figures([values], ["nested"]).estimate(0)
    low, high = intervals(values.T)
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), low[0], high[0]))


def test_the_ratio_of_one_seed_is_the_paired_ratio_over_users():
    full, prefix = random_values(1, 80), random_values(1, 80, seed=1)
    found = resample_figures([prefix, full], ["nested", "nested"]).ratio(0, 1)
    known = paired_difference(full[0], prefix[0])
    assert (found.value, found.low, found.high) == pytest.approx(
        (known.ratio, known.ratio_low, known.ratio_high)
    )


def test_two_seeds_and_one_user_by_hand():
    # One user, so users move nothing. Seeds gave 1 and 3: a draw of two seeds averages 1, 2 or 3
    # (a quarter, a half, a quarter), and its distance from 2 is widened by sqrt(2 / 1).
    resampled = resample_figures([np.array([[1.0], [3.0]])], ["nested"], num_resamples=4000)
    draws, counts = np.unique(resampled.draws[:, 0].round(9), return_counts=True)
    np.testing.assert_allclose(draws, [2 - np.sqrt(2), 2, 2 + np.sqrt(2)], atol=1e-8)
    np.testing.assert_allclose(counts / 4000, [0.25, 0.5, 0.25], atol=0.03)
    assert resampled.estimate(0).low == pytest.approx(2 - np.sqrt(2))


def test_a_ratio_of_two_models_by_hand():
    # Two users, who give the first model 1 and 3 and the second 2 and 2, whatever the seed: users
    # drawn twice give means 1, 2, 3 against 2, 2, 2.
    first, second = np.array([[1.0, 3.0]] * 3), np.full((3, 2), 2.0)
    found = resample_figures([first, second], ["nested", "separate"]).ratio(0, 1)
    assert found.value == pytest.approx(1.0)
    assert (found.low, found.high) == pytest.approx((0.5, 1.5))


def test_the_draws_equal_a_naive_loop():
    values = random_values(3, 6)
    resampled = resample_figures([values], ["nested"], num_resamples=20, seed=4)
    users = np.random.default_rng(4).integers(0, 6, size=(20, 6))
    seeds = np.random.default_rng([4, 1, 0]).integers(0, 3, size=(20, 3))
    for r in range(20):
        by_user = np.mean([values[:, u].mean() for u in users[r]])
        by_seed = np.mean([values[s].mean() for s in seeds[r]]) - values.mean()
        assert resampled.draws[r, 0] == pytest.approx(by_user + by_seed * np.sqrt(3 / 2))


def test_a_share_of_the_same_runs_has_no_uncertainty():
    full = random_values(3, 40) + np.array([[0.0], [0.5], [1.0]])
    found = resample_figures([0.9 * full, full], ["nested", "nested"]).ratio(0, 1)
    assert (found.low, found.high) == pytest.approx((0.9, 0.9))
    apart = resample_figures([0.9 * full, full], ["nested", "separate"]).ratio(0, 1)
    assert apart.low < 0.85 and apart.high > 0.95, "other runs have seeds of their own"


def test_seeds_that_differ_widen_the_interval_as_the_theory_says():
    # No user noise: the standard error of a mean of S seeds is sd / sqrt(S), sd with S - 1.
    by_seed = np.random.default_rng(0).normal(size=12)
    draws = resample_figures([np.tile(by_seed[:, None], 2)], ["a"], num_resamples=20_000).draws
    assert draws.std() == pytest.approx(by_seed.std(ddof=1) / np.sqrt(12), rel=0.03)


def test_a_ratio_to_nothing_has_no_interval():
    figures = resample_figures([random_values(1, 5), np.zeros((1, 5))], ["a", "b"])
    assert np.isnan(figures.ratio(0, 1).low) and np.isnan(figures.ratio(0, 1).high)


def test_figures_that_cannot_be_paired_are_refused():
    with pytest.raises(ProtocolError, match=r"same users, found \[4, 5\]"):
        resample_figures([random_values(1, 5), random_values(1, 4)], ["a", "b"])
    with pytest.raises(ProtocolError, match="of 2 and of 1 seeds"):
        resample_figures([random_values(2, 5), random_values(1, 5)], ["a", "a"])


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 9), st.integers(0, 99))
def test_an_interval_holds_what_lies_between_the_extremes(seeds, users, seed):
    values = random_values(seeds, users, seed)
    found = resample_figures([values], ["a"], num_resamples=200, seed=seed).estimate(0)
    assert found.low <= found.high
    room = np.ptp(values) * (1 + np.sqrt(2))
    assert found.value - room <= found.low and found.high <= found.value + room
