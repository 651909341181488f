"""Folders and files in brackets, beside those that their names would match as patterns."""

import numpy as np
import polars as pl
import pytest

import recsys
from data_prep import attach, featurize_columns, prepare
from data_prep.options import PrepareOptions
from recsys.data.dataset import load_dataset
from recsys.data.features.loading import load_features
from recsys.retrieval.bundle.loading import load_bundle


def data_set(folder, prefix):
    """A data set whose ids begin with `prefix`; its items have a brand each."""
    (folder.parent / "raw.csv").write_text(
        f"user_id,item_id\n{prefix}u,{prefix}a\n{prefix}u,{prefix}b\n"
    )
    items = folder.parent / "items.csv"
    items.write_text(f"item_id,brand\n{prefix}a,{prefix}\n{prefix}b,{prefix}\n")
    options = PrepareOptions(item_file=items)
    return prepare("csv", options, source=folder.parent / "raw.csv", out=folder)


@pytest.fixture(params=[("data[1]", "data1"), ("data*", "data-x"), ("dat?", "data")])
def folder(request, tmp_path):
    right, wrong = request.param
    data_set(tmp_path / wrong, "wrong")
    data_set(tmp_path / right, "right")
    return tmp_path / right


def test_a_data_set_gives_its_own_ids_and_content(folder):
    dataset = load_dataset(folder)
    assert dataset.item_frame()["item_id"].to_list() == ["righta", "rightb"]
    assert dataset.user_frame()["user_id"].to_list() == ["rightu"]
    featurize_columns(folder, ["brand"])
    assert load_features(folder, ["brand"]).categories["brand"].names == ("right",)


def test_vectors_are_read_from_the_file_that_is_named(folder):
    for name, value in (("v[1].parquet", 1.0), ("v1.parquet", 2.0)):
        vectors = pl.DataFrame({"item_id": ["righta", "rightb"], "v": [[value] * 2] * 2})
        vectors.write_parquet(folder.parent / name)
    attach(folder, folder.parent / "v[1].parquet", name="text")
    assert np.asarray(load_features(folder, ["text"]).vectors["text"].vectors).max() == 1.0


def test_a_bundle_gives_its_own_ids(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("b1", "b[1]"):
        ids = [f"{name} {row}" for row in range(30)]
        vectors = rng.normal(size=(30, 4)).astype(np.float32)
        source = tmp_path / f"{name}.parquet"
        pl.DataFrame({"id": ids, "vector": list(vectors)}).write_parquet(source)
        recsys.nest(source, tmp_path / name, recsys.Nesting("none", [2, 4]), tiers="0:4:fp32:ram")
    assert load_bundle(tmp_path / "b[1]").ids("item")["item_id"][0] == "b[1] 0"
