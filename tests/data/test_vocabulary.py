import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import vocabulary
from recsys.data.vocabulary import Vocabulary, compact, places_by_id
from recsys.errors import DataError

ids = st.lists(st.sampled_from(["a", "b", "c", "", "ä", "007", "7", " a"]), min_size=1, max_size=40)


@given(ids)
def test_ids_come_back_from_their_indices(values):
    series = pl.Series(values)
    words = Vocabulary.of(series)
    assert words.decode(words.encode(series)).to_list() == values


@given(ids)
def test_indices_follow_the_order_of_first_appearance(values):
    words = Vocabulary.of(pl.Series(values))
    order = list(dict.fromkeys(values))
    assert words.ids.to_list() == order
    assert words.encode(pl.Series(values)).tolist() == [order.index(value) for value in values]


def test_an_unknown_id_is_named():
    with pytest.raises(DataError, match="'z' is not among the 2 known ids"):
        Vocabulary.of(pl.Series(["x", "y"])).encode(pl.Series(["y", "z"]))


@pytest.mark.parametrize("index", [-1, 2])
def test_an_index_outside_the_vocabulary_is_refused(index):
    with pytest.raises(DataError, match=r"outside 0\.\.1"):
        Vocabulary.of(pl.Series(["x", "y"])).decode(np.array([0, index]))


@given(st.lists(st.integers(0, 12), max_size=50), st.integers(1, 7))
def test_compacted_codes_are_those_of_a_loop_whatever_the_block(codes, block):
    seen: dict[int, int] = {}
    expected = [seen.setdefault(code, len(seen)) for code in codes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "_BLOCK", block)
        new, rows = compact(np.array(codes, dtype=np.int64))
    assert new.tolist() == expected
    assert rows.tolist() == [codes.index(code) for code in seen]


def test_ids_are_sorted_as_numbers_where_they_are_numbers_and_as_text_elsewhere():
    ids = pl.Series(["b", "10", "2", "a", "007", "0"])
    assert ids[np.argsort(places_by_id(ids))].to_list() == ["0", "2", "10", "007", "a", "b"]
    numbers = pl.Series([30, 4, 100])
    assert places_by_id(numbers).tolist() == [1, 0, 2]
