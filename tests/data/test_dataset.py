import json

import numpy as np
import polars as pl
import pytest

from recsys.data.dataset import (
    INTERACTIONS,
    ITEMS,
    MANIFEST,
    USERS,
    content_hash,
    load_dataset,
    write_dataset,
)
from recsys.errors import ChecksumError, ConfigError, DataError
from recsys.files.checksums import FileEntry

FRAME = pl.DataFrame(
    {
        "user_id": ["u2", "u1", "u2", "u1", "u3"],
        "item_id": ["b", "a", "a", "b", "c"],
        "timestamp": [5, 3, 5, 4, 1],
        "weight": [1.0, 2.0, 3.0, 4.0, 5.0],
    }
)


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "data", FRAME, name="small")


def test_histories_stand_by_user_in_the_order_of_time(dataset):
    assert dataset.offsets.tolist() == [0, 2, 4, 5]
    assert dataset.items.tolist() == [0, 1, 1, 0, 2]
    assert dataset.timestamps.tolist() == [3, 4, 5, 5, 1]
    assert dataset.user_frame()["user_id"].to_list() == ["u1", "u2", "u3"]
    assert dataset.item_frame()["item_id"].to_list() == ["a", "b", "c"]


def test_histories_stand_by_user_in_the_given_order_where_that_is_said(tmp_path):
    dataset = write_dataset(tmp_path / "data", FRAME, name="small", order="given")
    assert dataset.offsets.tolist() == [0, 2, 4, 5]
    assert dataset.items.tolist() == [0, 1, 1, 0, 2]
    assert dataset.timestamps.tolist() == [5, 5, 3, 4, 1]
    assert dataset.user_frame()["user_id"].to_list() == ["u2", "u1", "u3"]
    assert dataset.item_frame()["item_id"].to_list() == ["b", "a", "c"]


def test_item_content_is_joined_by_id_and_unknown_items_are_left_out(tmp_path):
    items = pl.DataFrame({"item_id": ["c", "x", "b"], "title": ["C", "X", "B"]})
    dataset = write_dataset(tmp_path / "d", FRAME, name="small", items=items)
    assert dataset.item_frame()["title"].to_list() == [None, "B", "C"]


def test_the_hash_does_not_depend_on_the_encoding(dataset):
    before = content_hash(dataset.folder)
    for name in (INTERACTIONS, USERS, ITEMS):
        frame = pl.read_parquet(dataset.folder / name)
        frame.write_parquet(dataset.folder / name, compression="uncompressed", row_group_size=2)
    assert content_hash(dataset.folder) == before == dataset.manifest.content_hash


@pytest.mark.parametrize(
    ("file", "column", "value"),
    [
        (INTERACTIONS, "user_index", 2),
        (INTERACTIONS, "item_index", 2),
        (INTERACTIONS, "timestamp", 6),
        (INTERACTIONS, "weight", 1.5),
        (USERS, "user_id", "u22"),
        (ITEMS, "item_id", "B"),
    ],
)
def test_any_changed_value_changes_the_hash(dataset, file, column, value):
    frame = pl.read_parquet(dataset.folder / file)
    frame[0, column] = value
    frame.write_parquet(dataset.folder / file)
    assert content_hash(dataset.folder) != dataset.manifest.content_hash


@pytest.mark.parametrize("ids", [["ab", "c"], ["a", "bc"], ["a\0b", "c"], ["a", "b\0c"]])
def test_borders_between_ids_count(tmp_path, ids):
    def hash_of(users, name):
        frame = pl.DataFrame({"user_id": users, "item_id": [1, 2]})
        return write_dataset(tmp_path / name, frame, name="x").manifest.content_hash

    others = [["ab", "c"], ["a", "bc"], ["a\0b", "c"], ["a", "b\0c"]]
    same = [hash_of(ids, "one") == hash_of(other, "two") for other in others]
    assert sum(same) == 1


def test_the_same_ids_as_numbers_and_as_text_hash_alike(tmp_path):
    numbers = pl.DataFrame({"user_id": [7, 8], "item_id": [1, 2]})
    one = write_dataset(tmp_path / "one", numbers, name="x")
    two = write_dataset(tmp_path / "two", numbers.cast(pl.String), name="y")
    assert one.manifest.content_hash == two.manifest.content_hash


