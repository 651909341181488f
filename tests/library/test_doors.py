"""Wrong inputs at the doors: each is refused in words that say what was found and what to do."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import recsys
from recsys.errors import ConfigError, DataError, GranularityError, ProtocolError, RunError
from recsys.runs.config import RunConfig

RECOMMEND = {
    "for nobody": ({}, DataError, "say for whom"),
    "for users and histories": (
        {"users": ["u1"], "histories": {"a": ["i1"]}}, DataError, "and not both",
    ),
    "a user that is no list": ({"users": "u1"}, DataError, r"give \['u1'\]"),
    "users of two types": ({"users": ["u1", 2]}, DataError, "ids of one type"),
    "a user that is none": ({"users": ["u1", None]}, DataError, "has no value in row 1"),
    "a frame without its column": (
        {"users": pl.DataFrame({"who": ["u1"]})}, DataError, r"no column user_id; found \['who'\]",
    ),
    "a history that is no list": (
        {"histories": {"a": "i1"}}, DataError, "the history of 'a' is 'i1'; a list",
    ),
    "an empty history": (
        {"histories": {"a": [], "b": ["i1"]}}, DataError,
        r"1 of 2 histories hold no known item \('a'\); say --fallback popularity",
    ),
    "a history of strange items": (
        {"histories": {"a": ["bad"]}}, DataError, "hold no known item .*fallback",
    ),
    "histories without an order": (
        {"histories": pl.DataFrame({"user_id": ["a"], "item_id": ["i1"]})}, DataError,
        "give a column timestamp, or say --order given",
    ),
    "histories of structs": (
        {"histories": pl.DataFrame({"user_id": ["a"], "item_id": [{"x": 1}]})}, DataError,
        "holds Struct",
    ),
    "k that is none": ({"users": ["u1"], "k": 0}, ConfigError, "k is 0; a whole number of 1"),
    "a granularity that is none": (
        {"users": ["u1"], "granularity": 5}, GranularityError,
        r"granularity 5 is not among \(4, 8\) in .*; choose",
    ),
    "stages that are no funnel": ({"users": ["u1"], "stages": "8:3,4"}, ConfigError, "must grow"),
    "stages and a granularity": (
        {"users": ["u1"], "stages": "4:9,8", "granularity": 8}, ConfigError, "give one",
    ),
    "a fallback that is none": (
        {"users": ["u1"], "fallback": "random"}, ConfigError, r"not among \('popularity',\)",
    ),
    "a diversity that is none": (
        {"users": ["u1"], "diversity": "genres"}, ConfigError,
        r"diversity is 'genres'; recsys.Diversity\(by='a column of the items'\) is expected",
    ),
    "nothing allowed": ({"users": ["u1"], "allow": ["bad"]}, DataError, "no item of the 25"),
}  # fmt: skip


@pytest.mark.parametrize("name", RECOMMEND)
def test_a_request_that_cannot_be_answered_is_refused(name, fitted, bundle):
    options, kind, told = RECOMMEND[name]
    for model in (fitted("sasrec"), bundle):
        with pytest.raises(kind, match=told):
            model.recommend(**options)


def test_models_without_vectors_say_so(fitted):
    for call in (
        lambda model: model.recommend(["u1"], stages="4:9,8"),
        lambda model: model.item_vectors(),
        lambda model: model.user_vectors(["u1"]),
    ):
        with pytest.raises(ConfigError, match="ease has no"):
            call(fitted("ease"))
    with pytest.raises(GranularityError, match="granularity 4 is of nested vectors in ease; leave"):
        fitted("ease").recommend(["u1"], granularity=4)
    with pytest.raises(ConfigError, match="gives everybody the same items"):
        fitted("popularity").similar_items(["i1"])
    with pytest.raises(DataError, match=r"1 of 2 items are unknown \('bad'\)"):
        fitted("ease").similar_items(["i1", "bad"])
    with pytest.raises(DataError, match="list of"):
        fitted("ease").score([("u1",)])


def test_models_and_options_that_there_are_not_are_refused_and_nothing_stays(data, tmp_path):
    out = tmp_path / "out"
    for model, options, told in (
        ("sasrek", {}, "there is no model 'sasrek'; there are sasrec"),
        ("sasrec", {"overrides": ["model.lenght=3"]}, "unknown key; did you mean"),
        ("ease", {"overrides": ["l3=5"]}, "unknown key; did you mean 'l2'"),
        ("ease", {"epochs": 3}, "ease is fitted at once"),
        (tmp_path / "none.yaml", {}, "no config file at"),
    ):
        with pytest.raises(ConfigError, match=told):
            recsys.fit(data, model, out=out, **options)
    with pytest.raises(DataError, match="from_frame"):
        recsys.fit(pl.DataFrame({"user_id": [1]}), "ease", out=out)
    with pytest.raises(ProtocolError, match="'s4rec' is not among"):
        recsys.fit(data, "ease", protocol="s4rec", out=out)
    assert not list(tmp_path.iterdir())
    out.mkdir()
    (out / "something").touch()
    with pytest.raises(RunError, match="is not empty"):
        recsys.fit(data, "sasrec", out=out)


def test_what_cannot_be_opened_or_measured_is_refused(fitted, bundle, data, tmp_path):
    with pytest.raises(RunError, match="bundle or saved baseline: nothing is there"):
        recsys.load(tmp_path / "none")
    with pytest.raises(ConfigError, match="a bundle holds all it needs"):
        recsys.load(bundle.name, data=tmp_path)
    with pytest.raises(ConfigError, match="stands in a folder already"):
        bundle.save(tmp_path / "copy")
    with pytest.raises(ConfigError, match="is a bundle, without its data"):
        recsys.evaluate(bundle)
    other = recsys.Dataset.from_frame(
        pl.DataFrame({"user_id": ["a"] * 3, "item_id": list("xyz")}), order="given"
    )
    with pytest.raises(RunError, match="its users and items are others"):
        recsys.evaluate(fitted("ease"), other)
    with pytest.raises(RunError, match="not a run folder"):
        recsys.evaluate("runs/some", data)


def test_a_config_object_is_taken_with_the_data_at_hand(data):
    config = RunConfig.model_validate(
        {"data": "elsewhere", "threads": 1, "model": {"granularities": {"sizes": [4]}}}
    )
    model = recsys.fit(data, config, epochs=1)
    assert model.sizes == (4,) and model.origin.config.trainer.epochs == 1


def test_a_bundle_recommends_without_torch(bundle):
    script = f"""
import sys
sys.modules["torch"] = sys.modules["scipy"] = None
import recsys
model = recsys.load({bundle.name!r})
print(model.recommend(["u1"], k=3).shape, model.recommend(histories={{"x": ["i1"]}}, k=3).shape)
print(model.similar_items(["i1"], k=2).shape, model.score([("u1", "i1")]).shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True,
        cwd=Path(recsys.__file__).parents[1],
    )  # fmt: skip
    assert done.stdout.split("\n")[:2] == ["(3, 4) (3, 4)", "(2, 4) (1, 3)"], done.stderr


def test_importing_the_package_loads_nothing_of_it():
    script = "import sys, recsys; print([m for m in sys.modules if m.startswith('recsys.')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          cwd=Path(recsys.__file__).parents[1])  # fmt: skip
    assert done.stdout.strip() == "[]"
