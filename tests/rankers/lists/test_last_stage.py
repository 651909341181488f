"""The last stage against plain loops, and its figures by hand."""

import itertools

import numpy as np
import pytest

from recsys.config import parse
from recsys.errors import ConfigError
from recsys.evaluation.lists.metrics import (
    calibration_error,
    intra_list_diversity,
    popularity_lift,
    vendi_score,
)
from recsys.rankers.lists import base
from recsys.rankers.lists.base import Known, Ranked, relevance, tastes_of
from recsys.rankers.lists.calibrate import divergence
from recsys.rankers.lists.steps import STEPS, last_stage

B, K, N, D, G, TOP = 7, 12, 40, 5, 4, 5


@pytest.fixture(scope="module")
def ranked():
    rng = np.random.default_rng(0)
    items = np.stack([rng.permutation(N)[:K] for _ in range(B)])
    scores = -np.sort(-rng.normal(size=(B, K)).astype(np.float32), axis=1)
    items[2, 8:], scores[2, 8:] = -1, -np.inf
    return Ranked(items, scores)


@pytest.fixture(scope="module")
def known():
    rng = np.random.default_rng(1)
    categories = rng.random((N, G)) < 0.4
    histories, offsets = rng.integers(0, N, 30), np.array([0, 3, 9, 10, 15, 20, 22, 30])
    return Known(
        vectors=rng.normal(size=(N, D)).astype(np.float32),
        categories=categories,
        category_names=("war", "love", "crime", "song"),
        tastes=tastes_of(histories, offsets, categories),
        popularity=rng.integers(0, 100, N),
    )


def step(name, **options):
    return parse(STEPS.find(name), {"name": name, **options}, "a test")


def chosen(ranked, known, *steps, k=TOP):
    return last_stage(ranked, steps, known, k).items


def unit(known, item):
    vector = known.vectors[item].astype(np.float64)
    return vector / np.linalg.norm(vector)


def greedy(ranked, known, worth):
    """Lists by loops; `worth(user, list, candidate)`."""
    found = []
    for user in range(B):
        places = []
        for _ in range(TOP):
            free = [p for p in range(K) if p not in places and ranked.items[user, p] >= 0]
            places.append(max(free, key=lambda p: (worth(user, places, p), -p)))
        found.append([ranked.items[user, p] for p in places])
    return np.array(found)


def test_mmr_is_that_of_loops(ranked, known):
    good, of = relevance(ranked.scores), ranked.items

    def worth(user, places, p):
        likest = max(
            (unit(known, of[user, p]) @ unit(known, of[user, q]) for q in places), default=0
        )
        return 0.6 * good[user, p] - 0.4 * likest

    found = chosen(ranked, known, step("mmr", diversity=0.4))
    np.testing.assert_array_equal(found, greedy(ranked, known, worth))


def test_the_dpp_is_the_greedy_largest_determinant(ranked, known):
    quality, of = np.exp(0.5 * 0.6 / 0.4 * relevance(ranked.scores)), ranked.items

    def worth(user, places, p):
        rows = np.stack([unit(known, of[user, q]) * quality[user, q] for q in [*places, p]])
        return np.linalg.slogdet(rows @ rows.T)[1]

    found = chosen(ranked, known, step("dpp", diversity=0.4))
    np.testing.assert_array_equal(found, greedy(ranked, known, worth))


def test_calibrated_lists_are_those_of_loops(ranked, known):
    good, of = relevance(ranked.scores), ranked.items
    shares = known.categories / np.maximum(known.categories.sum(1, keepdims=True), 1)

    def worth(user, places, p):
        mean = np.mean([shares[of[user, q]] for q in [*places, p]], axis=0)
        return 0.3 * good[user, p] - 0.7 * divergence(known.tastes[user], mean)

    found = chosen(ranked, known, step("calibrate", strength=0.7))
    np.testing.assert_array_equal(found, greedy(ranked, known, worth))
    before = calibration_error(ranked.items[:, :TOP], known.categories, known.tastes)
    after = calibration_error(found, known.categories, known.tastes)
    assert after.mean() < before.mean()


def test_blocks_of_users_change_nothing(ranked, known, monkeypatch):
    steps = [step("mmr"), step("dpp"), step("calibrate"), step("caps", most=2)]
    whole = [chosen(ranked, known, each) for each in steps]
    monkeypatch.setattr(base, "BLOCK_BYTES", 1)
    for each, wanted in zip(steps, whole, strict=True):
        np.testing.assert_array_equal(chosen(ranked, known, each), wanted)


