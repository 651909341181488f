"""`recsys calibrate`: a run of its own in which only items that nobody had have moved."""

import json

import polars as pl
import pytest
import torch

import recsys
from recsys.data.dataset import SplitRule, write_dataset
from recsys.errors import ConfigError, RunError
from tests.recipes.test_content import content_config, write_features
from tests.recipes.test_verbs import call, config, frame


def timed():
    """Walks around the circle; some of the items are there only at the end."""
    late = 10_000 * (pl.col("item_id") >= 21)
    return frame().with_columns(timestamp=pl.col("timestamp") + late).sort("user_id", "timestamp")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("calibrate")


@pytest.fixture(scope="module")
def run(place):
    folder = write_dataset(
        place / "data", timed(), name="walks", split=SplitRule(name="global-time")
    ).folder
    write_features(folder)
    return recsys.train(content_config(folder, protocol="global-time"), out=place / "one")


def test_the_calibrated_run_has_the_same_known_items_and_other_new_ones(run, place):
    out = place / "calibrated"
    assert "calibrated" in call("calibrate", run, out, "--steps", "30", "--learning-rate", "0.05")
    before, after = recsys.load_run(run), recsys.load_run(out)
    known = before.model.table.trained
    assert 0 < int(known.sum()) < len(known)
    old, new = before.model.item_vectors(), after.model.item_vectors()
    torch.testing.assert_close(new[known], old[known])
    assert not torch.allclose(new[~known], old[~known])
    told = json.loads((out / "run.json").read_text())["calibrated"]
    assert told["run"] == "one" and told["part"] == "valid"
    assert told["after"] < told["before"]


def test_what_cannot_be_calibrated_says_why(run, place):
    with pytest.raises(RunError, match="not empty"):
        recsys.calibrate(run, run)
    loaded = recsys.load_run(run)
    plain = recsys.train(config(loaded.config.data), out=place / "plain")
    with pytest.raises(ConfigError, match="not made of ids and content"):
        recsys.calibrate(plain, place / "x")
    folder = write_dataset(place / "other", frame(), name="walks").folder
    write_features(folder)
    last = recsys.train(content_config(folder), out=place / "last")
    with pytest.raises(RunError, match="takes a global-time split"):
        recsys.calibrate(last, place / "x")
