"""`write_dataset` with frames as people have them: in any order, of any library."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from recsys.data.dataset import write_dataset
from recsys.errors import DataError


def events(num=60, seed=3):
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_id": rng.integers(0, 7, num),
            "item_id": rng.integers(0, 20, num),
            "timestamp": 1_300_000_000 + 60 * rng.permutation(num),
            "weight": rng.random(num).round(2),
        }
    ).sort("timestamp")


def hash_of(folder, frame, **options):
    return write_dataset(folder / "d", frame, name="x", **options).manifest.content_hash


@pytest.mark.parametrize("seed", range(5))
def test_a_shuffled_frame_with_times_is_the_same_data_set(tmp_path, seed):
    frame = events()
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=seed)
    by_user = frame.sort("user_id", "timestamp", descending=[True, False])
    assert hash_of(tmp_path, shuffled) == hash_of(tmp_path, frame) == hash_of(tmp_path, by_user)


def test_the_last_item_in_time_is_the_last_of_the_history_in_any_order(tmp_path):
    frame = events().sample(fraction=1.0, shuffle=True, seed=1)
    dataset = write_dataset(tmp_path / "d", frame, name="x")
    last = dict(frame.group_by("user_id").agg(pl.col("item_id").sort_by("timestamp").last()).rows())
    items, users = dataset.item_frame()["item_id"], dataset.user_frame()["user_id"]
    found = items.gather(dataset.items[dataset.offsets[1:] - 1].astype(np.uint32))
    assert {int(u): int(i) for u, i in zip(users, found, strict=True)} == last


def test_the_given_order_can_be_asked_for_and_is_told_where_there_is_no_time(tmp_path, capsys):
    frame = pl.DataFrame({"user_id": [1, 1], "item_id": [5, 3], "timestamp": [9, 2]})
    given = write_dataset(tmp_path / "d", frame, name="x", order="given")
    assert given.item_frame()["item_id"].to_list() == [5, 3]
    assert given.timestamps.tolist() == [9, 2]
    assert "order in which they are given" not in capsys.readouterr().err
    untimed = write_dataset(tmp_path / "d", frame.drop("timestamp"), name="x")
    assert untimed.item_frame()["item_id"].to_list() == [5, 3]
    assert "order in which they are given" in untimed.manifest.notes[0]
    assert "order in which they are given" in capsys.readouterr().err.replace("\n", " ")
    with pytest.raises(DataError, match="order='time' needs a column timestamp"):
        write_dataset(tmp_path / "d", frame.drop("timestamp"), name="x", order="time")


def test_frames_of_pandas_polars_and_arrow_are_the_same_data_set(tmp_path):
    frame = events()
    pandas = pd.DataFrame(frame.to_dict(as_series=False))
    wanted = hash_of(tmp_path, frame)
    assert hash_of(tmp_path, frame.to_arrow()) == wanted
    assert hash_of(tmp_path, frame.lazy()) == wanted
    assert hash_of(tmp_path, pandas) == wanted
    assert hash_of(tmp_path, pandas.sample(frac=1, random_state=2)) == wanted
    assert hash_of(tmp_path, pandas.assign(item_id=pandas.item_id.astype(float))) == wanted
    assert hash_of(tmp_path, pandas.assign(item_id=pandas.item_id.astype("category"))) == wanted
    when = pd.to_datetime(pandas.timestamp, unit="s", utc=True).dt.tz_convert("Asia/Tokyo")
    assert hash_of(tmp_path, pandas.assign(timestamp=when)) == wanted


def test_item_content_may_be_a_pandas_frame(tmp_path):
    content = pd.DataFrame({"item_id": [3, None, 5], "title": ["three", "none", "five"]})
    frame = pd.DataFrame({"user_id": ["u", "u"], "item_id": [5, 3]})
    dataset = write_dataset(tmp_path / "d", frame, name="x", items=content, order="given")
    assert dataset.item_frame()["title"].to_list() == ["five", "three"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([(1, 2)], "expected, found list"),
        (pd.DataFrame({"user_id": [1, "a", 2.5], "item_id": [1, 2, 3]}), "cannot be read"),
        (pd.DataFrame([[1, 2, 3]], columns=["user_id", "user_id", "item_id"]), "cannot be read"),
        (pd.DataFrame({"user_id": [1], "item_id": [2], "weight": [[1]]}), "no numbers"),
        (pd.DataFrame({"user_id": [1], "item_id": [2], "timestamp": ["soon"]}), "is not a time"),
        (
            pd.DataFrame({"user_id": [1], "item_id": [2], "weight": [1e39]}),
            r"column weight holds 1e\+39 in row 0",
        ),
    ],
)
def test_tables_that_cannot_be_read_are_refused(tmp_path, table, message):
    with pytest.raises(DataError, match=message):
        write_dataset(tmp_path / "d", table, name="x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("column", ["weight", "timestamp"])
def test_a_number_that_is_infinite_is_refused(tmp_path, column):
    frame = pl.DataFrame(
        {"user_id": ["u", "u"], "item_id": ["x", "y"], column: [1.0, float("inf")]}
    )
    with pytest.raises(DataError, match=rf"column {column} holds inf in row 1"):
        write_dataset(tmp_path / "data", frame, name="infinite")
