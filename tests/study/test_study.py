"""A study of a tiny recipe: its runs, its measurements, its tables."""

import fcntl
import json
import shutil
import signal
import time

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from rich.console import Console
from typer.testing import CliRunner

import recsys
from recsys.cli import app
from recsys.data.dataset import write_dataset
from recsys.errors import ConfigError, RunError
from recsys.evaluation.evaluate import RankingOptions, rank_held_out
from recsys.granularity import Granularities
from recsys.recipes.evaluating.results import Origin
from recsys.reports.results.record import Step, read_results
from recsys.runs.loading import load_run
from recsys.runs.records import load_config, load_run_info
from recsys.studies import StudyConfig, print_states, study
from recsys.studies.config import make_plan, read_study
from recsys.studies.methods import METHODS, Trained
from recsys.studies.report.content import MEAN, RETENTION, VERSUS_SEPARATE
from recsys.studies.report.terminal import print_study
from recsys.studies.results import keep_study
from recsys.studies.runs import duration
from recsys.training.logs import read_lines
from tests.forked import Child

QUICK = ("nested", "separate", "truncation", "pca")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def run_config(place):
    """320 items and users who walk a circle: enough items for a codebook of 256."""
    random = np.random.default_rng(0)
    starts, lengths = random.integers(0, 320, 240), random.integers(5, 9, 240)
    users = np.repeat(np.arange(240), lengths)
    walks = [(start + np.arange(n)) % 320 for start, n in zip(starts, lengths, strict=True)]
    everything = np.arange(320)  # a last user has every item, so none is without an index
    frame = pl.DataFrame(
        {
            "user_id": np.concatenate([users, np.full(320, 240)]),
            "item_id": np.concatenate([*walks, everything]),
        }
    )
    data = write_dataset(place / "data", frame, name="circle").folder
    path = place / "run.yaml"
    tree = {
        "data": str(data),
        "threads": 1,
        "model": {
            "granularities": {"sizes": [4, 8, 16], "normalize": True, "weights": [1, 1, 2]},
            "history_length": 8,
        },
        "trainer": {"epochs": 2, "metric": "ndcg@10/d8"},
    }
    path.write_text(yaml.safe_dump(tree))
    return path


def settings(run_config, **changes):
    fields = {"run": run_config, "seeds": [0, 1], "methods": QUICK, "num_resamples": 100}
    return StudyConfig.model_validate(fields | changes)


@pytest.fixture(scope="module")
def result(place, run_config):
    """All methods, two seeds."""
    return study(settings(run_config, methods=tuple(METHODS)), out=place / "all")


def rows(result, **wanted):
    summary = result.content.summary
    return summary.filter(*(pl.col(key) == value for key, value in wanted.items()))


def test_every_method_has_figures_of_every_seed(result):
    assert result.missing == ()
    seeds = result.seeds
    assert set(seeds["method"]) == set(METHODS)
    assert seeds.group_by("method").agg(pl.col("seed").n_unique())["seed"].unique().to_list() == [2]
    assert set(seeds["metric"]) == {"recall", "ndcg"} and set(seeds["k"]) == {10, 20}
    assert seeds["value"].is_between(0, 1).all()
    assert {path.name for path in result.files} == {
        "study.html", "recall.svg", "ndcg.svg", "summary.csv", "study.csv",
    }  # fmt: skip
    assert pl.read_csv(result.folder / "study.csv").height == seeds.height


def test_bytes_are_those_of_the_stored_item(result):
    points = result.seeds.select("method", "granularity", "setting", "bytes").unique()

    def of(method):
        return sorted(points.filter(method=method).drop("method").rows())

    prefixes = [(4, "", 16), (8, "", 32), (12, "", 48), (16, "", 64)]
    for method in ("nested", "truncation", "pca", "svd", "projection"):
        assert of(method) == prefixes
    assert of("separate") == [(4, "", 16), (8, "", 32), (16, "", 64)]
    assert of("int8") == [(16, "", 16 + 4)] and of("int4") == [(16, "", 8 + 4)]
    assert of("nested_int8") == [(4, "", 8), (8, "", 12), (16, "", 20)]
    assert of("nested_int4") == [(4, "", 6), (8, "", 8), (16, "", 12)]
    assert of("pca_int8") == of("svd_int8") == [(4, "", 4), (8, "", 8), (16, "", 16)]
    assert of("pq") == of("nested_pq") == [(16, "pq4", 4), (16, "pq8", 8)]
    assert of("sparse") == [(16, f"{k} of 40", 4 * k) for k in (1, 2, 4)], (
        "an eighth of 320 items are 40 atoms"
    )
    shared = dict(result.seeds.select("setting", "shared_bytes").iter_rows())
    assert shared["pq4"] == 256 * 16 * 4 and shared["4 of 40"] == 40 * 16 * 4


