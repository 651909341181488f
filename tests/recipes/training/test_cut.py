"""`recsys cut`: the smaller model gives the prefixes of the larger one, and costs what it says."""

import shutil
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

import recsys
from recsys.cli import app
from recsys.data.dataset import write_dataset
from recsys.data.features.manifest import FeatureOrigin
from recsys.data.features.writing import write_vectors
from recsys.data.histories import Histories
from recsys.errors import ConfigError, GranularityError, RunError
from recsys.retrieval.bundle.loading import load_bundle
from recsys.runs.config import RunConfig
from recsys.runs.records import load_run_info
from recsys.serving.user_tower import UserTower
from tests.recipes.test_verbs import frame

RUNNER = CliRunner()
SIZES = (8, 16, 32, 64)
MODELS = {
    "fmrlrec": {"name": "fmrlrec", "features": ["text"], "ids": True},
    "content": {"name": "fmrlrec", "features": ["text"]},
    "sasrec": {"encoder": {"nested": True, "num_layers": 2}},
    "items": {"encoder": {"nested": True}, "items": {"features": ["text"]}},
    "ligr": {"encoder": {"nested": True, "layer": "ligr", "num_heads": 2}, "positions": "none"},
    "comirec": {"name": "comirec", "num_interests": 2},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("cut")


@pytest.fixture(scope="module")
def data(place):
    dataset = write_dataset(place / "data", frame(), name="walks")
    vectors = np.random.default_rng(0).normal(size=(dataset.num_items, 20))
    present = np.arange(dataset.num_items) % 7 != 0
    write_vectors(dataset.folder, "text", vectors, present, FeatureOrigin(source="made by hand"))
    return dataset.folder


def train(data, out, model, **trainer):
    config = RunConfig.model_validate(
        {
            "data": str(data),
            "threads": 1,
            "protocol": "fmrlrec",
            "model": {"granularities": {"sizes": SIZES}, "history_length": 8, **model},
            "trainer": {"epochs": 2, **trainer},
        }
    )
    return recsys.train(config, out=out)


@pytest.fixture(scope="module", params=MODELS)
def whole(request, place, data):
    return train(data, place / request.param, MODELS[request.param])


@pytest.fixture(scope="module")
def small(whole):
    return recsys.cut(whole, whole.with_name(f"{whole.name}-16"), granularity=16)


def everything(dataset):
    return Histories(np.arange(dataset.num_users), dataset.items, dataset.offsets)


def test_every_cut_models_vectors_are_the_prefixes(whole, tmp_path):
    before = recsys.load_run(whole)
    histories = everything(before.dataset)
    with torch.inference_mode():
        users, items = before.model.user_vectors(histories), before.model.item_vectors()
        for size in SIZES:
            run = recsys.load_run(recsys.cut(whole, tmp_path / str(size), granularity=size))
            assert run.model.granularities.sizes == tuple(s for s in SIZES if s <= size)
            for found, wanted in (
                (run.model.item_vectors(), items[:, :size]),
                (run.model.user_vectors(histories), users[..., :size]),
            ):
                assert found.shape == wanted.shape
                torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_a_cut_run_is_evaluated_as_the_run_is_at_that_granularity(whole, small):
    tables = [recsys.evaluate(run, with_baselines=False).rows for run in (whole, small)]
    own = tables[0].filter(pl.col("granularity") <= 16).drop("run")
    assert own.height and own["value"].equals(tables[1]["value"])
    # Intervals sum the same numbers in another order, for users of more granularities.
    assert_frame_equal(own, tables[1].drop("run"), rel_tol=1e-12, abs_tol=1e-15)


def test_a_cut_run_stands_alone_and_can_be_cut_again(whole, small, tmp_path):
    alone = shutil.copytree(small, tmp_path / "alone")
    again = recsys.load_run(recsys.cut(alone, tmp_path / "again", granularity=8))
    direct = recsys.load_run(recsys.cut(whole, tmp_path / "direct", granularity=8))
    for name, tensor in direct.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor)
    info = load_run_info(small)
    assert info["state"] == "finished" and info["cut"]["run"] == whole.name
    assert info["cut"]["embedding_dim"] == 64 and info["cut"]["largest_difference"] <= 1e-5


def test_a_cut_run_can_be_exported(small, tmp_path):
    tower = small.name.startswith("content")  # the towers of all architectures: tests/serving
    tiers = "0:8:fp32:ram,8:16:fp32:ram"
    recsys.export(small, tmp_path / "bundle", tiers=tiers, tower=tower)
    assert recsys.verify(tmp_path / "bundle")
    bundle, model = load_bundle(tmp_path / "bundle"), recsys.load_run(small).model
    with torch.inference_mode():
        np.testing.assert_array_equal(bundle.items.decode(slice(None), 0, 16), model.item_vectors())
    if tower:
        histories = Histories(np.arange(2), np.arange(8, dtype=np.int32), np.array([0, 1, 8]))
        found = UserTower(bundle, threads=1).user_vectors(histories.items, histories.offsets)
        np.testing.assert_allclose(found, model.user_vectors(histories).detach(), atol=1e-5)


def nested_parameters(low, sizes, inputs, outputs):
    """Weights and biases of a nested layer, `inputs` to `outputs` times the width, cut at `low`."""
    edges = [0, *(size for size in sizes if size <= low)]
    products = sum(outputs * (high - below) * inputs * high for below, high in pairwise(edges))
    return products + outputs * low


