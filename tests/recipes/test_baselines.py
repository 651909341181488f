"""Baselines beside a run: their settings, their names, and what large catalogues ask of them."""

import numpy as np
import polars as pl
import pytest

import recsys
from recsys.baselines import fit_baseline
from recsys.baselines.ease import EaseConfig
from recsys.baselines.item_knn import ItemKNNConfig, ItemWeights
from recsys.baselines.popularity import (
    Popularity,
    PopularityConfig,
    RecentPopularityConfig,
)
from recsys.data.dataset import Dataset, SplitRule, write_dataset
from recsys.data.splitting import make_split
from recsys.errors import ConfigError
from recsys.evaluation.evaluate import EvaluationOptions, evaluate
from recsys.evaluation.held_out import fit_histories
from recsys.evaluation.metric_table import load_table
from recsys.evaluation.protocol import PROTOCOLS
from recsys.evaluation.ranking.make_scorer import DEFAULT_BUDGET, make_scorer
from recsys.recipes.evaluating.baseline_settings import tune
from recsys.recipes.evaluating.baselines import Figures, choose, measure_baselines
from recsys.runs.records import run_name

S3REC = PROTOCOLS["s3rec"]


def walks(folder, *, timed: bool = True, num_users: int = 60, num_items: int = 30) -> Dataset:
    """Users who go on to a neighbour of what they had."""
    random = np.random.default_rng(0)
    steps = random.integers(-2, 3, (num_users, 12)).cumsum(axis=1)
    items = (steps + random.integers(0, num_items, (num_users, 1))) % num_items
    columns = {"user_id": np.repeat(np.arange(num_users), 12), "item_id": items.ravel()}
    if timed:
        columns["timestamp"] = random.permutation(num_users * 12).reshape(num_users, 12)
        columns["timestamp"] = np.sort(columns["timestamp"], axis=1).ravel()
    return write_dataset(folder, pl.DataFrame(columns), name="walks")


@pytest.fixture
def data(tmp_path) -> Dataset:
    return walks(tmp_path / "data")


def validated(config, data) -> float:
    """ndcg@10 on validation of what was fitted on train."""
    split = make_split(data)
    model = fit_baseline(config, fit_histories(data, split, "train"), data.num_items)
    table = evaluate(
        model,
        data,
        split,
        protocol=S3REC,
        part="valid",
        ks=(10,),
        options=EvaluationOptions(extras=False),
    )
    return table.value("ndcg", 10)


@pytest.mark.parametrize("config", [EaseConfig(), ItemKNNConfig(), RecentPopularityConfig()])
def test_settings_that_are_not_given_are_chosen_on_validation(data, config):
    chosen = tune(config, data, make_split(data), S3REC)
    assert validated(chosen, data) >= validated(config, data)


def test_the_best_l2_of_all_is_found_where_quality_has_one_peak(data):
    values = {l2: validated(EaseConfig(l2=l2), data) for l2 in (5, 10, 20, 50, 100, 200, 500, 1000)}
    chosen = tune(EaseConfig(), data, make_split(data), S3REC)
    assert validated(chosen, data) >= max(values[l2] for l2 in (20, 50, 100, 200, 500))


def test_a_setting_that_was_given_is_taken(data):
    split = make_split(data)
    for name, given in (("ease", {"l2": 7.0}), ("item_knn", {"shrinkage": 3.0})):
        overrides = [f"{name}.{key}={value}" for key, value in given.items()]
        (config,) = choose([name], data, overrides)
        chosen = tune(config, data, split, S3REC)
        assert {key: getattr(chosen, key) for key in given} == given
    assert tune(EaseConfig(l2=7), data, split, S3REC) == EaseConfig(l2=7)


def test_the_chosen_values_are_printed_with_the_baseline_and_kept_in_its_file(data, tmp_path):
    recsys.evaluate_baselines(data.folder).save(tmp_path / "table.json")
    names = load_table(tmp_path / "table.json").rows["run"].unique(maintain_order=True).to_list()
    chosen = [tune(config, data, make_split(data), S3REC) for config in choose((), data)]
    assert names == [
        "popularity",
        f"recent_popularity share={chosen[1].share:g}",
        f"item_knn neighbours={chosen[2].neighbours} shrinkage={chosen[2].shrinkage:g}",
        f"sequential_rules reach={chosen[3].reach} last={chosen[3].last}",
        f"ease l2={chosen[4].l2:g}",
    ]


