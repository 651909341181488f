"""Data sets and features that name, or link to, what is not theirs."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from recsys.data.dataset import load_dataset, write_dataset
from recsys.data.features.loading import load_features
from recsys.data.features.manifest import FeatureOrigin
from recsys.data.features.writing import write_categories, write_numbers, write_vectors
from recsys.errors import DataError


@pytest.fixture
def data(tmp_path):
    frame = pl.DataFrame({"user_id": [1, 1, 2, 2], "item_id": ["a", "b", "b", "c"]})
    write_dataset(tmp_path / "data", frame, name="toy")
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["interactions.parquet", "users.parquet", "items.parquet"])
def test_a_table_that_is_a_link_to_elsewhere_is_refused(data, name):
    (data / name).rename(data.parent / "away")
    (data / name).symlink_to("../away")
    with pytest.raises(DataError, match="points outside its folder"):
        load_dataset(data)


@pytest.mark.parametrize("name", ["../away", "/etc/passwd", "users.parquet/../../away"])
def test_a_manifest_that_names_other_files_is_refused(data, name):
    tree = json.loads((data / "dataset.json").read_text())
    tree["files"][name] = tree["files"]["users.parquet"]
    shutil.copyfile(data / "users.parquet", data.parent / "away")
    (data / "dataset.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match="a relative path inside the folder is expected"):
        load_dataset(data)


def test_a_table_without_a_checksum_is_not_opened(data):
    tree = json.loads((data / "dataset.json").read_text())
    del tree["files"]["items.parquet"]
    (data / "dataset.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"lists no checksum of 'items\.parquet'"):
        load_dataset(data)


def test_mapped_columns_that_are_links_are_made_anew(data):
    wanted = np.array(load_dataset(data, mapped=True).items)
    (data / "mapped" / "items.i32").rename(data.parent / "away")
    np.array([2, 2, 2, 2], np.int32).tofile(data.parent / "away")
    (data / "mapped" / "items.i32").symlink_to(data.parent / "away")
    np.testing.assert_array_equal(load_dataset(data, mapped=True).items, wanted)
    assert not (data / "mapped" / "items.i32").is_symlink()


def feature(data, write, *values):
    write(data, "made", *values, FeatureOrigin(source="made by hand"))
    return data / "features" / "made"


FEATURES = [
    (write_vectors, np.ones((3, 2), np.float32), np.ones(3, bool)),
    (write_categories, np.array([0, 0], np.int32), np.array([0, 1, 1, 2]), ["Drama"]),
    (write_numbers, np.ones(3), np.ones(3, bool)),
]


@pytest.mark.parametrize("made", FEATURES, ids=lambda made: made[0].__name__)
def test_a_features_arrays_are_its_own(data, made):
    folder = feature(data, *made)
    text = (folder / "feature.json").read_text()
    for path in [path for path in folder.iterdir() if path.name != "feature.json"]:
        away = path.rename(data.parent / "away")
        path.symlink_to(away)
        with pytest.raises(DataError, match="points outside its folder"):
            load_features(data)
        tree = json.loads(text)
        del tree["files"][path.name]
        (folder / "feature.json").write_text(json.dumps(tree))
        with pytest.raises(DataError, match="lists no checksum of"):
            load_features(data)
        path.unlink()
        away.rename(path)
        (folder / "feature.json").write_text(text)
    assert load_features(data).names == ("made",)


def test_features_that_stand_elsewhere_are_refused(data):
    feature(data, *FEATURES[0])
    away = (data / "features").rename(data.parent / "away")
    (data / "features").symlink_to(away)
    with pytest.raises(DataError, match="points outside its folder"):
        load_features(data)
