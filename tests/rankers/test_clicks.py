"""Labelled events: prepared from tables, read as examples, and fitted by `recsys clicks`."""

import numpy as np
import polars as pl
import pytest
import yaml

from data_prep import options_from_text, prepare_clicks
from recsys.data.clicks.manifest import CATEGORIES
from recsys.data.clicks.reading import load_clicks
from recsys.errors import ConfigError, DataError
from recsys.rankers.click_examples import click_examples, click_schema
from recsys.reports.results.record import read_results
from tests.command import call

EVENTS = """user,colour,tags,price,stars,part
ann,red,a|b,1.5,5,train
bob,blue,b,,1,train
ann,red,,2,2,train
cyd,green,c|a|b,3,4,valid
bob,red,a,1,2,valid
ann,blue,b,4,3,train
cyd,red,b,5,5,test
bob,grey,a,0.5,1,test
"""
OPTIONS = (
    *("clicks.label=stars", "clicks.positive_above=3", "clicks.negative_below=3"),
    *("clicks.fields=[user, colour]", "clicks.lists=[tags]", "clicks.numbers=[price]"),
    "clicks.user=user",
)
SPLIT = "clicks.split=part"


def prepared(folder, *changes, text=EVENTS, split=(SPLIT,)):
    source = folder / "events.csv"
    source.write_text(text)
    options = options_from_text([*OPTIONS, *split, *changes])
    return prepare_clicks("clicks", options, source=source, out=folder / "clicks")


def test_a_table_becomes_coded_events(tmp_path):
    clicks = prepared(tmp_path)
    assert clicks.manifest.rows == {"train": 3, "valid": 2, "test": 2}
    assert clicks.manifest.features == ("user", "colour", "tags", "price")
    schema, train = click_schema(clicks), click_examples(clicks, "train")
    assert [(each.name, each.size, each.group) for each in schema.fields] == [
        *(("user", 3, ""), ("colour", 3, "")),
        *(("tags.1", 3, "tags"), ("tags.2", 3, "tags"), ("tags.3", 3, "tags")),
    ]
    np.testing.assert_array_equal(train.labels, [1, 0, 0])
    np.testing.assert_array_equal(train.numbers[:, 0], [1.5, np.nan, 2])
    words = pl.read_parquet(clicks.folder / CATEGORIES)
    of = {(f, v): c for f, c, v in words.iter_rows()}
    rows = [
        [of["user", "ann"], of["colour", "red"], of["tags", "a"], of["tags", "b"], 0],
        [of["user", "bob"], of["colour", "blue"], of["tags", "b"], 0, 0],
        [of["user", "ann"], of["colour", "red"], 0, 0, 0],
    ]
    np.testing.assert_array_equal(train.fields, rows)
    test = clicks.read("test", ["colour"])
    np.testing.assert_array_equal(test.fields[:, 0], [of["colour", "red"], 0])
    users = clicks.read("valid").users
    assert users[0] == test.users[0] and users[1] == test.users[1]
    with pytest.raises(ConfigError, match="no feature 'size'"):
        clicks.read("test", ["size"])


def test_parts_are_drawn_by_shares_and_seed(tmp_path):
    rows = "\n".join(f"u{n % 7},{n},{n % 2}" for n in range(1000))
    columns = (
        *("clicks.label=label", "clicks.positive_above=null", "clicks.negative_below=null"),
        *("clicks.fields=[user]", "clicks.lists=[]", "clicks.numbers=[n]"),
    )

    def numbers(seed):
        text = f"user,n,label\n{rows}"
        made = prepared(tmp_path, *columns, f"clicks.seed={seed}", text=text, split=())
        parts = [made.read(part).numbers[:, 0] for part in ("train", "valid", "test")]
        assert [len(part) for part in parts] == [800, 100, 100]
        assert sorted(np.concatenate(parts)) == list(range(1000))
        return parts[2].tolist()

    assert numbers(0) == numbers(0) != numbers(1)


@pytest.mark.parametrize(
    ("changes", "text", "wrong"),
    [
        ((), EVENTS.replace("5,train", "much,train"), "holds 'much', which is no finite number"),
        ((), EVENTS.replace("1,test", "5,test"), "test part has 2 events, 2 of them positive"),
        ((), EVENTS.replace("valid", "later"), "names the part 'later'"),
        (("clicks.fields=[shape]",), EVENTS, "no column 'shape'; found user, colour"),
        (("clicks.positive_above=null", "clicks.negative_below=null"), EVENTS, "labels are 0 or 1"),
    ],
)
def test_malformed_events_are_refused(tmp_path, changes, text, wrong):
    with pytest.raises(DataError, match=wrong):
        prepared(tmp_path, *changes, text=text)
    assert not (tmp_path / "clicks").exists()


