import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data.splitting import make_split
from recsys.errors import GranularityError, ProtocolError
from recsys.evaluation import bootstrap
from recsys.evaluation.bootstrap import (
    intervals,
    paired_difference,
    resample_often,
    resampled_means,
)
from recsys.evaluation.evaluate import EvaluationOptions, evaluate, rank_held_out
from recsys.evaluation.protocol import PROTOCOLS
from tests.evaluation.ranking.naive import integer_vectors, random_dataset


def test_resamples_equal_a_naive_loop_over_the_same_draws():
    values = np.random.default_rng(1).random((7, 3))
    draws = np.random.default_rng(5).integers(0, 7, size=(20, 7))
    expected = [values[draw].mean(axis=0) for draw in draws]
    means = resampled_means(values, num_resamples=20, seed=5)
    np.testing.assert_allclose(means, expected, atol=1e-6)


def test_blocks_of_resamples_change_nothing(monkeypatch):
    values = np.random.default_rng(1).random((50, 2))
    whole = resampled_means(values, num_resamples=31)
    monkeypatch.setattr(bootstrap, "_BLOCK_BYTES", 8 * 50 * 4)
    np.testing.assert_allclose(resampled_means(values, num_resamples=31), whole, atol=1e-7)


def test_the_interval_of_a_coin_is_the_textbook_one():
    flips = np.repeat([0.0, 1.0], 500)[:, None]
    low, high = intervals(flips, num_resamples=4000)
    half = 1.96 * np.sqrt(0.25 / 1000)
    assert low[0] == pytest.approx(0.5 - half, abs=0.004)
    assert high[0] == pytest.approx(0.5 + half, abs=0.004)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 99))
def test_an_interval_stays_within_the_values(values, seed):
    low, high = intervals(np.array(values)[:, None], num_resamples=50, seed=seed)
    assert min(values) - 1e-6 <= low[0] <= high[0] <= max(values) + 1e-6


def test_a_constant_gain_has_no_uncertainty_when_it_is_paired():
    first = np.random.default_rng(0).random(200)
    result = paired_difference(first, first + 0.25)
    assert result.difference == pytest.approx(0.25)
    assert result.difference_high - result.difference_low < 1e-5
    doubled = paired_difference(first, 2 * first)
    assert doubled.ratio == pytest.approx(2)
    assert doubled.ratio_high - doubled.ratio_low < 1e-4
    assert doubled.difference_low < doubled.difference < doubled.difference_high


def test_different_users_cannot_be_paired():
    with pytest.raises(ProtocolError, match="same users, found 3 and 2"):
        paired_difference(np.zeros(3), np.zeros(2))


def test_the_table_holds_the_interval_of_the_per_user_values(tmp_path):
    dataset = random_dataset(tmp_path / "data", split="leave-last-out")
    split = make_split(dataset)
    model = integer_vectors(dataset.num_users, dataset.num_items)
    table = evaluate(model, dataset, split, protocol=PROTOCOLS["s3rec"], part="test", ks=(5,))
    ranking = rank_held_out(model, dataset, split, part="test", filter_seen=True, ks=(5,))
    users = ranking.per_user("ndcg", 5, 4)
    row = table.rows.filter(segment="all", metric="ndcg", granularity=4).row(0, named=True)
    low, high = intervals(users[:, None])
    assert row["value"] == pytest.approx(users.mean())
    assert (row["low"], row["high"]) == pytest.approx((low[0], high[0]))
    assert row["low"] < row["value"] < row["high"]
    assert len(users) == row["num_users"] == len(ranking.held_out.users)
    with pytest.raises(GranularityError, match="granularity 3 is not among"):
        ranking.per_user("ndcg", 5, 3)


def test_the_same_seed_gives_the_same_table(tmp_path):
    dataset = random_dataset(tmp_path / "data", split="leave-last-out")
    model = integer_vectors(dataset.num_users, dataset.num_items)
    options = {"protocol": PROTOCOLS["s3rec"], "part": "test", "ks": (5,)}
    tables = [
        evaluate(
            model, dataset, make_split(dataset), options=EvaluationOptions(seed=seed), **options
        )
        for seed in (1, 1, 2)
    ]
    assert tables[0].rows.equals(tables[1].rows)
    assert not tables[0].rows.equals(tables[2].rows)


@pytest.mark.parametrize("block_bytes", [1 << 24, 8 * 37])
def test_many_draws_of_users_who_found_something_have_the_law_of_all_draws(
    monkeypatch, block_bytes
):
    monkeypatch.setattr(bootstrap, "_BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(2)
    values = rng.random((120, 2)) * (rng.random((120, 1)) < 0.3)
    found = resample_often(values, num_resamples=20_000)
    spread = np.cov(found.draws, rowvar=False)
    np.testing.assert_allclose(found.draws.mean(axis=0), values.mean(axis=0), rtol=0.01)
    np.testing.assert_allclose(spread, np.cov(values, rowvar=False, ddof=0) / 120, rtol=0.05)
    np.testing.assert_array_equal(found.means, values.mean(axis=0))
    assert found.draws.shape == (20_000, 2) and found.num_users == 120


def test_many_draws_of_users_who_found_nothing_are_0():
    found = resample_often(np.zeros((5, 2)), num_resamples=10)
    assert not found.draws.any() and found.paired(0, 1).verdict == "level"