def test_without_times_the_length_of_what_is_recent_is_chosen_instead(tmp_path):
    table = recsys.evaluate_baselines(walks(tmp_path / "data", timed=False).folder)
    assert any(name.startswith("recent_popularity last=") for name in table.rows["run"].unique())


def test_settings_are_chosen_on_train_and_valid_whatever_is_measured(data):
    names = [
        recsys.evaluate_baselines(data.folder, ["ease"], part=part, fit_on=fit_on).rows["run"][0]
        for part, fit_on in (("test", "train"), ("test", "train+valid"), ("valid", "train"))
    ]
    assert len(set(names)) == 1


def test_where_nobody_has_a_validation_item_the_defaults_stand_and_that_is_said(tmp_path, capsys):
    columns = {"user_id": [0, 0, 1, 1, 0, 1, 0, 1], "item_id": list(range(8))}
    frame = pl.DataFrame(columns | {"timestamp": [1, 2, 1, 2, 2, 2, 3, 3]})
    rule = SplitRule(name="global-time", valid_quantile=0.4, test_quantile=0.5)  # both cut at 2
    data = write_dataset(tmp_path / "few", frame, name="few", split=rule)
    assert tune(EaseConfig(), data, make_split(data), PROTOCOLS["global-time"]) == EaseConfig()
    assert "they are the default's" in " ".join(capsys.readouterr().err.split())


def test_what_can_be_fitted_with_no_value_is_refused_before_any_is_called_chosen(data, capsys):
    config = EaseConfig(memory_limit_gib=1e-9)
    with pytest.raises(ConfigError, match=r"EASE over 30 items takes .* are allowed"):
        tune(config, data, make_split(data), S3REC)
    assert "chosen" not in capsys.readouterr().err


def test_a_value_that_cannot_be_fitted_is_said_and_another_is_chosen(data, monkeypatch, capsys):
    fit = EaseConfig.fit

    def fit_some(config, *given):
        if config.l2 != 200:
            return fit(config, *given)
        raise ConfigError("singular")

    monkeypatch.setattr(EaseConfig, "fit", fit_some)
    chosen = tune(EaseConfig(), data, make_split(data), S3REC)
    assert chosen.l2 != 200
    told = " ".join(capsys.readouterr().err.split())
    assert "l2=200: cannot be fitted" in told
    assert "l2=100: 0." in told


def test_choosing_is_left_out_unasked_where_it_takes_minutes(data, monkeypatch, capsys):
    monkeypatch.setattr("recsys.baselines.ease._DEAR_ITEMS", 10)
    split = make_split(data)
    configs = [EaseConfig()]
    unasked = measure_baselines(configs, data, split, S3REC, "test", "train", Figures((10,)))
    assert unasked.rows["run"][0] == "ease l2=100"
    assert "recsys baselines" in " ".join(capsys.readouterr().err.split())


def test_a_run_named_like_a_baseline_is_told_apart_from_it(tmp_path):
    assert run_name(tmp_path / "ease") == "ease (run)"
    assert run_name(tmp_path / "popularity") == "popularity (run)"
    assert run_name(tmp_path / "ease-of-use") == "ease-of-use"


def test_baselines_of_a_large_catalogue_score_hundreds_of_users_at_once(tmp_path, monkeypatch):
    random, num_items = np.random.default_rng(0), 200_000
    frame = pl.DataFrame(
        {"user_id": np.repeat(np.arange(300), 4), "item_id": random.integers(0, 3000, 1200)}
    )
    data = write_dataset(tmp_path / "data", frame, name="large")
    object.__setattr__(data, "manifest", data.manifest.model_copy(update={"num_items": num_items}))
    monkeypatch.setattr(Popularity, "scores", None)  # [B, N] is never made
    monkeypatch.setattr(ItemWeights, "scores", None)
    configs = [PopularityConfig(), RecentPopularityConfig(share=0.2), ItemKNNConfig()]
    rows = fit_histories(data, make_split(data), "train")
    for config in configs:
        model = fit_baseline(config, rows, num_items)
        scorer = make_scorer(model, num_items, budget_bytes=DEFAULT_BUDGET)
        assert scorer.num_users >= 40
    table = measure_baselines(
        configs[:1], data, make_split(data), S3REC, "test", "train", Figures((10,))
    )
    assert table.rows.height
