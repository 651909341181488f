"""The verbs on one small trained run, through Python and through the command line."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

import recsys
from recsys.data.dataset import SplitRule, write_dataset
from recsys.errors import ConfigError, ProtocolError, RunError
from recsys.evaluation.metric_table import load_table
from recsys.runs.config import RunConfig
from tests.command import call


def frame(seed=0):
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(80), 9)
    items = (np.repeat(rng.integers(0, 25, 80), 9) + np.tile(np.arange(9), 80)) % 25
    times = np.tile(np.arange(9), 80) * 100 + rng.integers(0, 50, len(users))
    return pl.DataFrame({"user_id": users, "item_id": items, "timestamp": times})


def config(data, **changes):
    tree = {
        "data": str(data),
        "threads": 1,
        "model": {"granularities": {"sizes": [4, 8]}, "history_length": 8},
        "trainer": {"epochs": 2},
    }
    return RunConfig.model_validate({**tree, **changes})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("verbs")


@pytest.fixture(scope="module")
def data(place):
    return write_dataset(place / "data", frame(), name="walks").folder


@pytest.fixture(scope="module")
def run(place, data):
    run = recsys.train(config(data), out=place / "one")
    recsys.evaluate(run)
    return run


def test_overrides_of_a_config_object_are_refused(data, tmp_path):
    with pytest.raises(ConfigError, match="a config object was given"):
        recsys.train(config(data), ["trainer.epochs=1"], out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_evaluate_measures_the_run_beside_the_four_baselines(run):
    table = load_table(run / "metrics" / "test-s3rec.json")
    names = table.rows["run"].unique(maintain_order=True).to_list()
    assert [name.split()[0] for name in names] == [
        "one", "popularity", "recent_popularity", "item_knn", "sequential_rules", "ease",
    ]  # fmt: skip
    assert table.rows.filter(pl.col("run") == "one")["granularity"].unique().to_list() == [4, 8]
    assert table.card.fit_on == "train" and table.card.filter_seen
    assert 0 <= table.value("recall", 10, 4, run="one") <= 1


def test_the_command_line_prints_the_same_figures(run):
    printed = json.loads(call("evaluate", run, "--no-baselines", "--json"))
    recsys.evaluate(run)
    table = load_table(run / "metrics" / "test-s3rec.json")
    found = [
        row["value"]
        for row in printed["rows"]
        if (row["metric"], row["k"], row["granularity"]) == ("ndcg", 10, 8)
        and row["segment"] == "all"
    ]
    assert found == [table.value("ndcg", 10, 8, run="one")]
    assert "d8 full" in call("evaluate", run)


def test_the_validation_part_and_another_protocol_are_tables_of_their_own(run):
    valid = recsys.evaluate(run, part="valid", protocol="fmrlrec", with_baselines=False)
    assert valid.card.part == "valid" and not valid.card.filter_seen
    assert (run / "metrics" / "valid-fmrlrec.json").is_file()


def test_compare_refuses_to_mix_protocol_cards(run, place):
    other_data = write_dataset(place / "other-data", frame(seed=1), name="walks").folder
    other = recsys.train(config(other_data), out=place / "other")
    recsys.evaluate(other, with_baselines=False)
    with pytest.raises(ProtocolError, match="content_hash"):
        recsys.compare([run, other])
    assert "were not measured alike" in call("compare", run, other, code=1)


def test_compare_puts_runs_of_one_card_side_by_side(run, place, data):
    second = recsys.train(config(data, trainer={"epochs": 1}), out=place / "two")
    recsys.evaluate(second, with_baselines=False)
    names = recsys.compare([run, second]).rows["run"].unique(maintain_order=True).to_list()
    assert [name.split()[0] for name in names] == [
        "one", "two", "popularity", "recent_popularity", "item_knn", "sequential_rules", "ease",
    ]  # fmt: skip
    assert "two" in call("compare", run, second)
    text = recsys.report(run, [second], out=place / "both")[1].read_text()
    assert "| two | d8 full |" in text and "| ease l2=" in text


def test_a_renamed_run_can_still_be_reported(run, place):
    shutil.copytree(run, place / "renamed")
    assert "| renamed | d4 |" in recsys.report(place / "renamed")[1].read_text()
    with pytest.raises(RunError, match="share a name"):
        recsys.compare([run, run])


def test_report_names_the_page_last(run):
    lines = call("report", run).strip().splitlines()
    assert lines[-1].endswith("report.html") and (run / "report" / "report.html").is_file()


def test_what_was_not_evaluated_is_said(place, data):
    bare = recsys.train(config(data, trainer={"epochs": 1}), out=place / "bare")
    assert "run `recsys evaluate` first" in call("report", bare, code=1)
    assert "is not a run folder" in call("evaluate", place, code=1)
    assert "'train' is not among" in call("evaluate", bare, "--split", "train", code=2)


def test_a_run_of_leave_last_out_is_not_measured_by_time(run):
    with pytest.raises(ProtocolError, match="needs the split global-time"):
        recsys.evaluate(run, protocol="global-time")


@pytest.mark.parametrize("ks", [(), (0,), (2.5,), "10", (True,)])
def test_cutoffs_that_are_none_are_refused(run, ks):
    with pytest.raises(ConfigError, match="whole numbers of 1 or more"):
        recsys.evaluate(run, ks=ks, with_baselines=False)


def test_a_part_that_there_is_not_is_refused(run):
    with pytest.raises(ProtocolError, match="'train' is not among"):
        recsys.evaluate(run, part="train", with_baselines=False)


@pytest.mark.parametrize("runs", [[], "runs/demo"])
def test_compare_wants_a_list_of_runs(runs):
    with pytest.raises(RunError, match="a list of run folders"):
        recsys.compare(runs)


def test_global_time_measures_many_targets_and_cold_items(place):
    rows = frame().with_columns(
        item_id=pl.when(pl.col("timestamp") > 820).then(99).otherwise(pl.col("item_id"))
    )
    rule = SplitRule(name="global-time", valid_quantile=0.7, test_quantile=0.85)
    data = write_dataset(place / "times", rows, name="times", split=rule).folder
    run = recsys.train(config(data, protocol="global-time"), out=place / "by-time")
    table = recsys.evaluate(run, with_baselines=False)
    assert "train <= q0.7" in table.card.split
    assert {"warm", "cold"} <= set(table.rows["segment"].unique())


def test_baselines_are_measured_by_name(data, place):
    table = recsys.evaluate_baselines(data, ["popularity", "als"])
    table.save(place / "table.json")
    assert load_table(place / "table.json").rows.equals(table.rows)
    assert table.rows.filter(pl.col("run") == "als")["granularity"].n_unique() > 1
    assert callable(recsys.evaluate_baselines)  # still, now that the package is imported
    strong = recsys.evaluate_baselines(data, ["ease"], ["ease.l2=5000"])
    weak = recsys.evaluate_baselines(data, ["ease"], ["ease.l2=5"])
    assert strong.rows["value"].to_list() != weak.rows["value"].to_list()
    assert "is not among the named" in call("baselines", data, "popularity", "ease.l2=5", code=1)
    output = call("baselines", data, "popularity", "--fit-on", "train+valid")
    assert "fitted on train+valid" in output
    assert "did you mean 'item_knn'?" in call("baselines", data, "item_kn", code=1)
    assert "no baseline named 'item_kn'" in call("baselines", data, "item_kn.k=5", code=1)
    assert "there is no baseline named 'magic'; known: popularity" in call(
        "baselines", data, "magic", code=1
    )


def test_prepare_lists_names_and_options():
    output = call("prepare", "--list")
    assert "ml-100k" in output and "min_user_count" in output


def test_prepare_makes_a_folder_once(place):
    out = place / "made"
    sizes = ["synthetic.num_users=50", "synthetic.num_items=40", "synthetic.num_interactions=400"]
    assert "50 users" in call("prepare", "synthetic", *sizes, "--out", out)
    before = (out / "dataset.json").read_text()
    assert "50 users" in call("prepare", "synthetic", "--out", out, "--if-missing")
    assert (out / "dataset.json").read_text() == before
    assert "did you mean 'seed'" in call("prepare", "synthetic", "synthetic.sed=1", code=1)


def test_training_from_the_command_line_leaves_a_run(place, data):
    path = place / "config.yaml"
    path.write_text(f"data: {data}\nthreads: 1\ntrainer: {{epochs: 1}}\n")
    options = ["model.granularities.sizes=[4, 8]", "--out", place / "cli"]
    assert "trained:" in call("train", path, *options)
    assert "--resume" in call("train", path, *options, code=1)
    assert "trained:" in call("train", path, *options, "--resume")


def test_cutoffs_and_metrics_that_are_asked_for_are_measured_and_shown(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    asked = ("--ks", "3,7", "--metrics", "mrr,hit,map,precision")
    text = call("evaluate", copy, "--no-baselines", *asked)
    for name in ("recall", "ndcg", "mrr", "hit", "map", "precision"):
        assert f"{name}@3" in text and f"{name}@7" in text
    table = load_table(copy / "metrics" / "test-s3rec.json")
    hit = table.value("hit", 7, 4)
    assert table.value("precision", 7, 4) == pytest.approx(hit / 7) and 0 < hit <= 1
    assert table.value("map", 7, 4) == pytest.approx(table.value("mrr", 7, 4))
    assert table.value("ndcg", 100, 4) > 0, "the usual cutoffs are measured too"
    assert "7" in call("evaluate", copy, "--ks", "0,7", code=1)
    assert "not of the form" in call("evaluate", copy, "--ks", "a", code=2)
