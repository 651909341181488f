from collections import Counter

import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.filters import apply_filters, at_least, k_core, without_repetitions
from recsys.errors import DataError

pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=60)


def frame_of(rows, *, text=False, **extra):
    users, items = [user for user, _ in rows], [item for _, item in rows]
    dtype = pl.String if text else pl.Int64
    data = {
        "user_id": pl.Series(users, dtype=pl.Int64),
        "item_id": pl.Series(items, dtype=pl.Int64),
    }
    frame = pl.DataFrame(data).cast(dtype)
    return frame.with_columns(row=pl.int_range(pl.len()), **extra)


def naive_k_core(rows, user_count, item_count):
    kept = list(enumerate(rows))
    while True:
        users = Counter(user for _, (user, _) in kept)
        items = Counter(item for _, (_, item) in kept)
        fewer = [
            (row, (user, item))
            for row, (user, item) in kept
            if users[user] >= user_count and items[item] >= item_count
        ]
        if fewer == kept:
            return [row for row, _ in kept]
        kept = fewer


@given(pairs, st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_k_core_keeps_the_rows_that_a_loop_keeps(rows, user_count, item_count, text):
    kept = k_core(frame_of(rows, text=text), user_count, item_count)
    assert kept["row"].to_list() == naive_k_core(rows, user_count, item_count)


@given(pairs, st.booleans())
def test_of_repeated_pairs_the_first_or_the_last_stays(rows, text):
    frame = frame_of(rows, text=text)
    first = {pair: row for row, pair in reversed(list(enumerate(rows)))}
    last = {pair: row for row, pair in enumerate(rows)}
    assert without_repetitions(frame, "first")["row"].to_list() == sorted(first.values())
    assert without_repetitions(frame, "last")["row"].to_list() == sorted(last.values())


def test_huge_ids_are_no_array_sizes():
    frame = frame_of([(10**15, 1), (10**15, 2), (3, 1)])
    assert k_core(frame, 2, 1)["row"].to_list() == [0, 1]


def test_the_minimum_itself_is_kept():
    frame = frame_of([(1, 1), (1, 2), (1, 3)], weight=pl.Series([3.0, 4.0, 3.5]))
    assert at_least(frame, 3.5)["row"].to_list() == [1, 2]


def test_a_minimum_rating_needs_ratings():
    with pytest.raises(DataError, match="has no ratings"):
        apply_filters(frame_of([(1, 1)]), min_weight=3)


def test_nothing_left_names_the_filters():
    with pytest.raises(DataError, match=r"no interactions are left.*k-core: every user >= 5"):
        apply_filters(frame_of([(1, 1), (1, 2)]), min_user_count=5)


def test_filters_run_by_weight_then_repetition_then_core_and_say_so():
    rows = [(1, 1), (1, 1), (1, 2), (2, 1), (2, 2)]
    weight = pl.Series([5.0, 1.0, 5.0, 5.0, 5.0])
    frame, lines = apply_filters(
        frame_of(rows, weight=weight),
        min_weight=2,
        deduplicate="last",
        min_user_count=2,
        min_item_count=2,
    )
    # The later (1, 1) falls to its weight before repetitions are looked at, so the first stays.
    assert frame["row"].to_list() == [0, 2, 3, 4]
    assert [line.split()[0] for line in lines] == ["weight", "of", "k-core:"]


def test_a_frame_of_pandas_is_filtered_as_one_of_polars_is():
    frame = pl.DataFrame(
        {"user_id": [1, 1, 1, 2], "item_id": [5, 5, 6, 5], "weight": [1.0, 4.0, 5.0, 3.0]}
    )
    pandas = pd.DataFrame(frame.to_dict(as_series=False))
    asked = {"min_weight": 3, "deduplicate": "first", "min_user_count": 2}
    assert apply_filters(pandas, **asked)[0].equals(apply_filters(frame, **asked)[0])
