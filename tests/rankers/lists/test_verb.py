"""`recsys last-stage`: the figures of a run's lists after each chain of steps."""

import numpy as np
import polars as pl
import pytest
import yaml

import recsys
from recsys.config import parse
from recsys.errors import ConfigError
from recsys.recipes.last_stage import knowing
from recsys.recipes.last_stage.config import PLAIN, LastStageConfig
from recsys.recipes.last_stage.knowing import item_categories
from recsys.recipes.last_stage.measure import compare_last_stages
from recsys.reports.results.record import read_results
from tests.command import call

STAGES = {
    "unlike": [{"name": "mmr", "diversity": 0.8}],
    "rare": [{"name": "explore", "places": [1, 2, 3], "rareness": 3}],
}


@pytest.fixture(scope="module")
def config():
    tree = {"candidates": 40, "k": 5, "categories": None, "stages": STAGES}
    return parse(LastStageConfig, tree, "a test")


def value(found, stage, metric):
    return found.figures.filter(stage=stage, metric=metric).row(0, named=True)


def test_chains_are_measured_beside_lists_by_score(loaded, config):
    found = compare_last_stages(loaded, config)
    plain = value(found, PLAIN, "ndcg@5")
    table = recsys.evaluate(loaded, with_baselines=False, ks=[5])
    assert plain["value"] == pytest.approx(table.value("ndcg", 5), abs=1e-9)
    assert plain["difference"] == plain["difference_low"] == plain["difference_high"] == 0
    unlike = value(found, "unlike", "diversity")
    assert unlike["difference_low"] > 0
    assert unlike["value"] == pytest.approx(
        value(found, PLAIN, "diversity")["value"] + unlike["difference"]
    )
    assert value(found, "rare", "popularity lift")["difference_high"] < 0


def test_the_verb_prints_and_keeps_them(run, data, tmp_path, monkeypatch):
    path, results = tmp_path / "stages.yaml", tmp_path / "stages.json"
    tree = {"candidates": 40, "k": 5, "categories": None, "stages": STAGES}
    path.write_text(yaml.safe_dump(tree))
    monkeypatch.setattr("sys.argv", ["recsys", "last-stage", "runs/shop", "stages.yaml"])
    shown = call("last-stage", run, path, "--data", data.folder, "--results", results)
    assert "lists of 5" in shown and "unlike" in shown
    assert read_results(results).names == [PLAIN, "rare", "unlike"]


def test_categories_come_from_a_column_of_items():
    frame = {"user": ["a", "a", "b"], "item": ["x", "y", "z"]}
    items = {"item": ["x", "y", "z"], "genres": ["war|love", None, "love"], "year": [1, 2, 3]}
    made = recsys.Dataset.from_frame(
        pl.DataFrame(frame), user="user", item="item", order="given", items=pl.DataFrame(items)
    )
    found, names = item_categories(made, "genres", "|")
    assert names == ("love", "war")
    order = [made.item_frame()["item_id"].to_list().index(each) for each in "xyz"]
    np.testing.assert_array_equal(found[order], [[True, True], [False, False], [True, False]])
    with pytest.raises(ConfigError, match="no column 'kinds' of items; found genres, year"):
        item_categories(made, "kinds", "|")


def test_a_column_of_too_many_categories_is_refused(monkeypatch):
    items = {"item": ["x", "y", "z"], "title": ["one", "two", "three"]}
    made = recsys.Dataset.from_frame(
        pl.DataFrame({"user": ["a"] * 3, "item": ["x", "y", "z"]}),
        user="user", item="item", order="given", items=pl.DataFrame(items),
    )  # fmt: skip
    monkeypatch.setattr(knowing, "MOST_CELLS", 8)
    with pytest.raises(ConfigError, match=r"3 categories of 3 items; 2 can be held .* coarser"):
        item_categories(made, "title", "|")