@pytest.mark.parametrize("size", SIZES)
def test_parameters_bytes_and_multiplications_shrink_as_the_arithmetic_says(
    place, data, size, tmp_path
):
    source = place / "fmrlrec"
    if not source.is_dir():
        train(data, source, MODELS["fmrlrec"])
    run = recsys.cut(source, tmp_path / "small", granularity=size)
    loaded = recsys.load_run(run)
    linear = [
        (1, 2),
        (2, 1),
        (1, 1),
        (1, 1),
        (1, 1),
    ]  # into and out of the states, gate, value, out
    layers = sum(nested_parameters(size, SIZES, *shape) for shape in linear)
    norms, decays, num_items = 2 * 2 * size, 3 * size, loaded.dataset.num_items
    projection, scales = 20 * size + size, sum(s <= size for s in SIZES)
    expected = layers + norms + decays + projection + scales + num_items * size
    # ScoreScales is a buffer here, and stands in the file as well.
    assert sum(tensor.numel() for tensor in loaded.model.state_dict().values()) == expected
    header = (run / "model.safetensors").stat().st_size - 4 * expected
    assert 0 < header < 8_000
    histories = everything(loaded.dataset).last(8)
    with torch.inference_mode(), FlopCounterMode(display=False) as counted:
        loaded.model.user_vectors(histories)
    into = nested_parameters(size, SIZES, 1, 2) - 2 * size
    rest = layers - nested_parameters(size, SIZES, 1, 2) - 4 * size  # without biases
    # Items are projected and states are read at every token, users are made at the last alone.
    products = len(histories.items) * (20 * size + into) + len(histories) * rest
    assert counted.get_total_flops() == 2 * products


def test_a_metric_of_a_larger_granularity_and_weights_are_cut_as_well(data, tmp_path):
    granularities = {"sizes": SIZES, "weights": [0, 0, 1, 2]}
    model = MODELS["sasrec"] | {"granularities": granularities}
    run = train(data, tmp_path / "run", model, metric="ndcg@10/d64")
    small = recsys.load_run(recsys.cut(run, tmp_path / "small", granularity=32)).config
    assert small.trainer.metric == "ndcg@10/d32"
    assert small.model.granularities.weights == (0, 0, 1)
    smallest = recsys.load_run(recsys.cut(run, tmp_path / "smallest", granularity=8)).config
    assert smallest.model.granularities.weights is None


def test_a_model_that_is_not_nested_is_refused_with_what_to_do(data, tmp_path):
    run = train(data, tmp_path / "plain", {})
    with pytest.raises(ConfigError, match=r"not nested.*model\.encoder\.nested=true.*export tiers"):
        recsys.cut(run, tmp_path / "small", granularity=16)
    assert not (tmp_path / "small").exists()


def test_a_granularity_that_is_not_there_and_a_folder_that_is_are_refused(whole, tmp_path):
    with pytest.raises(GranularityError, match="granularity 24 is not among"):
        recsys.cut(whole, tmp_path / "small", granularity=24)
    with pytest.raises(RunError, match="not empty"):
        recsys.cut(whole, whole, granularity=16)


def test_the_command_line_cuts_too(whole, tmp_path):
    out = tmp_path / "small"
    result = RUNNER.invoke(app, ["cut", str(whole), str(out), "--granularity", "32"])
    assert result.exit_code == 0, result.output
    assert "recsys evaluate" in result.output
    assert recsys.load_run(out).model.granularities.embedding_dim == 32


def test_what_differs_is_not_written(whole, tmp_path, monkeypatch):
    """The comparison is made on what was cut, so a wrong cut leaves nothing behind."""
    from recsys.recipes.training import cut as recipe

    def wrong(large, little):
        recipe_cut(large, little)
        for parameter in little.parameters():
            parameter.data.mul_(1.01)

    recipe_cut = recipe.cut_weights
    monkeypatch.setattr(recipe, "cut_weights", wrong)
    with pytest.raises(RunError, match="differ from the prefixes"):
        recsys.cut(whole, tmp_path / "small", granularity=16)
    assert not (tmp_path / "small").exists()


def test_tables_without_a_smaller_one_inside_are_refused_by_comparing(data, tmp_path):
    model = MODELS["sasrec"] | {"table": {"name": "low_rank"}}
    run = train(data, tmp_path / "run", model, epochs=1, patience=1)
    with pytest.raises((ConfigError, RunError), match=r"model\.table, dense, dynamic, hashed"):
        recsys.cut(run, tmp_path / "small", granularity=16)


def test_granularities_below_the_smallest_model_are_prefixes_of_its_vectors(data, tmp_path):
    for name in ("sasrec", "content"):
        model = MODELS[name] | {"encoder": MODELS[name].get("encoder", {}) | {"nested_from": 32}}
        run = train(data, tmp_path / name, model, epochs=1, patience=1)
        small = recsys.load_run(recsys.cut(run, tmp_path / f"{name}-32", granularity=32))
        assert small.model.granularities.sizes == (8, 16, 32)
        with torch.inference_mode():
            histories = everything(small.dataset)
            wanted = recsys.load_run(run).model.user_vectors(histories)[:, :32]
            torch.testing.assert_close(
                small.model.user_vectors(histories), wanted, rtol=0, atol=1e-5
            )
        with pytest.raises(ConfigError, match=r"smallest model .* is that of 32 .*nested_from"):
            recsys.cut(run, tmp_path / "less", granularity=16)
