"""Runs whose items have content: trained, loaded, measured with parts away, asked for new items."""

import json
import shutil
import subprocess
import sys
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

import recsys
from recsys.data.dataset import write_dataset
from recsys.data.features.loading import load_features
from recsys.data.features.manifest import FeatureOrigin
from recsys.data.features.writing import write_categories, write_numbers, write_vectors
from recsys.errors import ConfigError, DataError, RunError
from recsys.evaluation.metric_table import load_table
from recsys.runs.loading import build_model
from recsys.serving.item_tower import open_item_tower
from tests.command import call
from tests.recipes.test_verbs import config, frame

ORIGIN = FeatureOrigin(source="made by hand")
NUM = 25
ALL = ("text", "genres", "year")


def write_features(folder, seed=0):
    """Item i of the walks is followed by i + 1: its text is its place on a circle."""
    ids = np.array(pl.read_parquet(folder / "items.parquet")["item_id"].cast(int))
    angle = 2 * np.pi * ids / NUM
    noise = np.random.default_rng(seed).normal(size=(NUM, 3)) * 0.01
    circle = np.stack([np.cos(angle), np.sin(angle), np.cos(2 * angle)], axis=1) + noise
    write_vectors(folder, "text", circle, ids != 3, ORIGIN)
    offsets = np.concatenate([[0], (ids != 4).cumsum()])
    quarters = (ids[ids != 4] * 4 // NUM).astype(np.int32)
    write_categories(folder, "genres", quarters, offsets, ["n", "e", "s", "w"], ORIGIN)
    write_numbers(folder, "year", 1990.0 + ids, ids != 5, ORIGIN)


def content_config(data, *, items=None, **changes):
    items = {"features": list(ALL), **(items or {})}
    model = {"granularities": {"sizes": [4, 8]}, "history_length": 8, "items": items}
    return config(data, model=model, **changes)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("content")


@pytest.fixture(scope="module")
def data(place):
    folder = write_dataset(place / "data", frame(), name="walks").folder
    write_features(folder)
    return folder


@pytest.fixture(scope="module")
def run(place, data):
    return recsys.train(content_config(data), out=place / "one")


def test_a_loaded_run_has_the_vectors_it_was_trained_to_have(run):
    first, second = (recsys.load_run(run).model for _ in range(2))
    assert torch.equal(first.item_vectors(), second.item_vectors())
    stored = load_file(run / "model.safetensors")
    assert torch.equal(stored["table.ids.weight"], first.table.ids.weight)
    assert not any(tensor.shape == (NUM, 3) for tensor in stored.values())


def test_two_runs_of_one_seed_end_alike(place, data):
    whole = recsys.train(content_config(data), out=place / "whole")
    again = recsys.train(content_config(data), out=place / "again")
    names = load_file(whole / "model.safetensors")
    for name, tensor in load_file(again / "model.safetensors").items():
        assert torch.equal(tensor, names[name])


def test_content_leaves_a_model_of_ids_alone_as_it_was(place, data):
    plain = recsys.train(config(data), out=place / "plain")
    names = set(load_file(plain / "model.safetensors"))
    assert "table.weight" in names and not any("modalit" in name for name in names)
    assert recsys.load_run(plain).info["features_hash"] is None


def test_other_features_than_the_runs_own_are_refused(run, place, data):
    """The run is asked for with its data set in a place where a feature was made anew."""
    info = json.loads((run / "run.json").read_text())
    assert info["features_hash"] == load_features(data, ALL).features_hash
    moved = place / "moved"
    shutil.copytree(data, moved)
    copy = place / "copy"
    shutil.copytree(run, copy)
    text = (copy / "config.yaml").read_text().replace(str(data), str(moved))
    (copy / "config.yaml").write_text(text)
    assert recsys.load_run(copy).name == "copy"
    write_features(moved, seed=1)
    with pytest.raises(RunError, match=r"trained on features .*encode"):
        recsys.load_run(copy)
    shutil.rmtree(moved / "features" / "genres")
    with pytest.raises(DataError, match=r"no feature 'genres'.*recsys encode"):
        recsys.load_run(copy)


def test_training_on_a_feature_that_is_not_there_says_how_to_make_it(place, data):
    wanted = content_config(data, items={"features": ["image"]})
    with pytest.raises(DataError, match=r"no feature 'image'; it has .*recsys encode"):
        recsys.train(wanted, out=place / "nothing")
    assert not (place / "nothing").exists()


@pytest.mark.parametrize("gone", [["text"], ["ids"], ["text", "genres", "year"], ["ids", "text"]])
def test_measuring_without_a_part_works_and_is_kept_apart(run, gone):
    table = recsys.evaluate(run, without=gone, with_baselines=False)
    name = " ".join(["one", *(f"-{part}" for part in sorted(gone))])
    assert table.rows["run"].unique().to_list() == [name]
    assert 0 <= table.value("recall", 10, 8, run=name) <= 1
    file = f"without-{'-'.join(sorted(gone))}-test-s3rec.json"
    assert load_table(run / "metrics" / file).rows.equals(table.rows)


def test_nothing_can_be_taken_from_a_run_of_ids_alone(place, data, run):
    plain = recsys.train(config(data, trainer={"epochs": 1}), out=place / "plain1")
    with pytest.raises(ConfigError, match="ids alone"):
        recsys.evaluate(plain, without=["text"])
    with pytest.raises(ConfigError, match="ids alone, and new items have no trained id"):
        recsys.vectors_for_new_items(plain, {"text": np.ones((1, 3))})
    output = call("evaluate", run, "--without", "sound", "--no-baselines", code=1)
    assert "made of ids, text, genres, year" in output


@pytest.fixture(scope="module")
def cold(place):
    """The walks with a catalogue of five more items that only the held-out parts know."""
    walks = frame()
    late = (pl.col("timestamp") > 750) & (pl.col("user_id") % 2 == 0)
    moved = walks.with_columns(pl.when(late).then(pl.col("item_id") % 5 + 30).otherwise(
        pl.col("item_id")).alias("item_id"))  # fmt: skip
    folder = write_dataset(place / "cold", moved, name="cold").folder
    ids = np.array(pl.read_parquet(folder / "items.parquet")["item_id"].cast(int))
    rows = np.random.default_rng(0).normal(size=(len(ids), 6))
    write_vectors(folder, "text", rows, np.ones(len(ids), bool), ORIGIN)
    return folder, ids


@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax"])
def test_an_item_without_a_training_row_has_content_alone_and_was_nobodys_negative(
    cold, place, loss
):
    folder, ids = cold
    settings = content_config(
        folder, items={"features": ["text"]}, protocol="global-time", loss={"name": loss}
    )
    loaded = recsys.load_run(recsys.train(settings, out=place / f"cold-{loss}"))
    tower = loaded.model.table
    assert tower.trained.tolist() == (ids < 30).tolist()
    vectors = loaded.model.item_vectors()
    tower.hide(["ids"])
    unknown = torch.from_numpy(ids >= 30)
    torch.testing.assert_close(loaded.model.item_vectors()[unknown], vectors[unknown])
    # Its row never moved: an untrained model of the same seed has the same one.
    untouched = build_model(loaded.config, loaded.dataset).table.ids.weight
    assert torch.equal(tower.ids.weight[unknown], untouched[unknown])
    assert not torch.equal(tower.ids.weight[~unknown], untouched[~unknown])
    table = recsys.evaluate(place / f"cold-{loss}")
    segments = table.rows.filter(pl.col("run") == f"cold-{loss}")["segment"].unique().to_list()
    assert {"all", "cold", "warm"} <= set(segments)


def new_items_of(folder, rows):
    """What is told of items `rows` of a data set, as of new ones."""
    features = load_features(folder)
    text, genres, year = features.vectors["text"], features.categories["genres"], features.numbers
    values, offsets = genres.rows(rows)
    named = [genres.names[value] for value in values]
    return {
        "text": np.where(text.present[rows, None], text.rows(rows), np.nan),
        "genres": [named[lo:hi] for lo, hi in pairwise(offsets)],
        "year": np.where(year["year"].present[rows], year["year"].values[rows], np.nan),
    }


@pytest.mark.parametrize("fusion", ["gated_sum", "projection"])
@pytest.mark.parametrize("ids", [True, False])
def test_new_items_get_the_vectors_that_items_without_an_id_have(ids, fusion, data, place):
    settings = content_config(data, items={"ids": ids, "fusion": fusion}, trainer={"epochs": 1})
    trained = recsys.train(settings, out=place / f"run-{ids}-{fusion}")
    model = recsys.load_run(trained).model
    if ids:
        model.table.hide(["ids"])
    everything = new_items_of(data, np.arange(NUM))
    given = recsys.vectors_for_new_items(trained, everything)
    np.testing.assert_allclose(given, model.item_vectors().detach().numpy(), atol=1e-5)
    model.table.hide([*(["ids"] if ids else []), "genres"])
    expected = model.item_vectors().detach().numpy()
    given = recsys.vectors_for_new_items(
        trained, {name: everything[name] for name in ("text", "year")}
    )
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_a_bundle_gives_new_items_the_vectors_the_run_gives_them(run, data, place):
    pytest.importorskip("onnxscript")
    shelf = place / "bundle"
    recsys.export(run, shelf)
    some = new_items_of(data, np.array([3, 4, 5, 6]))
    some["genres"][2] = ["never heard of", *some["genres"][2]]
    expected = recsys.vectors_for_new_items(run, some)
    np.testing.assert_array_equal(recsys.vectors_for_new_items(shelf, some), expected)
    np.testing.assert_array_equal(open_item_tower(shelf).vectors(some), expected)
    assert recsys.verify(shelf) > 0


@pytest.mark.parametrize("fusion", ["gated_sum", "projection"])
def test_a_smaller_model_with_content_can_be_cut_out(fusion, data, place):
    settings = content_config(data, items={"fusion": fusion}, trainer={"epochs": 1})
    tree = settings.model_dump(mode="json")
    tree["model"]["encoder"]["nested"] = True
    trained = recsys.train(type(settings).model_validate(tree), out=place / f"nested-{fusion}")
    small = recsys.cut(trained, place / f"cut-{fusion}", granularity=4)
    some = new_items_of(data, np.arange(3))
    np.testing.assert_allclose(
        recsys.vectors_for_new_items(small, some),
        recsys.vectors_for_new_items(trained, some)[:, :4],
        atol=1e-5,
    )


def test_new_items_are_encoded_without_torch():
    code = "import sys, recsys.serving.item_tower; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_new_items_that_cannot_be_encoded_are_refused_with_the_reason(run):
    tower = recsys.vectors_for_new_items
    with pytest.raises(DataError, match="made from text, genres, year"):
        tower(run, {"sound": np.ones((1, 3))})
    with pytest.raises(DataError, match=r"\[n, 3\] is expected"):
        tower(run, {"text": np.ones((1, 4))})
    with pytest.raises(DataError, match="as many items each"):
        tower(run, {"text": np.ones((2, 3)), "year": [1990.0]})
    with pytest.raises(DataError, match="none at all"):
        tower(run, {})
