"""Data sets prepared like an existing one: every index stays, new ids come after."""

import numpy as np
import polars as pl
import pytest

from data_prep import PrepareOptions, prepare
from recsys.data.dataset import Dataset, SplitRule, load_dataset
from recsys.errors import ConfigError, DataError

OLD = pl.DataFrame(
    {
        "user_id": ["b", "b", "a", "a", "c"],
        "item_id": ["x", "y", "y", "z", "x"],
        "timestamp": [10, 20, 30, 40, 50],
    }
)
NEW = pl.DataFrame(
    {
        "user_id": ["d", "a", "a", "0"],
        "item_id": ["new", "y", "x", "newer"],
        "timestamp": [60, 35, 70, 80],
    }
)
TITLES = pl.DataFrame({"item_id": ["x", "y", "z"], "title": ["X", "Y", "Z"]})


def made(frame, **options):
    return Dataset.from_frame(frame, time="timestamp", **options)


def rows_of(dataset):
    """`(user, item, time)` by external ids, in the order of the data set."""
    users = dataset.user_frame()["user_id"].to_list()
    items = dataset.item_frame()["item_id"].to_list()
    owners = np.repeat(np.arange(dataset.num_users), np.diff(dataset.offsets))
    times = dataset.timestamps
    return [(users[u], items[i], t) for u, i, t in zip(owners, dataset.items, times, strict=True)]


@pytest.fixture
def old():
    return made(OLD, items=TITLES, name="shop", split=SplitRule(name="global-time"))


def starts_with(new, old):
    for frame, column in (("user_frame", "user_id"), ("item_frame", "item_id")):
        before = getattr(old, frame)()[column]
        assert getattr(new, frame)()[column].head(len(before)).to_list() == before.to_list()


def test_ids_keep_their_index_also_those_that_vanish(old):
    grown = made(NEW, like=old)
    starts_with(grown, old)
    assert rows_of(grown) == [
        ("a", "y", 35), ("a", "x", 70), ("0", "newer", 80), ("d", "new", 60)
    ]  # fmt: skip
    assert grown.user_frame()["user_id"].to_list()[3:] == ["0", "d"]
    assert (grown.num_users, grown.num_items) == (5, 5)
    assert np.diff(grown.offsets).tolist() == [2, 0, 0, 1, 1]


def test_appended_rows_stand_in_the_order_of_time_after_equal_ones(old):
    late = NEW.vstack(pl.DataFrame({"user_id": ["a"], "item_id": ["x"], "timestamp": [40]}))
    grown = made(late, like=old, append=True)
    starts_with(grown, old)
    times = [(item, time) for user, item, time in rows_of(grown) if user == "a"]
    assert times == [("y", 30), ("y", 35), ("z", 40), ("x", 40), ("x", 70)]
    assert len(rows_of(grown)) == len(OLD) + len(late)


def test_the_old_data_set_stays_and_its_name_split_and_content_go_along(old):
    before = {path.name: path.read_bytes() for path in old.folder.iterdir()}
    grown = made(NEW, like=old, items=pl.DataFrame({"item_id": ["new", "x"], "title": ["N", "!"]}))
    told = dict(grown.item_frame().select("item_id", "title").rows())
    assert told == {"x": "!", "y": "Y", "z": "Z", "new": "N", "newer": None}
    assert grown.manifest.name == "shop" and grown.manifest.split.name == "global-time"
    assert {path.name: path.read_bytes() for path in old.folder.iterdir()} == before
    assert made(NEW, like=old).item_frame()["title"].to_list() == ["Y", "Z", "X", None, None]


def test_whole_numbers_stay_whole_numbers_and_meet_text(tmp_path):
    numbers = pl.DataFrame({"user_id": [7, 8], "item_id": [1, 2], "timestamp": [1, 2]})
    old = made(numbers, out=tmp_path / "old")
    grown = made(
        pl.DataFrame({"user_id": ["8", "9"], "item_id": [2, 3], "timestamp": [3, 4]}), like=old
    )
    assert grown.user_frame()["user_id"].to_list() == [7, 8, 9]
    text = made(numbers.with_columns(user_id=pl.Series(["8", "007"])), like=tmp_path / "old")
    assert text.user_frame()["user_id"].to_list() == ["7", "8", "007"]


def test_what_cannot_be_appended_is_refused_and_nothing_is_left(old, tmp_path):
    with pytest.raises(DataError, match="append=True adds rows to a data set: name it"):
        made(NEW, append=True)
    weighted = NEW.with_columns(weight=pl.lit(1.0))
    with pytest.raises(DataError, match=r"timestamp, the new rows have .*weight"):
        made(weighted, weight="weight", like=old, append=True, out=tmp_path / "new")
    with pytest.raises(DataError, match="choose another folder for the new one"):
        made(NEW, like=old, out=old.folder)
    with pytest.raises(DataError, match="is not a dataset folder"):
        made(NEW, like=tmp_path / "nowhere", out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_prepare_keeps_indices_with_the_whole_file_and_with_new_rows_alone(tmp_path):
    OLD.write_csv(tmp_path / "old.csv")
    NEW.write_csv(tmp_path / "new.csv")
    pl.concat([OLD, NEW]).sample(fraction=1, shuffle=True, seed=0).write_csv(tmp_path / "all.csv")
    old = prepare("csv", source=tmp_path / "old.csv", out=tmp_path / "old")
    whole = prepare(
        "csv", PrepareOptions(like=old.folder), source=tmp_path / "all.csv", out=tmp_path / "all"
    )
    added = prepare(
        "csv", PrepareOptions(like=old.folder, append=True),
        source=tmp_path / "new.csv", out=tmp_path / "added",
    )  # fmt: skip
    for grown in (whole, added):
        starts_with(grown, old)
        assert sorted(rows_of(grown)) == sorted(pl.concat([OLD, NEW]).rows())
    assert load_dataset(tmp_path / "old").manifest == old.manifest


def test_prepare_says_which_options_do_not_go_together(tmp_path):
    with pytest.raises(ValueError, match="append adds rows to a data set"):
        PrepareOptions(append=True)
    with pytest.raises(ValueError, match="would count new rows alone"):
        PrepareOptions(append=True, like=tmp_path, min_user_count=5)
    with pytest.raises(ConfigError, match="synthetic does not read like"):
        prepare("synthetic", PrepareOptions(like=tmp_path), out=tmp_path / "made")
