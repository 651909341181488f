"""Doors of a study: what would be measured as if it were more is refused before any training."""

import numpy as np
import polars as pl
import pytest
import yaml

import recsys.studies.runs as runs_of_study
from recsys.data.dataset import write_dataset
from recsys.errors import ConfigError, ProtocolError
from recsys.runs.config import read_config
from recsys.studies import study
from recsys.studies.doors import changes
from recsys.studies.panel.config import make_panel_plan, read_panel


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data set twice, a recipe, and a study of each kind."""
    folder = tmp_path_factory.mktemp("doors")
    random = np.random.default_rng(0)
    walks = (random.integers(0, 40, 80)[:, None] + np.arange(6)) % 40
    frame = pl.DataFrame({"user_id": np.repeat(np.arange(80), 6), "item_id": walks.ravel()})
    for name in ("one", "two"):
        write_dataset(folder / name, frame, name=name)
    model = {"granularities": {"sizes": [4, 8]}, "history_length": 8}
    run = {"data": str(folder / "one"), "threads": 1, "model": model, "trainer": {"epochs": 1}}
    trees = {
        "run": run,
        "nested": {"run": "run.yaml", "seeds": [0], "methods": ["nested", "separate"]},
        "panel": {
            "run": "run.yaml",
            "panel": {name: {"data": str(folder / name)} for name in ("one", "two")},
        },
        "tables": {"run": "run.yaml", "tables": [{"name": "low_rank"}], "shares": [0.5]},
    }
    for name, tree in trees.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    return folder


@pytest.fixture(autouse=True)
def untrained(place, monkeypatch):
    """Nothing here is trained."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(runs_of_study, "_train", lambda *_: pytest.fail("it was trained"))


TWICE = "panel={one: {data: one}, again: {data: one}}"
REFUSED = [
    ("nested", "overrides=[fit_on=train+valid]", "part=valid", "figures of the valid part"),
    ("nested", "overrides=[fit_on=all]", "", "figures of the test part"),
    ("nested", "overrides=[trainer.seed=3]", "", "trainer.seed=3 does nothing here"),
    ("nested", "separate_overrides=[trainer.epochs=1]", "", "changes nothing"),
    ("nested", "separate_overrides=[threads=2]", "", "changes nothing"),
    ("nested", "separate_overrides=[protocol=hstu]", "", "changes protocol"),
    ("nested", "widths=[8,8]", "", "must be named once each"),
    ("nested", "overrides=[device=cuda:99]", "", "cuda:99"),
    ("panel", "levers={same: [trainer.epochs=1]}", "", "lever same .* changes nothing"),
    ("panel", "levers={none: []}", "", "lever none .* changes nothing"),
    ("panel", "levers={fast: [threads=2]}", "", "lever fast .* changes nothing"),
    ("panel", "levers={luck: [trainer.seed=3]}", "", "trainer.seed=3 does nothing here"),
    ("panel", "levers={other: [protocol=hstu]}", "", "lever other changes protocol"),
    ("panel", "levers={other: [data=two]}", "", "lever other changes data"),
    ("panel", "levers={a: [trainer.epochs=2], b: [trainer.epochs=2]}", "", "a and b .* same runs"),
    ("panel", TWICE, "", "one and again .* same runs"),
    ("panel", "seeds=[0,0]", "", "once each"),
    ("panel", "overrides=[fit_on=train+valid]", "", "figures of the valid part"),
    ("panel", "overrides=[device=cuda:99]", "", "cuda:99"),
    (
        "tables",
        "overrides=[model.table.name=hashed]",
        "",
        "the study sets it to each of its tables",
    ),
    ("tables", "overrides=[fit_on=train+valid]", "part=valid", "figures of the valid part"),
    ("tables", "overrides=[device=cuda:99]", "", "cuda:99"),
]


@pytest.mark.parametrize(("kind", "change", "more", "told"), REFUSED)
def test_what_would_be_measured_as_more_is_refused(place, tmp_path, kind, change, more, told):
    with pytest.raises((ConfigError, ProtocolError), match=told):
        study(f"{kind}.yaml", [change, *filter(None, [more])], out=tmp_path / "above" / "out")
    assert not list(tmp_path.iterdir())


def test_a_method_that_the_study_does_not_have_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="method pca is not among those of the study"):
        study("nested.yaml", out=tmp_path / "out", only=["pca"])


@pytest.mark.parametrize("kind", ["nested", "panel", "tables"])
def test_a_study_folder_that_cannot_be_made_is_refused(tmp_path, kind):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file"):
        study(f"{kind}.yaml", out=tmp_path / "file" / "out")


def test_a_lever_that_changes_nothing_on_one_data_set_is_told(place, capsys):
    own = "panel={one: {data: one}, two: {data: two, overrides: [trainer.epochs=2]}}"
    make_panel_plan(read_panel(place / "panel.yaml", [own, "levers={long: [trainer.epochs=2]}"]))
    assert "lever long changes nothing on two" in " ".join(capsys.readouterr().err.split())


def test_options_that_do_nothing_are_no_changes(place):
    plain = read_config(place / "run.yaml", ["model.granularities.sizes=[8]"])
    idle = read_config(
        place / "run.yaml", ["model.granularities.sizes=[8]", "loss.distillation=0.7"]
    )
    real = read_config(place / "run.yaml", ["model.granularities.sizes=[8]", "trainer.epochs=2"])
    assert changes(plain, idle) == [] and changes(plain, real) == ["trainer.epochs"]