def test_a_separate_run_is_the_same_recipe_with_one_granularity(result):
    nested, alone = (load_config(result.folder / name) for name in ("nested-s1", "separate-d8-s1"))
    assert nested.trainer.seed == alone.trainer.seed == 1
    assert alone.model.granularities.sizes == (8,)
    assert alone.model.granularities.weights is None and alone.trainer.metric == "ndcg@10"
    left = {"granularities": None}
    assert nested.model.model_copy(update=left) == alone.model.model_copy(update=left)
    same = {"trainer": None, "model": None}
    assert nested.model_copy(update=same) == alone.model_copy(update=same)
    assert load_run(result.folder / "separate-d8-s1").model.item_vectors().shape == (320, 8)


def test_in_between_widths_are_the_model_cut_there(result):
    loaded = load_run(result.folder / "nested-s0")
    ranking = rank_held_out(
        loaded.model,
        loaded.dataset,
        loaded.split,
        part="test",
        filter_seen=True,
        options=RankingOptions(granularities=Granularities(sizes=(12,), normalize=True)),
    )
    row = result.seeds.row(
        by_predicate=(pl.col("method") == "nested")
        & (pl.col("granularity") == 12)
        & (pl.col("seed") == 0)
        & (pl.col("metric") == "ndcg")
        & (pl.col("k") == 10),
        named=True,
    )
    assert row["value"] == pytest.approx(ranking.per_user("ndcg", 10).mean()) and not row["trained"]


def test_nested_figures_are_those_of_recsys_evaluate(result):
    table = recsys.evaluate(result.folder / "nested-s1", with_baselines=False)
    own = result.seeds.filter(method="nested", seed=1, metric="recall", k=10)
    for size in (4, 8, 16):
        value = own.filter(granularity=size)["value"].item()
        assert value == pytest.approx(table.value("recall", 10, size))


def test_full_width_is_the_same_whichever_way_it_is_cut(result):
    full = {
        method: result.seeds.filter(method=method, granularity=16)["value"].to_list()
        for method in ("separate", "truncation", "pca", "projection")
    }
    assert full["separate"] == pytest.approx(full["truncation"])
    assert full["separate"] == pytest.approx(full["pca"], abs=2e-3)
    assert full["separate"] == pytest.approx(full["projection"], abs=2e-3)


def test_means_and_ratios_are_taken_over_seeds(result):
    def mean(method, granularity):
        own = result.seeds.filter(method=method, granularity=granularity, metric="ndcg", k=10)
        return own["value"].mean()

    kept = rows(result, figure=RETENTION, method="nested", metric="ndcg", k=10, granularity=4)
    assert kept["value"].item() == pytest.approx(mean("nested", 4) / mean("nested", 16))
    assert kept["num_seeds"].item() == 2 and kept["num_users"].item() == 241
    tax = rows(result, figure=VERSUS_SEPARATE, metric="ndcg", k=10, granularity=4)
    assert tax["value"].item() == pytest.approx(mean("nested", 4) / mean("separate", 4))
    assert tax["low"].item() < tax["value"].item() < tax["high"].item()
    whole = rows(result, figure=RETENTION, method="nested", metric="ndcg", k=10, granularity=16)
    assert whole.select("value", "low", "high").row(0) == pytest.approx((1, 1, 1))
    assert rows(result, figure=MEAN, method="nested", metric="ndcg", k=10).height == 4


def test_what_is_finished_is_neither_trained_nor_measured_again(result, run_config):
    def stamps():
        files = sorted(result.folder.rglob("*.safetensors"))
        return {str(path): path.stat().st_mtime_ns for path in files}

    before = stamps()
    again = study(settings(run_config, methods=tuple(METHODS)), out=result.folder)
    assert stamps() == before and len(before) == 8 + 2 * (len(METHODS) - 1) + 2 * 3
    assert again.content.summary.equals(result.content.summary)


def test_a_deleted_run_is_missing_and_comes_back(place, result, run_config):
    copy = place / "copy"
    shutil.copytree(result.folder, copy)
    shutil.rmtree(copy / "separate-d8-s1")
    config = settings(run_config)
    found = study(config, out=copy, train=False)
    assert found.missing == ("separate, seed 1: run separate-d8-s1 is missing",)
    tax = rows(found, figure=MEAN, method="separate", granularity=8)
    assert tax["num_seeds"].unique().to_list() == [1]
    assert "run separate-d8-s1 is missing" in found.files[0].read_text()
    back = study(config, out=copy)
    assert back.missing == ()
    assert back.seeds.equals(result.seeds.filter(pl.col("method").is_in(QUICK)))


