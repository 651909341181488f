"""A loss, a metric, a baseline and a reader from outside the package."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import recsys
from data_prep import PrepareOptions, prepare
from recsys.cli import app
from recsys.errors import ConfigError
from recsys.runs.config import RunConfig
from recsys.training.logs import read_lines

METRIC = "examples.parts:rank_biased_precision"


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Walks around a circle of 20 items, read by the reader of the example."""
    place = tmp_path_factory.mktemp("parts")
    rng = np.random.default_rng(0)
    walks = {
        f"user {u}": [f"item {(start + i) % 20}" for i in range(6)]
        for u, start in enumerate(rng.integers(0, 20, 60))
    }
    (place / "diary.json").write_text(json.dumps(walks))
    name = "examples.parts:DIARY"
    return prepare(name, source=place / "diary.json", out=place / "data").folder


@pytest.fixture(scope="module")
def run(data):
    config = RunConfig.model_validate(
        {
            "data": str(data),
            "threads": 1,
            "model": {"granularities": {"sizes": [4, 8]}, "history_length": 6},
            "loss": {"name": "examples.parts:Hinge", "margin": 0.5, "negatives": {"uniform": 10}},
            "trainer": {"epochs": 3, "metric": f"{METRIC}@5/d8"},
        }
    )
    return recsys.train(config, out=data.parent / "run")


def test_a_reader_is_found_by_its_place_and_names_the_data_set(data):
    manifest = json.loads((data / "dataset.json").read_text())
    assert manifest["name"] == "DIARY" and manifest["num_users"] == 60
    with pytest.raises(ConfigError, match="does not read delimiter"):
        prepare("examples.parts:DIARY", PrepareOptions(delimiter=";"), source=data, out=data)


def test_training_stops_by_a_metric_and_learns_by_a_loss_from_outside(run):
    lines = read_lines(run / "log.jsonl")
    losses = [line["loss"] for line in lines if line["event"] == "train"]
    looks = [line for line in lines if line["event"] == "valid"]
    assert losses[-1] < losses[0]
    assert looks[-1]["value"] == looks[-1][f"{METRIC}@5/d8"] > 0


def test_a_metric_from_outside_stands_in_every_table(run, data):
    shown = call("evaluate", run, "--no-baselines", "--metrics", f"precision,{METRIC}")
    assert "rank_biased_precision" in shown.replace("\n", "") and "precision@10" in shown
    table = recsys.evaluate(run, metrics=[METRIC], with_baselines=False)
    assert 0 < table.value(METRIC, 10) < table.value("recall", 10)
    rows = table.rows.filter(table.rows["metric"] == METRIC)
    assert rows["low"].null_count() == 0  # with intervals, as any other
    for verb in ("compare", "report"):
        call(verb, run)
    assert METRIC in (run / "report" / "report.csv").read_text()
    assert "precision" not in call("evaluate", run, "--no-baselines")


def test_a_baseline_from_outside_is_fitted_and_named_with_its_options(data):
    name = "examples.parts:MarkovChain"
    table = recsys.evaluate_baselines(data, [name], [f"{name}.reach=2"])
    assert table.rows["run"].unique().to_list() == [name]
    assert table.value("ndcg", 10) > 0.5
    told = call("baselines", data, name, f"{name}.reahc=2", code=1)
    assert "reahc: unknown key; did you mean 'reach'?" in told


def test_what_is_no_part_is_refused_with_what_it_lacks(data):
    told = call("baselines", data, "examples.parts:Hinge", code=1)
    assert "lacks the base class recsys.baselines.BaselineConfig" in told
    told = call("prepare", "examples.parts:Hinge", code=1)
    assert "lacks the type data_prep.Source" in told
