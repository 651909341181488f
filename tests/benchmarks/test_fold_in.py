"""`benchmarks.fold_in`: users left out of a fit get their lists by the same formula."""

import numpy as np
import polars as pl
import pytest

import recsys
from benchmarks.fold_in import compare, figures_of, ndcg_of, rows_of


@pytest.fixture(scope="module")
def data():
    """200 users who each walk along a part of a ring of 40 items."""
    rows = [(f"u{u}", f"i{(u + s) % 40}") for u in range(200) for s in range(8)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    return recsys.Dataset.from_frame(frame, order="given")


def test_rows_keep_the_order_of_the_data_set(data):
    rows = rows_of(data)
    assert rows["item_id"].head(9).to_list() == [*(f"i{s}" for s in range(8)), "i1"]


def test_what_is_looked_for_counts_by_its_place():
    wanted = pl.DataFrame({"user_id": ["a", "b", "c"], "item_id": ["x", "y", "z"]})
    lists = pl.DataFrame(
        {"user_id": ["b", "a", "c"], "item_id": ["y", "x", "y"], "rank": [3, 1, 1]}
    )
    assert ndcg_of(lists, wanted).tolist() == [1.0, 0.5, 0.0]


def test_users_who_were_left_out_find_what_they_found_when_trained(data):
    (found,) = compare(data, ["item_knn"], share=0.1, protocol="s3rec")
    assert found.paired.num_users == 20
    assert found.trained > 0.2
    assert found.folded == pytest.approx(found.trained, rel=0.2)
    kept = list(figures_of([found]))
    assert kept[2].value == found.paired.ratio
    assert np.isfinite(kept[2].value)
