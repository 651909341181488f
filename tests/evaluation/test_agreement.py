"""Lists and scores against the expected ones: rounding is no difference, anything more is."""

import numpy as np
import pytest

from recsys.evaluation.agreement import agreement, rounding, score_difference
from recsys.evaluation.tradeoff.sweep import Queries
from recsys.retrieval.filters import make_filters

DIM, N, K = 64, 40, 5


def case(seed=0, normalize=False):
    rng = np.random.default_rng(seed)
    items = rng.standard_normal((N, DIM)).astype(np.float32)
    users = (rng.standard_normal((3, DIM)) * 4).astype(np.float32)
    items[7] = items[3]
    items[7, 0] = np.nextafter(items[3, 0], 9)  # nearly alike: float32 cannot tell their scores
    users[:, 0] = 1.0
    users += items[3]
    norms = np.linalg.norm(items, axis=1) if normalize else None
    scores = users.astype(np.float64) @ items.T.astype(np.float64)
    scores = scores if norms is None else scores / norms
    order = np.argsort(-scores, axis=1, kind="stable")
    return Queries(users, make_filters(3, N), None, None), items, norms, order, scores


def swapped(lists, row, a, b):
    """The two items in each other's place, wherever they stand."""
    changed = lists.copy()
    changed[row] = np.where(lists[row] == a, b, np.where(lists[row] == b, a, lists[row]))
    return changed


@pytest.mark.parametrize("normalize", [False, True])
def test_two_items_that_float32_cannot_tell_apart_may_change_places(normalize):
    queries, items, norms, order, scores = case(normalize=normalize)
    wanted = order[:, :K]
    assert 3 in wanted[0] and abs(scores[0, 3] - scores[0, 7]) < 1e-5
    found = agreement(swapped(wanted, 0, 3, 7), wanted, queries, items, norms)
    assert (found.same, found.close, found.holds) == (2, 1, True)
    assert "2 of 3 users, and for 1 but for scores that float32 cannot tell apart" in str(found)


@pytest.mark.parametrize("normalize", [False, True])
def test_items_further_apart_may_not_and_the_places_are_named(normalize):
    queries, items, norms, order, _ = case(normalize=normalize)
    wanted = order[:, :K]
    a, b = wanted[1, 0], wanted[1, 4]
    found = agreement(swapped(wanted, 1, a, b), wanted, queries, items, norms)
    assert (found.same, found.close, found.holds) == (2, 0, False)
    assert found.worst.startswith(f"row 1, place 1: item {b} scores ")
    other = np.where(wanted == a, order[1, K], wanted)  # one that is none of the best
    assert not agreement(other, wanted, queries, items, norms).holds


def test_a_list_that_ends_early_is_another_list():
    queries, items, norms, order, _ = case()
    short = order[:, :K].copy()
    short[2, -1] = -1
    assert not agreement(short, order[:, :K], queries, items, norms).holds
    assert agreement(short, short, queries, items, norms).same == 3


def test_what_float32_explains_covers_any_order_of_adding_up():
    """Sums from either end and from the largest products on: all within the bound, a wrong not."""
    queries, items, _, order, _ = case(3)
    users, filters = queries.users, queries.filters
    listed = order[:, :K]
    products = users[:, None, :] * items[listed]
    by_size = np.take_along_axis(products, np.argsort(-np.abs(products), axis=2), axis=2)
    for way in (products, products[:, :, ::-1], by_size):
        scores = np.add.accumulate(way, axis=2, dtype=np.float32)[:, :, -1]
        off = score_difference(items, None, users, listed, scores, DIM, filters)
        wrong = score_difference(items, None, users, listed, scores + 1, DIM, filters)
        assert 0 < off <= rounding(DIM) < wrong
    assert rounding(256) < 2e-5
