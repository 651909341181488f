"""Gates of an export: a version that is worse on validation users is not published."""

import re

import numpy as np
import polars as pl
import pytest

import recsys
from recsys.data.dataset import write_dataset
from recsys.errors import ConfigError, GateError, ProtocolError
from recsys.recipes.bundles.gate_rules import parse_gates
from recsys.retrieval.bundle.manifest import read_manifest
from recsys.retrieval.bundle.versions import current_version
from tests.command import call
from tests.recipes.test_verbs import config, frame

FP32 = "0:8:fp32:ram"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("gate")


@pytest.fixture(scope="module")
def data(place):
    return write_dataset(place / "data", frame(), name="walks").folder


@pytest.fixture(scope="module")
def good(place, data):
    return recsys.train(config(data, trainer={"epochs": 12}), out=place / "good")


@pytest.fixture(scope="module")
def bad(place, data):
    return recsys.train(config(data, trainer={"epochs": 1}), out=place / "bad")


def gates(shelf):
    return read_manifest(shelf / current_version(shelf)).gates


def content(shelf):
    return {
        str(path.relative_to(shelf)): path.read_bytes() if path.is_file() else None
        for path in shelf.rglob("*")
    }


def test_a_worse_version_leaves_the_shelf_as_it_was(good, bad, tmp_path):
    shelf = tmp_path / "b"
    plain = {"tiers": FP32, "tower": False}
    words = ("export", bad, shelf, "--tiers", FP32, "--no-tower", "--gate", "ndcg@10 >= current")
    assert "no version to compare it with" in call(*words)
    call("export", good, *words[2:])
    assert current_version(shelf) == "v000002"
    (told,) = gates(shelf)
    assert told.against == "v000001" and told.value > told.against_value > 0
    before = content(shelf)
    text = re.sub(r"\s+", " ", call("export", bad, *words[2:], code=3))
    assert "The new version is not published, and v000002 stays current" in text
    assert f"{told.value:.4f} in v000002" in text
    assert content(shelf) == before
    again = recsys.export(good, shelf, **plain, gate=["ndcg@10 >= current", "recall@5 > 0.01"])
    assert read_manifest(again).gates[0].value == told.value
    with pytest.raises(GateError, match=r"'ndcg@10 > current'"):
        recsys.export(good, shelf, **plain, gate="ndcg@10 > current")
    share = told.against_value / told.value
    with pytest.raises(GateError):
        recsys.export(bad, shelf, **plain, gate=f"ndcg@10 >= {share + 0.01:.3f} * current")
    recsys.export(bad, shelf, **plain, gate=f"ndcg@10 >= {share - 0.01:.3f} * current")
    with pytest.raises(GateError, match="nothing is published"):
        recsys.export(bad, tmp_path / "other", **plain, gate="ndcg@10/d4 >= 0.99")
    assert recsys.export(bad, tmp_path / "other", **plain).name == "v000001"


def test_a_gate_measures_what_the_evaluation_measures(good, tmp_path):
    gate = ["ndcg@10 >= 0", "recall@5/d4 >= 0"]
    recsys.export(good, tmp_path / "b", tiers=FP32, tower=False, gate=gate)
    table = recsys.evaluate(good, part="valid", with_baselines=False)
    told = gates(tmp_path / "b")
    assert [entry.num_users for entry in told] == [80, 80]
    assert told[0].value == pytest.approx(table.value("ndcg", 10, 8), abs=1e-9)
    assert told[1].value == pytest.approx(table.value("recall", 5, 4), abs=1e-9)


def test_versions_of_other_items_are_compared_by_ids(good, place, tmp_path):
    """`current` knows the items under other indices, and not all of them."""
    other = frame(3).filter(pl.col("item_id") < 22)
    other = other.with_columns(pl.col("user_id") + 1000).sort("item_id", "timestamp")
    folder = write_dataset(tmp_path / "data", other, name="others").folder
    before = recsys.train(config(folder, trainer={"epochs": 12}), out=tmp_path / "before")
    shelf = tmp_path / "b"
    recsys.export(before, shelf, tiers=FP32)
    recsys.export(good, shelf, tiers=FP32, tower=False, gate="recall@10 >= 0.01 * current")
    (told,) = gates(shelf)
    old, new = recsys.load(shelf / "v000001"), recsys.load(good)
    dataset = recsys.load_run(good).dataset
    names = dataset.item_frame()["item_id"].cast(pl.String).to_numpy()
    hits = []
    for user in range(dataset.num_users):
        lo, hi = dataset.offsets[user], dataset.offsets[user + 1]
        walk = names[dataset.items[lo : hi - 1]].tolist()
        *history, target = walk
        known = [each for each in history if each in set(old.items.cast(pl.String))]
        found = old.recommend(histories={"x": known}, k=10)["item_id"].cast(pl.String)
        hits.append(target in set(found))
    assert told.against_value == pytest.approx(np.mean(hits))
    assert 0 < told.against_value < told.value
    assert len(new.items) > len(old.items)


def test_what_is_no_gate_is_told_at_the_door(good, tmp_path):
    for text, told in {
        "ndcg@10 <= current": "better when higher",
        "ndcg >= current": "none of the forms",
        "ndcg@10 >= current * 2": "METRIC@K >= 0.99 * current",
        "ndcg@0 >= current": "1 or more",
        "beauty@10 >= current": "beauty",
        "ndcg@10 >= 0 * current": "holds always",
        "ndcg@10/d5 >= current": "granularity 5 is not among (4, 8)",
    }.items():
        with pytest.raises(ConfigError, match=re.escape(told)):
            recsys.export(good, tmp_path / "b", gate=text)
    assert not (tmp_path / "b").exists()
    recsys.export(good, tmp_path / "b", tiers=FP32, tower=False)
    with pytest.raises(ConfigError, match="has no user tower"):
        recsys.export(good, tmp_path / "b", gate="ndcg@10 >= current")
    with pytest.raises(ConfigError, match="export the run"):
        recsys.export(tmp_path / "b", tmp_path / "b", gate="ndcg@10 >= current")
    # Without a tower, but with the figure that it was published by.
    recsys.export(good, tmp_path / "b", tiers=FP32, tower=False, gate="ndcg@10 >= 0")
    recsys.export(good, tmp_path / "b", tiers=FP32, tower=False, gate="ndcg@10 >= current")


def test_what_was_fitted_on_the_validation_part_is_not_gated(good, data, tmp_path):
    whole = recsys.train(config(data, fit_on="train+valid"), out=tmp_path / "whole")
    with pytest.raises(ProtocolError, match="fitted on train"):
        recsys.export(whole, tmp_path / "b", gate="ndcg@10 >= current")
    recsys.export(whole, tmp_path / "b", tiers=FP32, tower=False)
    with pytest.raises(ProtocolError, match="has seen the validation part"):
        recsys.export(good, tmp_path / "b", gate="ndcg@10 >= current")


def test_the_forms_of_a_gate():
    told = parse_gates(["ndcg@10>=current-0.5", "recall@20/d64 > .9*current + .1", "mrr@5 >= 0.25"])
    assert [(each.figure, each.factor, round(each.more, 3)) for each in told] == [
        ("ndcg@10", 1, -0.5),
        ("recall@20/d64", 0.9, 0.1),
        ("mrr@5", 0, 0.25),
    ]
    assert told[0].holds(0.2, 0.7) and not told[0].holds(0.19, 0.7)
    assert not told[1].holds(1.0, 1.0) and told[1].holds(1.01, 1.0)
    assert told[2].holds(0.25, None) and not told[2].holds(0.2, None)
