"""Diversity of categories beside a plain loop, and categories of columns."""

import tracemalloc

import numpy as np
import polars as pl
import pytest

from recsys.errors import DataError
from recsys.rankers.lists.base import Known, Ranked, relevance
from recsys.rankers.lists.categories import CategoriesConfig, ItemCategories, diversified
from recsys.rankers.lists.steps import STEPS, last_stage

COLUMN = pl.Series(["a|b", "b", None, "c | a", "", "c", "b", "a"])


def cases():
    rng = np.random.default_rng(0)
    items = np.stack([rng.permutation(8)[:6] for _ in range(9)])
    scores = -np.sort(-rng.normal(size=items.shape).astype(np.float32), axis=1)
    items[4, 3:], scores[4, 3:] = -1, -np.inf
    return items, scores


def flags(categories):
    """`[N, G]`."""
    found = np.zeros((len(categories.offsets) - 1, int(categories.codes.max(initial=0)) + 1), bool)
    found[np.repeat(np.arange(len(found)), np.diff(categories.offsets)), categories.codes] = True
    return found


def differ(one, other):
    """Of what has no category nothing is known, so it is not known to differ either."""
    return bool(one and other and not one & other)


def test_items_without_a_category_are_not_favoured():
    column = pl.Series(["a", "a", "b", None, ""])
    items, scores = np.arange(5)[None], -np.arange(5, dtype=np.float32)[None]
    found, _ = diversified(items, scores, ItemCategories.of(column), 10.0, 3)
    assert found.tolist() == [[0, 2, 1]]


def test_each_place_goes_to_what_is_worth_most_with_the_list_so_far():
    items, scores = cases()
    kinds = [{x.strip() for x in (text or "").split("|")} - {""} for text in COLUMN]
    for strength in (0.0, 0.1, 2.0):
        found, told = diversified(items, scores, ItemCategories.of(COLUMN), strength, 4)
        good = relevance(scores)
        for row, candidates in enumerate(items.tolist()):
            listed: list[int] = []
            while len(listed) < min(4, sum(item >= 0 for item in candidates)):
                left = [c for c, item in enumerate(candidates) if item >= 0 and item not in listed]
                worth = [
                    good[row, c]
                    + strength * sum(differ(kinds[x], kinds[candidates[c]]) for x in listed)
                    for c in left
                ]
                listed.append(candidates[left[int(np.argmax(worth))]])
            assert [item for item in found[row] if item >= 0] == listed
            own = dict(zip(candidates, scores[row], strict=True))
            assert [told[row, place] for place in range(len(listed))] == [own[x] for x in listed]
        if strength == 0:
            np.testing.assert_array_equal(found, items[:, :4])


def test_categories_of_a_column_are_read_as_lists_or_as_text():
    text = ItemCategories.of(COLUMN)
    told = [["a", "b"], ["b"], [], ["c", "a"], None, ["c"], ["b"], ["a"]]
    lists = ItemCategories.of(pl.Series(told))
    np.testing.assert_array_equal(flags(text), flags(lists))
    assert flags(text).tolist()[3] == [True, False, True]
    fixed = pl.Series([["a", "b"], ["b", "b"]], dtype=pl.Array(pl.String, 2))
    assert flags(ItemCategories.of(fixed)).tolist() == [[True, True], [False, True]]
    with pytest.raises(DataError, match="column x holds List"):
        ItemCategories.of(pl.Series("x", [[["a"]]]))
    nothing = ItemCategories.of(pl.Series([None, None], dtype=pl.String))
    assert nothing.offsets.tolist() == [0, 0, 0]


def test_it_is_a_step_of_the_last_stage():
    items, scores = cases()
    known = Known(categories=flags(ItemCategories.of(COLUMN)))
    step = STEPS.find("categories")(strength=0.4)
    assert isinstance(step, CategoriesConfig)
    lists = last_stage(Ranked(items, scores), [step], known, 4).items
    wanted, _ = diversified(items, scores, ItemCategories.of(COLUMN), 0.4, 4)
    np.testing.assert_array_equal(lists, wanted)


@pytest.mark.parametrize("tags", [1, 3])
def test_what_lists_take_does_not_grow_with_the_number_of_categories(tags):
    """By a column of which every item has its own value, a table of the candidates by their
    categories would take 1.6 GB.
    """
    items = np.arange(40_000).reshape(400, 100)
    scores = np.tile(-np.arange(100, dtype=np.float32), (400, 1))
    names = [[f"{tag} of {item}" for tag in range(tags)] for item in range(items.size)]
    categories = ItemCategories.of(pl.Series(names))
    tracemalloc.start()
    found, _ = diversified(items, scores, categories, 0.5, 20)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, items[:, :20])  # all differ: the order of scores
    assert most < 200e6