@pytest.mark.parametrize(
    ("name", "options"),
    [("mmr", {"diversity": 0}), ("dpp", {"diversity": 0}), ("calibrate", {"strength": 0})],
)
def test_without_weight_a_step_keeps_the_order(ranked, known, name, options):
    found = chosen(ranked, known, step(name, **options))
    np.testing.assert_array_equal(found, ranked.items[:, :TOP])


def test_caps_are_kept(ranked, known):
    found = chosen(ranked, known, step("caps", most=2, categories={"war": 0}))
    for user, items in enumerate(found):
        counts = known.categories[items[items >= 0]].sum(axis=0)
        assert counts[0] == 0 and counts.max() <= 2
        left = np.setdiff1d(ranked.items[user][ranked.items[user] >= 0], items)
        fitting = [
            item
            for item in left
            if not known.categories[item, 0] and (counts + known.categories[item]).max() <= 2
        ]
        assert not ((items < 0).any() and fitting)
    with pytest.raises(ConfigError, match="no category 'sport'"):
        chosen(ranked, known, step("caps", categories={"sport": 1}))


def test_exploration_draws_rare_candidates_into_its_places(known):
    items = np.tile(np.arange(K), (4000, 1))
    ranked = Ranked(items, -np.arange(K, dtype=np.float32)[None].repeat(4000, 0))
    popularity = np.zeros(N, np.int64)
    popularity[[6, 8]] = 99
    told = Known(popularity=popularity)
    found = chosen(ranked, told, step("explore", places=[2, 4], rareness=0.5))
    np.testing.assert_array_equal(found[:, [0, 2, 4]], np.tile([0, 1, 2], (4000, 1)))
    assert (found[:, 1] != found[:, 3]).all() and found[:, [1, 3]].min() == 3
    counts = np.bincount(found[:, 1], minlength=K)
    weights = (popularity[:K] + 1.0) ** -0.5
    wanted = np.where(np.arange(K) >= 3, weights, 0) / weights[3:].sum()
    np.testing.assert_allclose(counts / 4000, wanted, atol=0.03)
    again = chosen(ranked, told, step("explore", places=[2, 4], rareness=0.5))
    np.testing.assert_array_equal(again, found)
    assert (chosen(ranked, told, step("explore", places=[2, 4], seed=1)) != found).any()


def test_steps_follow_each_other_and_doors_speak(ranked, known):
    found = chosen(ranked, known, step("mmr", diversity=0.9), step("caps", most=1))
    assert all(known.categories[items[items >= 0]].sum(0).max() <= 1 for items in found)
    np.testing.assert_array_equal(chosen(ranked, known), ranked.items[:, :TOP])
    with pytest.raises(ConfigError, match="mmr needs vectors of items"):
        chosen(ranked, Known(), step("mmr"))
    with pytest.raises(ConfigError, match="lists of 13 out of 12"):
        chosen(ranked, known, k=13)
    with pytest.raises(ConfigError, match="place 6 is behind"):
        chosen(ranked, known, step("explore", places=[6]))


def test_figures_by_hand():
    vectors = np.array([[2, 0], [0, 3], [1, 0], [0, 0]], np.float32)
    items = np.array([[0, 1], [0, 2], [0, -1]])
    np.testing.assert_allclose(intra_list_diversity(items, vectors), [1, 0, 0], atol=1e-7)
    np.testing.assert_allclose(vendi_score(items, vectors), [2, 1, 1], atol=1e-5)
    rng = np.random.default_rng(0)
    many = rng.normal(size=(9, 4)).astype(np.float32)
    lists = np.array([rng.permutation(9)[:5] for _ in range(6)])
    units = many / np.linalg.norm(many, axis=1, keepdims=True)
    loops = [
        np.mean([1 - units[a] @ units[b] for a, b in itertools.combinations(each, 2)])
        for each in lists
    ]
    np.testing.assert_allclose(intra_list_diversity(lists, many), loops, atol=1e-6)
    popularity = np.array([10, 2, 4, 0])
    lift = popularity_lift(items, popularity, (np.array([1, 1, 0, 2]), np.array([0, 2, 3, 4])))
    np.testing.assert_allclose(lift, [6 / 2 - 1, 7 / 10 - 1, 10 / 4 - 1])
    categories = np.array([[True, False], [False, True], [True, False], [False, False]])
    tastes = np.array([[0.5, 0.5], [0.5, 0.5], [1, 0]], np.float32)
    error = calibration_error(items, categories, tastes)
    half = 0.5 * np.log(0.5 / 0.995) + 0.5 * np.log(0.5 / 0.005)
    np.testing.assert_allclose(error, [0, half, 0], atol=1e-6)
