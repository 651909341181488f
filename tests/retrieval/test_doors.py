"""What a search is given: each wrong kind of it is refused in words, whichever door it comes to."""

import re

import numpy as np
import pytest

from recsys.errors import ConfigError, DataError
from recsys.retrieval.bundle.loading import load_bundle
from recsys.retrieval.bundle_funnel import open_funnel
from recsys.retrieval.filters import make_filters
from recsys.retrieval.funnel import Funnel, Stage, parse_stages
from tests.retrieval.bundles import write

N = 300


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return load_bundle(write(tmp_path_factory.mktemp("b") / "out")[0])


@pytest.fixture(scope="module")
def users(bundle):
    return bundle.users.decode(slice(0, 4), 0, 32)


@pytest.fixture(scope="module")
def funnel(bundle):
    return open_funnel(bundle, threads=1)


WRONG_ITEMS = {
    "text": (["50"], "looks external ids up"),
    "objects": (np.array(["a", 3], object), "looks external ids up"),
    "a mask": (np.ones(N, bool), "np.flatnonzero"),
    "floats": ([1.0, 2.0], "integer type"),
    "lists by user": ([[1, 2], [3]], "not an array"),
    "two dimensions": (np.ones((2, 2), int), "one dimension"),
    "a number": (3, "one dimension"),
    "below": ([-1], "0..299"),
    "beyond": ([300], "0..299"),
    "far beyond": (np.array([2**63], np.uint64), "0..299"),
}


@pytest.mark.parametrize("name", WRONG_ITEMS)
@pytest.mark.parametrize("door", ["allowed", "blocked", "seen"])
def test_items_that_are_no_indices_are_refused(door, name):
    given, told = WRONG_ITEMS[name]
    size = len(given) if hasattr(given, "__len__") else 1
    given = (given, np.array([0, size])) if door == "seen" else given
    with pytest.raises(DataError, match=re.escape(told)) as error:
        make_filters(1, N, **{door: given})
    assert f"{door} items" in str(error.value)


WRONG_OFFSETS = {
    "of other users": [0, 3],
    "not from 0": [1, 2, 3],
    "falling": [0, 4, 3],
    "short of the items": [0, 1, 2],
    "beyond the items": [0, 1, 4],
    "floats": [0.0, 1.0, 3.0],
    "none": [],
    "nothing": None,
}


@pytest.mark.parametrize("name", WRONG_OFFSETS)
def test_offsets_that_do_not_fit_are_refused(name):
    with pytest.raises(DataError, match="seen items"):
        make_filters(2, N, seen=(np.array([1, 2, 3]), WRONG_OFFSETS[name]))


def test_seen_items_are_a_pair():
    for wrong in (np.array([1, 2, 3]), ([1], [0, 1], [1]), "ab", 3):
        with pytest.raises(DataError, match="seen"):
            make_filters(2, N, seen=wrong)


