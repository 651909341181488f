"""Ids of interactions, item files, features and vectors meet, however each was written."""

import numpy as np
import polars as pl
import pytest

from data_prep import PrepareOptions, attach, prepare
from recsys.data.dataset import write_dataset
from recsys.data.features.loading import load_features
from recsys.errors import DataError

TITLES = pl.DataFrame({"item_id": ["3", "5", "7"], "title": ["three", "five", "seven"]})


def prepared(folder, frame, items=TITLES, kind="csv"):
    for name, table in (("rows", frame), ("items", items)):
        path = folder / f"{name}.{kind}"
        table.write_csv(path) if kind == "csv" else table.write_parquet(path)
    options = PrepareOptions(item_file=folder / f"items.{kind}")
    return prepare(kind, options, source=folder / f"rows.{kind}", out=folder / "out")


def titles(dataset):
    frame = dataset.item_frame()
    return dict(zip(frame["item_id"].cast(str), frame["title"], strict=True))


FOUND = {"3": "three", "5": "five"}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("events", "items"),
    [
        ([3.0, 5.0], [3, 5, 7]),
        ([3, 5], [3.0, 5.0, None]),
        (["3 ", "5"], ["3", " 5", "7"]),
        (["3", "5"], ["3.0", "5.0", "7.0"]),
    ],
)
def test_items_get_their_titles_whatever_program_wrote_the_ids(tmp_path, kind, events, items):
    rows = pl.DataFrame({"user_id": ["u", "v"], "item_id": events})
    content = TITLES.with_columns(item_id=pl.Series(items))
    dataset = prepared(tmp_path, rows, content, kind)
    assert titles(dataset) == FOUND
    assert "content found for 2 of 2 items" in dataset.manifest.notes
    frame = write_dataset(tmp_path / "frame", rows, name="frame", items=content)
    assert titles(frame) == FOUND
    assert frame.manifest.content_hash == dataset.manifest.content_hash


def test_blanks_around_ids_make_no_new_users_and_are_counted(tmp_path, capsys):
    users = [f"u{row % 8}" + " " * (row // 8) for row in range(16)]
    dataset = prepared(tmp_path, pl.DataFrame({"user_id": users, "item_id": ["3"] * 16}))
    assert dataset.num_users == 8
    note = "rows.csv: column 'user_id': blanks around 8 ids are left out"
    assert note in dataset.manifest.notes
    assert note in capsys.readouterr().err


def test_content_of_other_items_is_refused_with_both_shown(tmp_path):
    rows = pl.DataFrame({"user_id": ["u"], "item_id": ["tt3"]})
    with pytest.raises(DataError, match=r"it has '3', '5', '7' \.\.\., they have 'tt3'"):
        prepared(tmp_path, rows)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pl.Series([1.0, 2.0**53]), r"rows.parquet row 1: column 'user_id' .* lost digits"),
        (pl.Series([{"id": 1}, {"id": 2}]), "column 'user_id' holds Struct"),
        (pl.Series([True, False]), "column 'user_id' holds Boolean"),
    ],
)
def test_ids_that_are_none_are_refused_by_row_or_type(tmp_path, column, message):
    rows = pl.DataFrame({"user_id": column, "item_id": [3, 5]})
    with pytest.raises(DataError, match=message):
        prepared(tmp_path, rows, kind="parquet")


@pytest.fixture
def folder(tmp_path):
    frame = pl.DataFrame({"user_id": ["u"] * 3, "item_id": [3, 5, 7]})
    return write_dataset(tmp_path / "data", frame, name="small").folder


VECTORS = np.array([[3, 3], [5, 5], [7, 7]], np.float32)


@pytest.mark.parametrize(
    "lines", ["\ufeff3\n5\n7\n", "3 \n5 \n7 \n", "3\r\n5\r\n7\r\n", "3\n5\n7\n\n", "3.0\n5.0\n7.0"]
)
def test_a_file_of_ids_loses_no_item_to_the_editor_that_wrote_it(folder, tmp_path, lines, capsys):
    np.save(tmp_path / "v.npy", VECTORS)
    (tmp_path / "ids.txt").write_bytes(lines.encode())
    attach(folder, tmp_path / "v.npy", name="text", ids=tmp_path / "ids.txt")
    assert load_features(folder).vectors["text"].vectors[:, 0].tolist() == [3, 5, 7]
    assert "content found for 3 of 3 items in v.npy" in capsys.readouterr().err


@pytest.mark.parametrize(
    "ids",
    [
        np.array([3.0, 5.0, 7.0]),
        np.array([3, 5, 7], ">i4"),
        np.array([b"3", b"5", b"7 "]),
        np.array(["3", "5", "7"]),
    ],
)
def test_arrays_of_ids_go_by_the_same_rule(folder, tmp_path, ids):
    np.savez(tmp_path / "v.npz", ids=ids, vectors=VECTORS)
    attach(folder, tmp_path / "v.npz", name="text")
    assert load_features(folder).vectors["text"].present.all()


def test_ids_of_vectors_in_parquet_go_by_the_same_rule(folder, tmp_path):
    ids = pl.Series(["3", "5 ", "7"], dtype=pl.Categorical)
    pl.DataFrame({"item_id": ids, "v": VECTORS}).write_parquet(tmp_path / "v.parquet")
    attach(folder, tmp_path / "v.parquet", name="text")
    assert load_features(folder).vectors["text"].vectors[:, 0].tolist() == [3, 5, 7]


def test_a_vector_that_is_not_finite_is_named_by_the_id_of_its_item(folder, tmp_path):
    vectors = VECTORS.copy()
    vectors[1, 0] = np.nan
    np.savez(tmp_path / "v.npz", ids=np.array([7, 5, 3]), vectors=vectors)
    with pytest.raises(DataError, match="the vector of item '5' holds NaN"):
        attach(folder, tmp_path / "v.npz", name="text")


def test_ids_saved_as_python_objects_are_refused_with_the_way_out(folder, tmp_path):
    ids = np.array(["3", "5", "7"], dtype=object)
    np.savez(tmp_path / "v.npz", ids=ids, vectors=VECTORS)
    np.save(tmp_path / "ids.npy", ids)
    np.save(tmp_path / "v.npy", VECTORS)
    with pytest.raises(DataError, match=r"v\.npz holds .*save ids with ids\.astype\(str\)"):
        attach(folder, tmp_path / "v.npz", name="text")
    with pytest.raises(DataError, match=r"ids\.npy holds .*save ids with ids\.astype\(str\)"):
        attach(folder, tmp_path / "v.npy", name="text", ids=tmp_path / "ids.npy")


def test_an_item_file_whose_ids_lost_digits_is_refused(tmp_path):
    items = TITLES.with_columns(item_id=pl.Series(["3", "1.23457E+12", "7"]))
    rows = pl.DataFrame({"user_id": ["u"], "item_id": ["3"]})
    with pytest.raises(DataError, match=r"holds '1\.23457E\+12', .* lost digits"):
        prepared(tmp_path, rows, items)