def test_new_weights_are_measured_anew(place, result, run_config):
    copy = place / "weights"
    shutil.copytree(result.folder, copy)
    shutil.copy(copy / "nested-s0" / "model.safetensors", copy / "nested-s1")
    found = study(settings(run_config, methods=["nested"]), out=copy, train=False)
    values = found.seeds.sort("seed").partition_by("seed", maintain_order=True)
    assert values[0]["value"].to_list() == values[1]["value"].to_list()


def test_only_trains_what_the_named_methods_need(place, run_config):
    folder = place / "only"
    found = study(settings(run_config), out=folder, only=["nested"])
    assert {path.name for path in folder.iterdir() if (path / "run.json").is_file()} == {
        "nested-s0", "nested-s1",
    }  # fmt: skip
    assert found.missing[0] == "separate, seed 0: run separate-d4-s0 is missing"
    assert not found.content.ratios(VERSUS_SEPARATE) and found.content.ratios(RETENTION)
    with pytest.raises(ConfigError, match="'nestd' is not among nested, nested_int8"):
        study(settings(run_config), out=folder, only=["nestd"])


def test_another_recipe_in_the_same_folder_is_refused(result, run_config):
    with pytest.raises(ConfigError, match="was started with another config"):
        study(settings(run_config, overrides=["trainer.epochs=3"]), out=result.folder)
    states = study(
        settings(run_config, overrides=["trainer.epochs=3"]), out=result.folder, dry=True
    ).states
    assert {each.state for each in states} == {"other config"}


def test_dry_lists_and_writes_nothing(place, run_config, capsys):
    found = study(settings(run_config), out=place / "dry", dry=True)
    assert not (place / "dry").exists()
    print_states(found, Console(width=100))
    printed = capsys.readouterr().out
    assert "0 of 8 runs" in printed and "separate-d16-s1" in printed and "missing" in printed


def test_a_run_that_another_process_trains_is_left_to_it(place, run_config):
    folder = place / "shared"
    (folder / ".locks").mkdir(parents=True)
    with (folder / ".locks" / "nested-s0").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        config = settings(run_config, methods=["nested"])
        found = study(config, out=folder)
        assert found.missing == ("nested, seed 0: run nested-s0 is training",)
        assert not (folder / "nested-s0").exists() and (folder / "nested-s1").exists()
    assert study(config, out=folder).missing == ()


def test_a_killed_study_goes_on_where_it_was(place, run_config):
    folder = place / "killed"
    path = place / "study.yaml"
    path.write_text(
        f"run: {run_config}\nseeds: [0]\nmethods: [nested]\n"
        "overrides: [trainer.epochs=20, trainer.patience=20]\nnum_resamples: 100\n"
    )
    child = Child("-m", "recsys", "study", path, "--out", folder)
    log = folder / "nested-s0" / "log.jsonl"
    while child.poll() is None and not (log.is_file() and len(read_lines(log)) >= 3):
        time.sleep(0.02)
    assert child.kill() == -signal.SIGKILL
    assert load_run_info(folder / "nested-s0")["state"] == "started"
    config = read_study(path, [])
    assert study(config, out=folder, dry=True).states[0].state == "unfinished"
    early = read_lines(log)[0]
    assert study(config, out=folder).missing == ()
    assert read_lines(log)[0] == early, "the first epoch was trained once"
    assert load_run_info(folder / "nested-s0")["state"] == "finished"


def test_few_items_leave_a_codec_out_and_say_why(place):
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(60), 6)
    frame = pl.DataFrame({"user_id": users, "item_id": random.integers(0, 40, len(users))})
    data = write_dataset(place / "small", frame, name="small").folder
    path = place / "small.yaml"
    path.write_text(
        f"data: {data}\nthreads: 1\nmodel: {{granularities: {{sizes: [4, 8]}}}}\n"
        "trainer: {epochs: 1}\n"
    )
    found = study(settings(path, seeds=[0], methods=["nested", "nested_pq"]), out=place / "few")
    assert len(found.missing) == 1 and "rows are too few" in found.missing[0]
    assert "nested" in set(found.seeds["method"]) and "nested_pq" not in set(found.seeds["method"])


