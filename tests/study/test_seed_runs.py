"""`recsys train --seeds`: a run for every seed, and their figures in one table."""

import json

import numpy as np
import polars as pl
import pytest
import yaml

import recsys
from recsys.data.dataset import write_dataset
from recsys.errors import ConfigError, DataError, ProtocolError, RunError
from recsys.evaluation.metric_table import load_table
from recsys.recipes.training import train as training
from recsys.runs.records import load_config, load_run_info
from recsys.studies.seed_runs.folder import open_seeds
from recsys.studies.seed_runs.training import train_seeds
from recsys.training.trainer import StoppedError
from tests.command import call
from tests.training.test_run_folders import frame, settings


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("seeds") / "walks", frame(), name="walks").folder


@pytest.fixture(scope="module")
def runs(data):
    return train_seeds(settings(data, 1), seeds=(0, 3), out=data.parent / "runs" / "walks")


def test_every_seed_has_a_run_of_its_own(runs):
    assert [run.name for run in runs.finished] == ["walks-s0", "walks-s3"]
    assert [load_config(run).trainer.seed for run in runs.finished] == [0, 3]
    one, other = ((run / "model.safetensors").read_bytes() for run in runs.finished)
    assert one != other and not runs.failed


def test_the_verb_trains_evaluates_and_compares(data, tmp_path, monkeypatch):
    config = tmp_path / "small.yaml"
    tree = settings(data, 1).model_dump(mode="json", exclude_unset=True)
    config.write_text(yaml.safe_dump(tree))
    monkeypatch.chdir(tmp_path)
    assert "runs/small-seeds" in call("train", config, "--seeds", "0,1")
    text = call("evaluate", "runs/small-seeds", "--ks", "5,10", "--metrics", "mrr")
    assert "ndcg@10 over seeds" in text and "mrr@5 over seeds" in text and "popularity" in text
    kept = pl.read_csv("runs/small-seeds/seeds.csv")
    assert set(kept["run"]) > {"small-seeds", "popularity"}
    rows = json.loads(
        call("compare", "runs/small-seeds", "runs/small-seeds/small-seeds-s1", "--json")
    )
    assert {row["num_seeds"] for row in rows["rows"]} == {1, 2} and not rows["missing"]
    assert "beside small-seeds-s1" in call("compare", "--paired", "runs/small-seeds")
    told = call("evaluate", "runs/small-seeds", "--without", "ids", code=2)
    assert "--without is of one run" in " ".join(told.replace("│", " ").split())


def test_figures_over_seeds_are_those_of_the_runs_tables(runs):
    found = recsys.evaluate_seeds(runs.folder)
    tables = [load_table(run / "metrics" / "test-s3rec.json") for run in runs.finished]
    values = [
        table.value("ndcg", 10, 4, run=f"walks-s{s}")
        for table, s in zip(tables, (0, 3), strict=True)
    ]
    row = found.frame.row(
        by_predicate=(pl.col("run") == "walks") & (pl.col("granularity") == 4)
        & (pl.col("metric") == "ndcg") & (pl.col("k") == 10),
        named=True,
    )  # fmt: skip
    assert row["num_seeds"] == 2
    assert row["mean"] == pytest.approx(np.mean(values))
    assert row["sd"] == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2))
    assert (row["min"], row["max"]) == pytest.approx((min(values), max(values)))
    assert row["low"] <= row["mean"] <= row["high"]
    flat = found.frame.filter(pl.col("run") == "popularity")
    assert flat["num_seeds"].unique().to_list() == [1] and flat["sd"].is_null().all()
    assert tables[0].rows["run"].n_unique() > 1 and tables[1].rows["run"].n_unique() == 1


def test_a_failed_seed_leaves_the_others_and_is_tried_again(data, tmp_path, monkeypatch):
    whole = training.train_loop

    def breaks(model, batches, config, *rest, **more):
        if config.seed == 1:
            raise MemoryError("no room")
        return whole(model, batches, config, *rest, **more)

    monkeypatch.setattr(training, "train_loop", breaks)
    with pytest.raises(
        RunError, match=r"1 of 3 seeds have failed \(1\); seed 1: MemoryError: no room"
    ):
        train_seeds(settings(data, 1), seeds=(0, 1, 2), out=tmp_path / "runs")
    kept = open_seeds(tmp_path / "runs")
    assert [run.name for run in kept.finished] == ["runs-s0", "runs-s2"]
    found = recsys.evaluate_seeds(kept.folder, with_baselines=False)
    assert found.missing == ("runs-s1: MemoryError: no room",)
    before = (kept.run(0) / "model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(training, "train_loop", whole)
    again = train_seeds(settings(data, 1), seeds=(0, 1, 2), out=tmp_path / "runs", resume=True)
    assert len(again.finished) == 3 and not open_seeds(again.folder).failed
    assert (kept.run(0) / "model.safetensors").stat().st_mtime_ns == before


def test_a_stopped_training_of_seeds_goes_on_and_takes_more(data, tmp_path, monkeypatch):
    whole, trained = training.train_loop, []

    def stops(model, batches, config, *rest, **more):
        if config.seed == 1:
            raise StoppedError("stopped by SIGTERM")
        trained.append(config.seed)
        return whole(model, batches, config, *rest, **more)

    monkeypatch.setattr(training, "train_loop", stops)
    with pytest.raises(StoppedError, match="runs-s1 was stopped"):
        train_seeds(settings(data, 1), seeds=(0, 1, 2), out=tmp_path / "runs")
    assert trained == [0]
    monkeypatch.setattr(training, "train_loop", whole)
    more = train_seeds(settings(data, 1), seeds=(5,), out=tmp_path / "runs", resume=True)
    assert [load_run_info(run)["seed"] for run in more.finished] == [0, 1, 2, 5]


def test_what_cannot_be_trained_or_compared_is_refused(data, runs, tmp_path):
    for seeds in ((), (1, 1), (-1,)):
        with pytest.raises(ConfigError, match="each once, are expected"):
            train_seeds(settings(data, 1), seeds=seeds, out=tmp_path / "x")
    with pytest.raises(ConfigError, match=r"trainer\.seed is given beside several seeds"):
        train_seeds("any.yaml", ["trainer.seed=3"], seeds=(0,), out=tmp_path / "x")
    with pytest.raises(DataError):
        train_seeds(settings(tmp_path / "nowhere", 1), seeds=(0,), out=tmp_path / "x")
    assert not (tmp_path / "x").exists()
    with pytest.raises(RunError, match="holds runs of several seeds already"):
        train_seeds(settings(data, 1), seeds=(0,), out=runs.folder)
    with pytest.raises(RunError, match="is the folder of one run"):
        train_seeds(settings(data, 1), seeds=(0,), out=runs.run(0))
    with pytest.raises(ConfigError, match="started with another config"):
        train_seeds(settings(data, 1, protocol="hstu"), seeds=(0,), out=runs.folder, resume=True)
    with pytest.raises(RunError, match="holds no runs of several seeds"):
        recsys.evaluate_seeds(runs.run(0))
    other = train_seeds(settings(data, 1, protocol="hstu"), seeds=(0,), out=tmp_path / "other")
    recsys.evaluate_seeds(other.folder, with_baselines=False)
    recsys.evaluate_seeds(runs.folder, with_baselines=False)
    with pytest.raises(ProtocolError, match="protocol: 's3rec' against 'hstu'"):
        recsys.compare_seeds([runs.folder, other.folder])