def test_the_rating_task_of_movielens(tmp_path):
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    films = [
        "1::Toy Story (1995)::Animation|Comedy",
        "2::M (1931)::Crime",
        "3::Caf\xe9 (1969)::Crime",
    ]
    (tmp_path / "movies.dat").write_text("\n".join(films), encoding="latin-1")
    rows = [(u, m, r) for u in (1, 2) for m in (1, 2, 3) for r in (1, 3, 5, 2, 4)]
    lines = [f"{u}::{m}::{r}::{9 * n}" for n, (u, m, r) in enumerate(rows)]
    (tmp_path / "ratings.dat").write_text("\n".join(lines))
    options = options_from_text(["clicks.shares=[0.6, 0.2, 0.2]"])
    clicks = prepare_clicks("ml-1m-rating", options, source=tmp_path, out=tmp_path / "out")
    assert sum(clicks.manifest.rows.values()) == 24
    assert sum(clicks.manifest.positive.values()) == 12
    sizes = {each.name: each.size for each in clicks.manifest.fields}
    assert sizes["year"] == 4 and sizes["genres.1"] == sizes["genres.2"] == 4
    words = pl.read_parquet(clicks.folder / CATEGORIES)
    years = words.filter(pl.col("feature") == "year")["value"].to_list()
    assert years == ["1930", "1960", "1995"]
    with pytest.raises(ConfigError, match=r"decides clicks.label itself"):
        prepare_clicks("ml-1m-rating", options_from_text(["clicks.label=x"]), source=tmp_path)


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """Events whose label depends on whether two fields agree."""
    folder = tmp_path_factory.mktemp("events")
    rng = np.random.default_rng(0)
    taste, kind = rng.integers(0, 5, (2, 6000))
    chance = np.where(taste == kind, 0.9, 0.1)
    frame = pl.DataFrame(
        {"taste": taste, "kind": kind, "user": rng.integers(0, 50, 6000)}
    ).with_columns(label=pl.Series((rng.random(6000) < chance).astype(int)))
    frame.write_parquet(folder / "events.parquet")
    options = options_from_text(["clicks.fields=[taste, kind]", "clicks.user=user"])
    prepare_clicks("clicks", options, source=folder / "events.parquet", out=folder / "data")
    agree = {"name": "tests.rankers.made:AgreeConfig"}
    rankers = {"agree": agree, "shifted": {**agree, "shift": 2.0}}
    config = {"data": str(folder / "data"), "rankers": rankers, "seeds": [0, 1]}
    (folder / "clicks.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_rankers_are_fitted_and_measured_once(events, tmp_path):
    config, out = events / "clicks.yaml", tmp_path / "run"
    shown = call("clicks", config, "--out", out)
    assert "shifted" in shown and "reliability.svg" in shown
    figures = pl.read_csv(out / "figures.csv").filter(part="test", seed=0)
    # 0.9 of a fifth of the events and 0.1 of the others are positive: no ranker can know more.
    assert figures["auc"].min() > 0.8
    right, shifted = figures.iter_rows(named=True)
    assert right["calibration_error"] < 0.07 < 0.2 < shifted["calibration_error"]
    assert right["log_loss"] + 0.2 < shifted["log_loss"]
    assert shifted["calibrated_log_loss"] == pytest.approx(right["log_loss"], abs=0.02)
    assert shifted["calibrated_error"] < 0.07
    kept = {label: out / f"{label}-s1" / "agree.json" for label in ("agree", "shifted")}
    first = {label: path.stat().st_mtime_ns for label, path in kept.items()}
    call("clicks", config, "--out", out, "rankers.shifted.shift=3.0")
    now = {label: path.stat().st_mtime_ns for label, path in kept.items()}
    assert now["agree"] == first["agree"] and now["shifted"] != first["shifted"]
    assert "no ranker 'other'" in call("clicks", config, "--out", out, "--only", "other", code=1)
    assert load_clicks(events / "data", verify=True).manifest.user == "user"


def test_results_of_rankers_are_kept_for_a_page(events, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["recsys", "clicks", "clicks.yaml"])
    results = tmp_path / "agree.json"
    call("clicks", events / "clicks.yaml", "--out", tmp_path / "run", "--results", results)
    found = read_results(results)
    assert found.seeds == (0, 1)
    assert found.names == ["agree", "shifted"]
    assert found.find("agree", None, "AUC").value > 0.8
