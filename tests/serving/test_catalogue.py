"""Items by external id: histories and filters in, lists out."""

import re

import numpy as np
import polars as pl
import pytest

from recsys.errors import DataError
from recsys.retrieval.bundle.loading import load_bundle
from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.writing import BundleSource, write_bundle
from recsys.retrieval.bundle_funnel import open_funnel
from recsys.retrieval.filters import make_filters
from recsys.serving.catalogue import Catalogue

NUM = 6
IDS = ["50", "717", "3", "x y", "0", "5"]


def bundle_of(shelf, ids=IDS, **options):
    """Item i scores 1 + i for the user [1]: the last is the best."""
    items = np.arange(1, NUM + 1, dtype=np.float32)[:, None]
    source = BundleSource(items=items, item_ids=pl.Series(ids), sizes=(1,), **options)
    return load_bundle(write_bundle(shelf, source, parse_tiers("0:1:fp32:ram", 1)))


def found(bundle, histories, *, k=NUM, **options):
    catalogue = Catalogue(bundle)
    filters = catalogue.filters(*catalogue.histories(histories), **options)
    users = np.ones((len(histories), 1), np.float32)
    return catalogue.ids(open_funnel(bundle, k=k, threads=1).search(users, filters=filters).items)


def test_ids_become_indices_and_back(tmp_path):
    catalogue = Catalogue(bundle_of(tmp_path / "b"))
    assert catalogue.indices(["717", "50", "717"]).tolist() == [1, 0, 1]
    items, offsets = catalogue.histories([["5", "50"], [], ["3"]])
    assert items.tolist() == [5, 0, 2] and offsets.tolist() == [0, 2, 2, 3]
    assert catalogue.ids(np.array([[1, -1], [4, 0]])) == [["717", None], ["0", "50"]]
    assert catalogue.ids(np.array([1, -1])) == ["717", None]
    assert len(catalogue) == NUM and "50" in catalogue
    assert 50 not in catalogue and "nobody" not in catalogue
    for ids in (np.array(IDS), pl.Series(IDS), tuple(IDS)):
        assert catalogue.indices(ids).tolist() == list(range(NUM))


def test_an_allow_list_of_text_allows_the_items_of_these_ids(tmp_path):
    bundle = bundle_of(tmp_path / "b")
    assert found(bundle, [[]], allowed=["50"], k=2) == [["50", None]]
    assert found(bundle, [["x y"]], blocked=["5", "0"], k=4) == [["3", "717", "50", None]]
    with pytest.raises(DataError, match="looks external ids up"):
        make_filters(1, NUM, allowed=["50"])


def test_numbers_are_ids_where_ids_are_numbers_and_refused_where_they_are_text(tmp_path):
    numbers = Catalogue(bundle_of(tmp_path / "n", ids=[10, 20, 30, 40, 50, 60]))
    assert numbers.indices([50, np.int64(10)]).tolist() == [4, 0]
    for wrong in (["50"], [5.0], [True], [None], [[50]]):
        with pytest.raises(DataError, match="are whole numbers, such as 10"):
            numbers.indices(wrong)
    texts = Catalogue(bundle_of(tmp_path / "t"))
    for wrong in ([50], np.array([1, 2]), [b"50"], [None], [["50"]]):
        with pytest.raises(DataError, match="are text, such as '50'"):
            texts.indices(wrong)


def test_what_the_bundle_does_not_have_is_named(tmp_path):
    catalogue = Catalogue(bundle_of(tmp_path / "b"))
    for ask in (catalogue.indices, lambda ids: catalogue.histories([["50"], ids])):
        with pytest.raises(DataError, match=r"has no item 'a', 'b', 'c' and 1 more"):
            ask(["50", "a", "b", "c", "d"])
    for wrong in ("50", 50, None):
        with pytest.raises(DataError, match="not a list of item ids"):
            catalogue.indices(wrong)
    with pytest.raises(DataError, match="not a list of item ids"):
        catalogue.histories(["50", "3"])
    with pytest.raises(DataError, match="not histories"):
        catalogue.histories("50")


def test_places_that_are_no_items_are_refused(tmp_path):
    catalogue = Catalogue(bundle_of(tmp_path / "b"))
    for wrong, told in (
        ([NUM], "-1..5"), ([-2], "-1..5"), ([0.0], "integer"), (["50"], "looks"), (3, "shape"),
        ([[[1]]], "shape"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=re.escape(told)):
            catalogue.ids(np.array(wrong))


def test_filters_do_as_the_protocol_of_the_run_does(tmp_path):
    """The s3rec protocol leaves out what a user has had; fmrlrec does not, and raises its score."""
    history = [["5"], ["50", "3"]]
    leaves_out = bundle_of(tmp_path / "a", protocol={"filter_seen": True})
    assert found(leaves_out, history, k=2) == [["0", "x y"], ["5", "0"]]
    assert found(leaves_out, history, k=2, filter_seen=False) == [["5", "0"], ["5", "0"]]
    elsewhere = bundle_of(tmp_path / "b")
    assert found(elsewhere, history, k=2) == [["0", "x y"], ["5", "0"]]
    keeps = bundle_of(tmp_path / "c", protocol={"filter_seen": False})
    assert found(keeps, history, k=2) == [["5", "0"], ["5", "0"]]
    assert found(keeps, history, k=2, filter_seen=True) == [["0", "x y"], ["5", "0"]]
    raises = bundle_of(tmp_path / "d", protocol={"filter_seen": False}, repeats={1: 10.0})
    assert found(raises, history, k=2) == [["5", "0"], ["3", "50"]]


def test_histories_that_do_not_fit_are_refused(tmp_path):
    catalogue = Catalogue(bundle_of(tmp_path / "b"))
    for items, offsets in (([1], [0, 2]), ([NUM], [0, 1]), ([1], 1), ([1], []), (["50"], [0, 1])):
        with pytest.raises(DataError, match="histories"):
            catalogue.filters(items, offsets)


def test_an_id_that_stands_for_two_items_is_not_looked_up(tmp_path):
    with pytest.raises(DataError, match="occurs twice"):
        Catalogue(bundle_of(tmp_path / "b", ids=["a"] * NUM))
    with pytest.raises(DataError, match="load_bundle"):
        Catalogue(str(tmp_path / "b"))