def test_configs_that_cannot_be_are_refused(run_config):
    with pytest.raises(ConfigError, match="lack the full width 16"):
        make_plan(settings(run_config, widths=[4, 8]))
    with pytest.raises(ConfigError, match=r"\[32\] are outside 1..16"):
        make_plan(settings(run_config, widths=[16, 32]))
    with pytest.raises(ConfigError, match=r"between .* must be shorter than the full width 16"):
        make_plan(settings(run_config, between=[20]))
    with pytest.raises(ConfigError, match="one granularity"):
        make_plan(settings(run_config, overrides=[
            "model.granularities.sizes=[16]", "model.granularities.weights=null",
            "trainer.metric=ndcg@10",
        ]))  # fmt: skip
    with pytest.raises(ValueError, match="hold 10"):
        settings(run_config, ks=[5])
    with pytest.raises(ValueError, match="not among"):
        settings(run_config, methods=["nest"])


def test_separate_runs_may_need_changes_of_their_own(run_config):
    change = "model.item_init_std=0.{width}"
    plan = make_plan(settings(run_config, separate_overrides=[change]))
    assert plan.find(8, 0).config.model.item_init_std == 0.8
    assert plan.find(None, 0).config.model.item_init_std == 0.02


def test_a_vector_served_by_cosine_has_length_one():
    items = torch.randn(30, 8)
    options = {"sizes": (4, 8), "between": (), "budgets": (8,), "seed": 0, "sparse_atoms": 4}
    run = Trained(items, torch.randn(5, 8), lambda: torch.randn(9, 8), True, **options)
    torch.testing.assert_close(run.served(4).norm(dim=1), torch.ones(30))
    variant = next(METHODS["nested_int8"].make(run))
    scores = variant.vectors.users @ variant.vectors.items.T
    exact = run.users[:, :4] @ run.served(4).T
    torch.testing.assert_close(scores, exact, atol=0.05, rtol=0)


def test_the_command_line_prints_the_tables(place, result, run_config):
    path = place / "cli.yaml"
    path.write_text(json.dumps({"run": str(run_config), "seeds": [0, 1], "num_resamples": 100}))
    runner = CliRunner()
    printed = runner.invoke(app, ["study", str(path), "--out", str(result.folder), "--no-train"])
    assert printed.exit_code == 0, printed.output
    assert "ndcg@10 by bytes of one item" in printed.output and "study.html" in printed.output
    listed = runner.invoke(app, ["study", str(path), "--out", str(result.folder), "--dry"])
    assert "8 of 8 runs" in listed.output
    kept = ["--results", "results/dry.json"]
    nothing = runner.invoke(app, ["study", str(path), "--out", str(place / "dry"), "--dry", *kept])
    assert nothing.exit_code == 1 and "--dry makes no figures" in nothing.output
    wrong = runner.invoke(app, ["study", str(path), "seed=[1]", "--out", str(result.folder)])
    assert wrong.exit_code == 1 and "did you mean 'seeds'" in wrong.output


def test_nothing_measured_yet_is_no_table(place, run_config):
    found = study(settings(run_config), out=place / "empty", train=False)
    assert found.content is None and len(found.missing) == 2 * (1 + 3 + 2)


def test_a_damaged_measurement_is_named(place, result, run_config):
    copy = place / "damaged"
    shutil.copytree(result.folder, copy)
    (copy / "measured" / "nested" / "nested-s0.safetensors").write_bytes(b"x" * 64)
    with pytest.raises(RunError, match="is damaged"):
        study(settings(run_config), out=copy)


def test_durations_read_well():
    assert [duration(s) for s in (12.3, 90, 3600, 12_000)] == [
        "12 s", "2 min", "1 h 0 min", "3 h 20 min",
    ]  # fmt: skip


def test_the_tables_print_on_a_narrow_terminal(result, capsys):
    print_study(result.content, Console(width=80))
    assert "nested" in capsys.readouterr().out


def test_a_study_keeps_its_figures_with_all_its_seeds(result, tmp_path):
    step = Step(command="recsys study configs/circle.yaml")
    keep_study(Origin(tmp_path / "study.json", (step,), ()), result)
    kept = read_results(tmp_path / "study.json")
    assert kept.seeds == result.content.seeds and kept.protocol == result.content.card
    nested = result.content.labels["nested"]
    (row,) = rows(
        result, method="nested", figure="mean", metric="ndcg", k=10, granularity=4, trained=True
    ).iter_rows(named=True)
    assert kept.find(nested, 4, "ndcg@10").value == float(f"{row['value']:.4g}"), "as a page"
    assert kept.find(nested, 4, "bytes").value == row["bytes"]
    assert kept.find(nested, 4, "over separate").unit == "times"
    assert len(kept.names) >= len(result.content.methods)