def test_a_cut_file_is_named(dataset):
    path = dataset.folder / ITEMS
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"items\.parquet has \d+ bytes, \d+ bytes are expected"):
        load_dataset(dataset.folder)


def test_a_missing_file_is_named(dataset):
    (dataset.folder / USERS).unlink()
    with pytest.raises(DataError, match=r"users\.parquet is missing"):
        load_dataset(dataset.folder)


def test_changed_bytes_are_found_when_asked(dataset):
    path = dataset.folder / USERS
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    load_dataset(dataset.folder)
    with pytest.raises(ChecksumError, match=r"users\.parquet is not what was written"):
        load_dataset(dataset.folder, verify=True)


def rewritten(dataset, frame):
    """Puts other interactions in, with the size the manifest wants to see."""
    path = dataset.folder / INTERACTIONS
    frame.write_parquet(path)
    manifest = json.loads((dataset.folder / MANIFEST).read_text())
    manifest["files"][INTERACTIONS]["size"] = path.stat().st_size
    (dataset.folder / MANIFEST).write_text(json.dumps(manifest))
    return dataset.folder


def test_interactions_of_another_manifest_are_refused(dataset):
    rows = pl.read_parquet(dataset.folder / INTERACTIONS)
    with pytest.raises(DataError, match="has 4 rows"):
        load_dataset(rewritten(dataset, rows.head(4)))
    with pytest.raises(DataError, match="not sorted by user_index"):
        load_dataset(rewritten(dataset, rows.reverse()))
    with pytest.raises(DataError, match="index outside"):
        load_dataset(rewritten(dataset, rows.with_columns(pl.col("item_index") + 1)))


def test_unreadable_interactions_are_named(dataset):
    path = dataset.folder / INTERACTIONS
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(DataError, match=r"interactions\.parquet cannot be read"):
        load_dataset(dataset.folder)


def test_a_folder_without_manifest_is_no_dataset(dataset):
    (dataset.folder / MANIFEST).unlink()
    with pytest.raises(DataError, match="not a dataset folder"):
        load_dataset(dataset.folder)


def test_what_a_killed_writer_left_behind_is_no_dataset(dataset):
    left = dataset.folder.rename(dataset.folder.parent / ".data.a1b2c3d4.tmp")
    with pytest.raises(DataError, match="left from a killed"):
        load_dataset(left)


def test_a_foreign_version_and_an_unknown_key_are_refused(dataset):
    path = dataset.folder / MANIFEST
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"schema_version": 99}))
    with pytest.raises(DataError, match="schema_version 99"):
        load_dataset(dataset.folder)
    path.write_text(json.dumps(manifest | {"num_user": 3}))
    with pytest.raises(ConfigError, match="num_users"):
        load_dataset(dataset.folder)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME.drop("item_id"), "no column item_id"),
        (FRAME.clear(), "no interactions"),
        (FRAME.with_columns(user_id=pl.Series(["a", None, "b", "c", "d"])), "user_id.*row 1"),
        (FRAME.with_columns(item_id=pl.Series([1.0, 2, np.nan, 3, 4])), "item_id.*row 2"),
        (FRAME.with_columns(timestamp=pl.Series([1, 2, 3, 4, None])), "timestamp.*row 4"),
    ],
)
def test_a_bad_frame_is_refused_and_leaves_nothing(tmp_path, frame, message):
    with pytest.raises(DataError, match=message):
        write_dataset(tmp_path / "d", frame, name="bad")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_things_in_it_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(DataError, match="not a dataset folder, so it is not replaced"):
        write_dataset(tmp_path / "thesis", FRAME, name="x")
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "years of work"


def test_a_dataset_folder_is_replaced_whole(dataset):
    write_dataset(dataset.folder, FRAME.head(2), name="smaller")
    assert load_dataset(dataset.folder).manifest.num_interactions == 2


def test_sizes_of_files_are_read_under_both_their_names():
    """Data sets of earlier versions write `bytes`, bundles `size`."""
    for name in ("bytes", "size"):
        assert FileEntry.model_validate({name: 7, "sha256": "0"}).size == 7
