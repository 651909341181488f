"""Features of new items: what is not a feature of that kind is refused, not read as another."""

import re

import numpy as np
import pytest

from recsys.errors import DataError
from recsys.serving.item_tower import NewItemTower


def tower():
    rng = np.random.default_rng(0)
    shapes = {
        "missing": (4, 8), "gate": (4, 4, 8), "bias": (4, 8), "text/weight": (3, 8),
        "text/whitening": (3, 3), "genres/weight": (2, 8), "year/weight": (3, 8),
    }  # fmt: skip
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    arrays |= {"text/centre": np.zeros(3, np.float32), "year/edges": np.float32([0, 1, 2, 3])}
    kinds = {"text": "vectors", "genres": "categories", "year": "numbers"}
    return NewItemTower(("ids", *kinds), kinds, {"genres": ("a", "b")}, arrays)


GOOD = {"text": np.eye(2, 3), "genres": [["a"], []], "year": [1.5, np.nan]}
WRONG = {
    "a text for the names": ("genres", ["a", "b"], "['a'], or []"),
    "no list of names": ("genres", [["a"], None], "or [] where"),
    "names that are not text": ("genres", [["a"], [1]], "names are text"),
    "one name alone": ("genres", "a", "one entry for each"),
    "numbers as text": ("year", ["1", "2"], "numbers are expected"),
    "a mask": ("year", [True, False], "numbers are expected"),
    "columns of numbers": ("year", [[1.0], [2.0]], "one number for each"),
    "an infinite number": ("year", [1.0, np.inf], "infinite"),
    "a number alone": ("year", 3.0, "one entry for each"),
    "vectors as text": ("text", np.eye(2, 3).astype(str), "numbers are expected"),
    "an infinite vector": ("text", [[1, 2, 3], [1, 1e39, 3]], "infinite"),
    "vectors of other widths": ("text", np.eye(2, 4), "[n, 3] is expected"),
    "ragged vectors": ("text", [[1, 2, 3], [1]], "not an array of numbers"),
    "one vector alone": ("text", [1.0, 2.0], "[n, 3] is expected"),
    "another number of items": ("text", np.eye(3), "as many items each"),
    "nothing": ("text", None, "one entry for each"),
    "a stranger": (7, [1, 2], "not made from 7"),
}


def test_good_features_give_vectors():
    assert tower().vectors(GOOD).shape == (2, 8)
    assert np.isfinite(tower().vectors(GOOD)).all()
    assert tower().vectors({"text": np.empty((0, 3))}).shape == (0, 8)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_feature_of_that_kind_is_refused(name):
    feature, given, told = WRONG[name]
    with pytest.raises(DataError, match=re.escape(told)):
        tower().vectors(GOOD | {feature: given})


def test_features_are_a_mapping():
    for wrong in ([1, 2], "text", None):
        with pytest.raises(DataError, match="a mapping"):
            tower().vectors(wrong)
