"""Data sets of frames: which kinds come in, what is decided at the door, what is refused."""

import gc

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import recsys
from recsys.data.dataset import load_dataset
from recsys.errors import DataError

ROWS = pl.DataFrame(
    {
        "who": ["b", "a", "b", "a", "b", "a"],
        "what": ["x", "y", "z", "x", "y", "z"],
        "when": [30, 10, 20, 30, 10, 20],
        "stars": [5.0, 4.0, 3.0, 5.0, 4.0, 3.0],
    }
)


class Stream:
    """What DuckDB's relations and many others are, as far as this package asks."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def of(frame, **options):
    return recsys.Dataset.from_frame(frame, user="who", item="what", **options)


def histories(data):
    items, users = data.item_frame()["item_id"], data.user_frame()["user_id"]
    return {
        user: [items[int(i)] for i in data.items[data.offsets[u] : data.offsets[u + 1]]]
        for u, user in enumerate(users)
    }


KINDS = {
    "polars": ROWS,
    "lazy": ROWS.lazy(),
    "pandas": ROWS.to_pandas(),
    "arrow": ROWS.to_arrow(),
    "a stream": Stream(ROWS.to_arrow()),
    "categories": ROWS.with_columns(pl.col("who", "what").cast(pl.Categorical)),
    "shuffled": ROWS.sample(fraction=1.0, shuffle=True, seed=1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_every_library_and_order_are_the_same_data(kind):
    data = of(KINDS[kind], time="when", weight="stars")
    assert histories(data) == {"a": ["y", "z", "x"], "b": ["y", "z", "x"]}
    assert data.manifest.content_hash == of(ROWS, time="when", weight="stars").manifest.content_hash


def test_equal_times_stay_in_the_order_given():
    rows = pl.DataFrame({"who": ["a"] * 4, "what": list("dcba"), "when": [1, 2, 2, 1]})
    assert histories(of(rows, time="when")) == {"a": ["d", "a", "c", "b"]}


def test_a_given_order_must_be_said_where_there_are_no_times():
    assert histories(of(ROWS, order="given"))["b"] == ["x", "z", "y"]
    assert of(ROWS, order="given").timestamps is None
    assert histories(of(ROWS, time="when", order="given"))["b"] == ["x", "z", "y"]
    with pytest.raises(DataError, match=r"name the column of times .*order='given'"):
        of(ROWS)


def test_whole_numbers_stay_whole_numbers_however_they_are_stored():
    rows = pl.DataFrame({"who": [1.0, 1.0, 2.0], "what": [7, 8, 7]})
    data = of(rows, order="given")
    assert data.user_frame()["user_id"].to_list() == ["1", "2"]
    assert data.item_frame()["item_id"].to_list() == [7, 8]


def test_times_of_a_zone_are_stored_as_utc_and_repeated_rows_are_kept_and_both_are_told():
    noon = pl.Series([1_700_000_000, 1_700_000_000, 1_700_003_600]).cast(pl.Int64) * 1_000_000
    when = noon.cast(pl.Datetime("us", "UTC")).dt.convert_time_zone("Europe/Berlin")
    rows = pl.DataFrame({"who": ["a"] * 3, "what": ["x", "x", "y"], "when": when})
    data = of(rows, time="when")
    assert data.timestamps.tolist() == [1_700_000_000, 1_700_000_000, 1_700_003_600]
    notes = " ".join(data.manifest.notes)
    assert "times of Europe/Berlin are stored as UTC" in notes
    assert "1 rows say user, item and time of another row once more" in notes


def test_titles_come_along():
    items = pl.DataFrame({"what": ["x", "y", "z"], "title": ["X!", "Y!", "Z!"]})
    data = of(ROWS, time="when", items=items)
    assert set(data.item_frame()["title"]) == {"X!", "Y!", "Z!"}


def test_a_temporary_folder_goes_with_its_data_set_and_a_named_one_stays(tmp_path):
    data = of(ROWS, time="when")
    folder = data.folder
    assert folder.is_dir() and data.temporary
    del data
    gc.collect()
    assert not folder.exists()
    kept = of(ROWS, time="when", out=tmp_path / "kept")
    assert not kept.temporary and load_dataset(tmp_path / "kept").num_users == 2


WRONG = {
    "no such column": ({"user": "nobody"}, "there is no column 'nobody'.*user="),
    "one column for two things": ({"user": "what"}, "named twice"),
    "no order": ({"time": None}, "nothing says in which order"),
    "a null id": ({"rows": pl.lit(None, pl.String).alias("who")}, "who|user_id has no value"),
    "a NaN id": ({"rows": pl.lit(float("nan")).alias("what")}, "item_id has no value in row 0"),
    "half an id": ({"rows": pl.lit(1.5).alias("what")}, "holds 1.5"),
    "lists of ids": ({"rows": pl.concat_list("what").alias("what")}, r"item_id holds List"),
    "structs of ids": ({"rows": pl.struct("what").alias("who")}, r"user_id holds Struct"),
    "times that are none": ({"rows": pl.lit("soon").alias("when")}, "which is not a time"),
    "weights that are none": (
        {"weight": "stars", "rows": pl.lit("good").alias("stars")}, "weight holds",
    ),
    "no rows": ({"rows": False}, "there are no interactions"),
    "no frame": ({"rows": 3}, "found int"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_frame_that_cannot_be_read_is_refused_and_leaves_nothing(name, tmp_path):
    changes, told = WRONG[name]
    options = {"user": "who", "item": "what", "time": "when", **changes}
    change = options.pop("rows", None)
    rows = ROWS
    if change is False:
        rows = ROWS.clear()
    elif isinstance(change, int):
        rows = change
    elif change is not None:
        rows = ROWS.with_columns(change)
    with pytest.raises(DataError, match=told):
        recsys.Dataset.from_frame(rows, out=tmp_path / "data", **options)
    assert not list(tmp_path.iterdir())


def test_nested_types_of_arrow_and_pandas_are_refused_alike():
    lists = pd.DataFrame({"who": [["a"], ["b"]], "what": ["x", "y"]})
    for rows in (lists, pa.table({"who": [["a"], ["b"]], "what": ["x", "y"]})):
        with pytest.raises(DataError, match="user_id holds List"):
            of(rows, order="given")