def test_lists_of_integers_are_as_good_as_arrays_and_empty_ones_name_nothing():
    a = make_filters(2, N, seen=([3, 1, 3], [0, 2, 3]), allowed=[1, 2], blocked=[])
    arrays = {"allowed": np.array([1, 2], np.uint8), "blocked": np.array([], np.int32)}
    b = make_filters(2, N, seen=(np.array([3, 1, 3], np.int16), np.array([0, 2, 3])), **arrays)
    for field in ("hidden", "seen", "offsets"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    assert a.num_left(N).tolist() == [1, 2]
    assert make_filters(2, N, allowed=[]).num_left(N).tolist() == [0, 0]


def test_numbers_that_are_none_are_refused():
    for wrong in (-1, 2.0, True, "2", None):
        with pytest.raises(ConfigError, match="num_users"):
            make_filters(wrong, N)
        with pytest.raises(ConfigError, match="num_items"):
            make_filters(2, wrong)
    for wrong in ({4: np.nan}, {4: "1"}, {0: 1.0}, {"4": 1.0}, [1.0], 0.5):
        with pytest.raises(ConfigError, match="repeats"):
            make_filters(2, N, repeats=wrong)


WRONG_USERS = {
    "NaN": (lambda u: np.where(np.arange(4)[:, None] == 2, np.nan, u), "row 2"),
    "infinite": (lambda u: np.full_like(u, np.inf), "row 0"),
    "infinite in float32": (lambda u: np.full(u.shape, 1e39), "row 0"),
    "short": (lambda u: u[:, :31], "at least 32"),
    "one user alone": (lambda u: u[0], "at least 32"),
    "text": (lambda u: u.astype(str), "floating-point"),
    "a mask": (lambda u: u > 0, "floating-point"),
    "complex": (lambda u: u.astype(complex), "floating-point"),
    "ragged": (lambda u: [u[0], u[1][:5]], "not an array"),
    "nothing": (lambda u: None, "None"),
}


@pytest.mark.parametrize("name", WRONG_USERS)
def test_user_vectors_that_cannot_be_searched_with_are_refused(funnel, users, name):
    make, told = WRONG_USERS[name]
    for search in (funnel.search, funnel.trace):
        with pytest.raises(DataError, match=re.escape(told)):
            search(make(users))


def test_filters_in_the_place_of_k_are_told_where_they_belong(funnel, users):
    filters = make_filters(4, N)
    with pytest.raises(ConfigError, match="filters=filters"):
        funnel.search(users, filters)
    given = funnel.search(users, filters=filters)
    np.testing.assert_array_equal(given.items, funnel.search(users, None, filters).items)


def test_filters_of_others_are_refused(funnel, users):
    for wrong in (
        make_filters(3, N),
        make_filters(4, N - 1, blocked=[1]),
        make_filters(4, N + 1, seen=([N, 1], [0, 1, 2, 2, 2])),
        [1, 2],
        {"blocked": [1]},
    ):
        for search in (funnel.search, funnel.trace):
            with pytest.raises(DataError, match="filters"):
                search(users, filters=wrong)


def test_a_k_that_is_none_is_refused(bundle, funnel, users):
    for wrong in (0, -1, 2.0, True, "3", [3]):
        with pytest.raises(ConfigError, match="k is"):
            funnel.search(users, wrong)
        with pytest.raises(ConfigError, match="k is"):
            open_funnel(bundle, k=wrong)
    with pytest.raises(ConfigError, match="the last stage keeps 10; open the funnel with k=11"):
        funnel.search(users, 11)
    assert funnel.search(users, np.int64(3)).items.shape == (4, 3)


def test_a_k_beyond_the_catalogue_ends_with_nothing_more(bundle, users):
    found = open_funnel(bundle, k=N + 5, threads=1).search(users)
    assert found.items.shape == (4, N + 5)
    assert (found.items[:, :N] >= 0).all() and (found.items[:, N:] == -1).all()
    assert np.isneginf(found.scores[:, N:]).all()


def test_nobody_finds_nothing(funnel, users):
    assert funnel.search(users[:0]).items.shape == (0, 10)


WRONG_STAGES = ["", "a", "8:5:3,32", "32,8", "0,32", "8:0,32", "8:-5,32", 8, [8, 32], "8:9.5,32"]


@pytest.mark.parametrize("stages", WRONG_STAGES, ids=repr)
def test_stages_that_are_none_are_refused(bundle, stages):
    with pytest.raises(ConfigError):
        open_funnel(bundle, stages=stages)


def test_stages_of_other_numbers_are_refused(bundle):
    for stage in (Stage(8.0, 5), Stage(8, True), Stage(-8, 5), Stage(8, 0), (8, 5), "8"):
        with pytest.raises(ConfigError):
            Funnel(bundle, [stage])
    with pytest.raises(ConfigError):
        Funnel(bundle, "8")
    with pytest.raises(ConfigError, match="as text"):
        parse_stages(8, 10)


def test_threads_are_a_number_of_threads(bundle):
    for wrong in (0, -2, 1.5, True, "2"):
        with pytest.raises(ConfigError, match="threads"):
            open_funnel(bundle, threads=wrong)
        with pytest.raises(ConfigError, match="threads"):
            Funnel(bundle, [Stage(8, 5)], threads=wrong)


def test_a_path_is_no_opened_bundle(bundle):
    for wrong in (str(bundle.folder), bundle.folder, None):
        with pytest.raises(DataError, match="load_bundle"):
            open_funnel(wrong)
