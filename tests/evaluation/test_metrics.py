import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.evaluation.metrics import (
    DEFAULT_METRICS,
    METRICS,
    MISS,
    coverage,
    gini,
    novelty,
    ranks_in,
)
from tests.evaluation.ranking.naive import metrics_of

RANKS = st.lists(
    st.lists(st.one_of(st.integers(1, 30), st.just(MISS)), min_size=1, max_size=6),
    min_size=1,
    max_size=8,
)


def jagged(users: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    lengths = [len(ranks) for ranks in users]
    return np.array([rank for ranks in users for rank in ranks]), np.concatenate(
        [[0], np.cumsum(lengths)]
    )


def user_metrics():
    return [(name, METRICS.find(name)) for name in DEFAULT_METRICS]


def test_one_target_at_rank_three_by_hand():
    ranks, offsets = jagged([[3]])
    values = {name: metric(ranks, offsets, (1, 3))[0] for name, metric in user_metrics()}
    assert values["recall"].tolist() == [0, 1]
    assert values["hit"].tolist() == [0, 1]
    assert values["ndcg"].tolist() == [0, 0.5]  # 1 / log2(4)
    assert values["mrr"] == pytest.approx([0, 1 / 3])
    assert values["map"] == pytest.approx([0, 1 / 3])


def test_three_targets_by_hand():
    # Found at 1 and 4, one lost. DCG@5 = 1 + 1/log2(5); ideal = 1 + 1/log2(3) + 1/2.
    ranks, offsets = jagged([[MISS, 4, 1]])
    at_5 = {name: metric(ranks, offsets, (5,))[0, 0] for name, metric in user_metrics()}
    assert at_5["recall"] == pytest.approx(2 / 3)
    assert at_5["hit"] == 1
    assert at_5["ndcg"] == pytest.approx((1 + 1 / math.log2(5)) / (1.5 + 1 / math.log2(3)))
    assert at_5["mrr"] == 1
    assert at_5["map"] == pytest.approx((1 / 1 + 2 / 4) / 3)


@settings(deadline=None)
@given(RANKS, st.integers(1, 30))
def test_every_metric_equals_the_naive_loop(users, k):
    ranks, offsets = jagged(users)
    expected = [metrics_of([math.inf if r == MISS else r for r in user], k) for user in users]
    for name, metric in user_metrics():
        values = metric(ranks, offsets, (k, 2 * k))[:, 0]
        np.testing.assert_allclose(values, [user[name] for user in expected], rtol=1e-12)


@settings(deadline=None)
@given(
    st.lists(st.sets(st.integers(1, 30), min_size=1, max_size=6), min_size=1, max_size=8),
    st.integers(1, 30),
)
def test_every_metric_lies_between_0_and_1_and_is_1_for_the_best_order(users, k):
    ranks, offsets = jagged([list(user) for user in users])
    best, _ = jagged([list(range(1, len(user) + 1)) for user in users])
    for name, metric in user_metrics():
        values = metric(ranks, offsets, (k,))
        assert ((values >= 0) & (values <= 1 + 1e-12)).all()
        if name != "recall":  # k may be too short for all targets
            np.testing.assert_allclose(metric(best, offsets, (k,)), 1)


def test_catalogue_metrics_by_hand():
    assert coverage(np.array([0, 3, 0, 1])) == 0.5
    assert gini(np.array([2, 2, 2, 2])) == 0
    assert gini(np.array([0, 0, 0, 9])) == pytest.approx(3 / 4)
    assert gini(np.array([1, 3])) == pytest.approx(1 / 4)
    # Popularity 3 and 0 of 3 rows and 2 items: p = 4/5 and 1/5.
    expected = (1 * -math.log2(4 / 5) + 3 * -math.log2(1 / 5)) / 4
    assert novelty(np.array([1, 3]), np.array([3, 0])) == pytest.approx(expected)


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=12).filter(any))
def test_gini_equals_the_mean_absolute_difference_form(counts):
    pairs = sum(abs(a - b) for a in counts for b in counts)
    expected = pairs / (2 * len(counts) * sum(counts))
    assert gini(np.array(counts)) == pytest.approx(expected)


def test_nothing_recommended_has_no_gini_and_no_novelty():
    nothing = np.zeros(3, np.int64)
    assert math.isnan(gini(nothing))
    assert math.isnan(novelty(nothing, nothing))


def test_a_list_gives_a_target_the_last_place_among_its_equals():
    items = np.array([[3, 1, 2], [4, -1, -1]])
    scores = np.array([[5.0, 4.0, 4.0], [1.0, -np.inf, -np.inf]], np.float32)
    targets, offsets = np.array([1, 3, 9, 4]), np.array([0, 3, 4])
    assert ranks_in(items, scores, targets, offsets, 3).tolist() == [3, 1, MISS, 1]
    assert ranks_in(items, scores, targets, offsets, 2).tolist() == [MISS, 1, MISS, 1]


@pytest.mark.parametrize("k", [1, 4, 30])
def test_lists_of_an_exact_search_give_the_ranks_of_counting_the_whole_catalogue(k):
    random = np.random.default_rng(k)
    scores = random.integers(0, 4, (50, 20)).astype(np.float32)
    targets, offsets = random.integers(0, 20, 50), np.arange(51)
    order = np.argsort(-scores, axis=1, kind="stable")[:, : k + 1]
    listed = np.take_along_axis(scores, order, axis=1)
    counted = (scores >= scores[np.arange(50), targets][:, None]).sum(axis=1)
    expected = np.where(counted <= k, counted, MISS)
    np.testing.assert_array_equal(ranks_in(order, listed, targets, offsets, k), expected)
