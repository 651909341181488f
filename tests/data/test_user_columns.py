"""Columns of users as categories and numbers, whatever form they come in."""

import datetime
import re

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from recsys.data.features.columns import category_lists, read_categories, read_numbers
from recsys.data.features.user_columns import UserColumns, user_features
from recsys.errors import ConfigError, DataError

FORMS = {
    "text": (["a|b", None, " a ", ""], [["a", "b"], [], ["a"], []]),
    "whole numbers": ([25, None, 3, 25], [["25"], [], ["3"], ["25"]]),
    "whole floats": ([25.0, None, 3.0, float("nan")], [["25"], [], ["3"], []]),
    "floats": ([2.5, None, 3.0, 2.5], [["2.5"], [], ["3"], ["2.5"]]),
    "huge floats": ([1e300, None, 3.0, float("inf")], [["1e+300"], [], ["3"], ["inf"]]),
    "truth": ([True, None, False, True], [["true"], [], ["false"], ["true"]]),
    "lists": ([["b", "b"], None, [], ["c|d"]], [["b"], [], [], ["c|d"]]),
    "nothing": ([None] * 4, [[]] * 4),
}


@pytest.mark.parametrize("form", FORMS)
def test_categories_of_any_form_are_lists_of_texts(form):
    values, wanted = FORMS[form]
    found = read_categories(pl.Series("x", values))
    named = [found.names[value] for value in found.values]
    parts = zip(found.offsets[:-1], found.offsets[1:], strict=True)
    assert [named[lo:hi] for lo, hi in parts] == wanted
    assert category_lists(pl.Series("x", values)).dtype == pl.List(pl.String)


def test_a_value_is_the_same_category_whatever_stands_beside_it():
    alone = category_lists(pl.Series("x", [3.0])).to_list()
    assert category_lists(pl.Series("x", [3.0, 2.5])).to_list()[:1] == alone == [["3"]]


def test_lists_of_lists_are_no_categories():
    with pytest.raises(DataError, match=r"column x holds List.* lists of texts are expected"):
        category_lists(pl.Series("x", [[["a"]]]))


def test_a_category_of_few_rows_is_missing_and_counted():
    found = read_categories(pl.Series(["a", "a|b", "c", "b", "d"]), min_count=2)
    assert found.names == ("a", "b") and found.left_out == 2
    assert np.diff(found.offsets).tolist() == [1, 2, 0, 1, 0]


def test_numbers_are_read_from_text_and_what_is_none_is_refused():
    found = read_numbers(pl.Series(["1.5", None, " ", " 3 "]), "x")
    np.testing.assert_array_equal(found, np.array([1.5, np.nan, np.nan, 3], np.float32))
    for wrong in ("old", "inf", "nan", "1,5"):
        with pytest.raises(DataError, match=f"x holds '{wrong}'"):
            read_numbers(pl.Series(["1", wrong]), "x")
    with pytest.raises(DataError, match="x holds inf"):
        read_numbers(pl.Series([1.0, float("inf")]), "x")
    with pytest.raises(DataError, match=r"x holds 1e\+300"):
        read_numbers(pl.Series([1.0, 1e300]), "x")  # infinite in 32 bits
    found = read_numbers(pl.Series(["007", "1"], dtype=pl.Categorical), "x")
    np.testing.assert_array_equal(found, np.float32([7, 1]))
    found = read_numbers(pl.Series([float("nan"), None, 2.0]), "x")
    np.testing.assert_array_equal(found, np.float32([np.nan, np.nan, 2]))
    for strange in (pl.Series([True]), pl.Series([["1"]]), pl.Series([datetime.date(2024, 1, 1)])):
        with pytest.raises(DataError, match=f"x holds {re.escape(str(strange.dtype))}.*or skip it"):
            read_numbers(strange, "x", "skip it")


def test_features_of_users_mark_what_is_missing_and_have_a_hash_of_their_own():
    frame = pl.DataFrame(
        {"user_index": [0, 1, 2], "club": ["a", "a|b", None], "age": [30.0, None, 20.0]}
    )
    columns = UserColumns(categories=("club",), numbers=("age",), min_count=1)
    found = user_features(frame, columns, "here")
    assert found.num_items == 3 and found.names == ("age", "club")
    assert found.categories["club"].present.tolist() == [True, True, False]
    assert found.numbers["age"].present.tolist() == [True, False, True]
    for changed in (
        frame.with_columns(club=pl.Series(["a", "a|c", None])),
        frame.with_columns(age=pl.Series([30.0, 0.0, 20.0])),
    ):
        assert user_features(changed, columns, "here").features_hash != found.features_hash
    assert user_features(frame, columns, "there").features_hash == found.features_hash
    with pytest.raises(ConfigError, match="column age of the users of here is empty"):
        user_features(frame.with_columns(age=pl.lit(None, pl.Float64)), columns, "here")


def test_a_column_of_text_is_what_it_is_asked_for():
    frame = pl.DataFrame({"user_index": [0, 1, 2], "zip": ["007", "7", None]})
    as_numbers = user_features(frame, UserColumns(numbers=("zip",)), "here").numbers["zip"]
    assert as_numbers.values.tolist() == [7, 7, 0]
    assert as_numbers.present.tolist() == [True, True, False]
    asked = UserColumns(categories=("zip",), min_count=1)
    assert user_features(frame, asked, "here").categories["zip"].names == ("007", "7")
    told = "column zip of the users of here holds 'x'.*name it among the categories"
    with pytest.raises(DataError, match=told):
        wrong = frame.with_columns(zip=pl.Series(["007", "x", None]))
        user_features(wrong, UserColumns(numbers=("zip",)), "here")


@pytest.mark.parametrize("given", [{}, {"numbers": ["a.b"]}, {"categories": ["user_index"]}])
def test_columns_that_cannot_be_are_refused(given):
    with pytest.raises(ValidationError, match=r"column of (the )?users"):
        UserColumns.model_validate(given)
