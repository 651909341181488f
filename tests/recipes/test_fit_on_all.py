"""Fitting on all rows: for use, not for figures; how long is what a validated run says."""

import pytest
from typer.testing import CliRunner

import recsys
from recsys.cli import app
from recsys.data.dataset import write_dataset
from recsys.errors import ConfigError, ProtocolError, RunError
from recsys.recipes.training.like import config_like
from recsys.runs.records import load_config, load_run_info, update_run_info
from tests.recipes.test_verbs import config, frame


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("all")
    data = write_dataset(place / "data", frame(), name="walks").folder
    return recsys.train(config(data, trainer={"epochs": 3}), out=place / "run")


@pytest.fixture(scope="module")
def whole(run):
    out = run.parent / "whole"
    command = ["train", "--like", str(run), "fit_on=all", "--out", str(out)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    return out


def test_a_run_on_all_rows_takes_its_epochs_from_the_validated_one(run, whole):
    trained = load_config(whole)
    assert trained.fit_on == "all"
    assert trained.trainer.epochs == load_run_info(run)["best_epoch"]
    assert load_run_info(whole)["state"] == "finished"
    assert trained.model == load_config(run).model


def test_the_best_epoch_is_what_is_taken(run, tmp_path):
    before = load_run_info(run)["best_epoch"]
    update_run_info(run, best_epoch=2)
    assert config_like(run, ["fit_on=all"]).trainer.epochs == 2
    assert config_like(run, ["fit_on=all", "trainer.epochs=9"]).trainer.epochs == 9
    assert config_like(run).trainer.epochs == 3
    update_run_info(run, best_epoch=before)


def test_it_recommends_and_no_figure_of_it_is_taken(whole, run):
    model = recsys.load(whole)
    assert len(model.recommend(model.users, k=3)) == 240
    for part in ("valid", "test"):
        with pytest.raises(ProtocolError, match="fitted on all rows"):
            recsys.evaluate(whole, part=part)
        with pytest.raises(ProtocolError, match="fitted on all rows"):
            recsys.evaluate(model, part=part)
    ease = recsys.fit(model.engine.dataset, "ease", fit_on="all")
    with pytest.raises(ProtocolError, match="fitted on all rows has seen every target"):
        recsys.evaluate(ease)
    recsys.export(whole, run.parent / "bundle", tower=False)
    assert recsys.load(run.parent / "bundle").recommend(["1"], k=3).shape == (3, 4)


def test_a_run_that_says_no_number_of_epochs_is_refused(run, whole, tmp_path):
    with pytest.raises(RunError, match="was fitted on all and not validated"):
        config_like(whole, ["fit_on=all"])
    assert config_like(whole, ["fit_on=train"]).fit_on == "train"
    update_run_info(run, state="started")
    with pytest.raises(RunError, match="has not ended"):
        config_like(run, ["fit_on=all"])
    update_run_info(run, state="finished")
    with pytest.raises(ConfigError, match="name a config file, or a run"):
        recsys.train(out=tmp_path / "x")
    with pytest.raises(ConfigError, match="and not both"):
        recsys.train("some.yaml", like=run, out=tmp_path / "x")
    assert "name a config file" in CliRunner().invoke(app, ["train"]).output
