"""A model from outside the package goes through every verb."""

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from typer.testing import CliRunner

import recsys
from recsys.cli import app
from recsys.data.dataset import write_dataset
from recsys.data.histories import Histories
from recsys.errors import ConfigError
from recsys.granularity import Granularities
from recsys.retrieval.bundle.loading import load_bundle
from recsys.runs.config import RunConfig
from recsys.serving.user_tower import UserTower
from recsys.studies.report.terminal import print_study
from recsys.studies.verb import study

NAME = "examples.gru4rec:GRU4Rec"
NUM_ITEMS = 30


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data set of walks around a circle, and a config that names the model."""
    place = tmp_path_factory.mktemp("gru4rec")
    rng = np.random.default_rng(0)
    starts, lengths = rng.integers(0, NUM_ITEMS, 100), rng.integers(5, 9, 100)
    walks = [(start + np.arange(n)) % NUM_ITEMS for start, n in zip(starts, lengths, strict=True)]
    users = np.repeat(np.arange(100), lengths)
    frame = pl.DataFrame({"user_id": users, "item_id": np.concatenate(walks)})
    tree = {
        "data": str(write_dataset(place / "data", frame, name="circle").folder),
        "threads": 1,
        "model": {"name": NAME, "granularities": {"sizes": [4, 8]}, "history_length": 4},
        "loss": {"negatives": {"uniform": 20}},
        "batching": {"batch_tokens": 64},
        "trainer": {"epochs": 6, "optimizer": {"learning_rate": 0.02}},
    }
    (place / "gru4rec.yaml").write_text(yaml.safe_dump(tree))
    return place


@pytest.fixture(scope="module")
def run(place):
    return recsys.train(place / "gru4rec.yaml", out=place / "run")


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_it_learns_at_every_prefix_and_goes_on_where_it_was(run, place):
    table = recsys.evaluate(run, with_baselines=False)
    assert min(table.value("ndcg", 10, size) for size in (4, 8)) > 0.25  # by chance 0.15
    call("train", place / "gru4rec.yaml", "--out", run, "--resume")
    assert "ndcg@10" in call("compare", run)
    assert "report.html" in call("report", run)


def test_a_prefix_of_its_vectors_knows_nothing_of_later_coordinates(run):
    model = recsys.load_run(run).model
    histories = Histories(np.arange(2), np.array([1, 2, 3, 7], np.int32), np.array([0, 3, 4]))
    before = model.user_vectors(histories)
    with torch.no_grad():
        for parameter in model.recurrence.parameters():
            parameter[..., 4:] += 1.0
        model.table.weight[:, 4:] += 1.0
    after = model.user_vectors(histories)
    assert torch.equal(after[:, :4], before[:, :4]) and not torch.equal(after, before)


def test_the_smaller_model_is_cut_out_of_it(run, place):
    small = recsys.cut(run, place / "small", granularity=4)
    whole = recsys.evaluate(run, with_baselines=False).value("ndcg", 10, 4)
    assert recsys.evaluate(small, with_baselines=False).value("ndcg", 10) == pytest.approx(whole)


def test_its_bundle_holds_the_tower_and_serves_what_the_model_says(run, place):
    recsys.export(run, place / "bundle", tiers="0:8:fp32:ram")
    items, offsets = np.array([3, 4, 5, 6, 7, 8, 20]), np.array([0, 6, 7])
    model = recsys.load_run(run).model
    with torch.inference_mode():
        wanted = model.user_vectors(Histories(np.arange(2), items.astype(np.int32), offsets))
    served = UserTower(load_bundle(place / "bundle")).user_vectors(items, offsets)
    np.testing.assert_allclose(served, wanted, atol=1e-5)
    call("verify", place / "bundle", "--run", run)


def test_funnels_and_bits_are_measured_of_it(run):
    assert recsys.tradeoff(run, ["keeps=[10]"]).choice is not None
    assert recsys.bits(run, [12], keep=10)


def test_a_study_trains_it_at_every_width(place):
    tree = {"run": str(place / "gru4rec.yaml"), "overrides": ["trainer.epochs=1"], "seeds": [0]}
    metric = "examples.parts:rank_biased_precision"
    tree |= {"methods": ["nested", "separate"], "num_resamples": 100, "metrics": [metric]}
    (place / "study.yaml").write_text(yaml.safe_dump(tree))
    result = study(place / "study.yaml", out=place / "study")
    assert set(result.content.summary["metric"]) == {"recall", "ndcg", metric}
    assert "rank_biased_precision@10" in (place / "study" / "study.html").read_text()
    print_study(result.content)
    trained = sorted(path.parent.name for path in (place / "study").glob("*/run.json"))
    assert trained == ["nested-s0", "separate-d4-s0", "separate-d8-s0"]


def test_calibrating_it_is_refused_as_its_items_are_ids_alone(run, place):
    with pytest.raises(ConfigError, match="are not made of ids and content"):
        recsys.calibrate(run, place / "calibrated")


def test_its_own_options_are_checked_and_the_nearest_is_named(place):
    told = call("train", place / "gru4rec.yaml", "model.dropuot=0.1", "--out", place / "x", code=1)
    assert "model.dropuot: unknown key; did you mean 'dropout'?" in told


def test_a_run_whose_model_is_gone_says_what_to_install(run, tmp_path):
    config = (run / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(config.replace(NAME, "gone.models:GRU4Rec"))
    (tmp_path / "run.json").write_text((run / "run.json").read_text())
    with pytest.raises(ConfigError, match=r"needs the module gone\.models.*PYTHONPATH"):
        recsys.load_run(tmp_path)


def test_a_config_object_from_outside_is_as_good_as_a_file(place):
    from examples.gru4rec import GRU4RecConfig

    small = GRU4RecConfig(granularities=Granularities(sizes=(4, 8)))
    assert RunConfig(data=place / "data", model=small).model_dump()["model"]["name"] == NAME
    with pytest.raises(ValueError, match="belongs to another class"):
        RunConfig(data=place / "data", model=small.model_copy(update={"name": "sasrec"}))
