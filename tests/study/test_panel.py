"""A panel: levers on several data sets, chosen on validation users."""

import numpy as np
import polars as pl
import pytest
import yaml
from rich.console import Console

from recsys.data.dataset import write_dataset
from recsys.errors import ConfigError
from recsys.recipes.evaluating.results import Origin
from recsys.reports.results.record import Step, read_results
from recsys.runs.loading import load_run
from recsys.studies import study
from recsys.studies.panel.config import PanelConfig, make_panel_plan, read_panel
from recsys.studies.panel.figures import ALL, panel_figures
from recsys.studies.panel.terminal import print_panel
from recsys.studies.results import keep_study

SETTINGS = {
    "run": "none.yaml",
    "panel": {name: {"data": name} for name in "abc"},
    "levers": {"good": ["x=1"], "narrow": ["x=2"], "lucky": ["x=3"], "absent": ["x=4"]},
}
GAINS = {  # lever -> data set -> gains at the granularities 8 and 16
    "before": {"a": (0, 0), "b": (0, 0), "c": (0, 0)},
    "good": {"a": (0.2, 0.0), "b": (0.1, 0.0), "c": (0.1, 0.1)},
    "narrow": {"a": (0.9, -0.1), "b": (0.9, -0.1), "c": (0.9, -0.1)},
    "lucky": {"a": (0.0, 0.0), "b": (0.0, 0.0), "c": (0.9, 0.1)},
}


def made_up(num_users):
    """`[1, U]` figures whose means have exactly these gains; data sets have their own users."""
    random = np.random.default_rng(0)
    base = {data: random.uniform(size=(1, num_users[data])) for data in num_users}
    return {
        (data, lever, size): base[data] * (1 + gain)
        for lever, of_data in GAINS.items()
        for data, gains in of_data.items()
        for size, gain in zip((8, 16), gains, strict=True)
    }


@pytest.fixture(scope="module")
def figures():
    return panel_figures(PanelConfig(**SETTINGS), made_up({"a": 30, "b": 50, "c": 40}))


def test_the_mean_counts_every_data_set_alike(figures):
    assert figures.gain("good", 8) == pytest.approx(0.4 / 3)
    assert figures.gain("lucky", 16) == pytest.approx(0.1 / 3)
    assert figures.gain("good", 8, "a") == pytest.approx(0.2)
    assert "absent" not in figures.frame["lever"].to_list()


def test_a_lever_that_loses_at_full_width_is_not_chosen(figures):
    assert figures.chosen == "lucky"
    allowed = PanelConfig(**SETTINGS, least_at_full_width=-0.2)
    assert panel_figures(allowed, made_up({"a": 30, "b": 50, "c": 40})).chosen == "narrow"


def test_a_choice_is_looked_at_where_it_was_not_made(figures):
    told = {each.data: (each.lever, each.gain) for each in figures.left_out}
    assert told["a"] == ("lucky", pytest.approx(0)) and told["b"][0] == "lucky"
    assert told["c"] == ("good", pytest.approx(0.1))


def test_intervals_move_with_the_users_of_each_data_set():
    values = made_up({"a": 30, "b": 50, "c": 40})
    noise = np.random.default_rng(1)
    values["a", "good", 8] = values["a", "good", 8] * noise.uniform(0.5, 1.5, size=(1, 30))
    frame = panel_figures(PanelConfig(**SETTINGS), values).frame.filter(lever="good", granularity=8)
    width = dict(zip(frame["data"], frame["high"] - frame["low"], strict=True))
    assert width["a"] > 0.01 and width["b"] == pytest.approx(0, abs=1e-9)
    assert width[ALL] == pytest.approx(width["a"] / 3, rel=1e-6)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two circles that users walk, a recipe, and a lever that changes the learning rate."""
    folder = tmp_path_factory.mktemp("panel")
    for number, num_items in enumerate((40, 60)):
        random = np.random.default_rng(number)
        starts = random.integers(0, num_items, 80)
        walks = (starts[:, None] + np.arange(6)) % num_items
        frame = pl.DataFrame({"user_id": np.repeat(np.arange(80), 6), "item_id": walks.ravel()})
        write_dataset(folder / f"data{number}", frame, name=f"circle{number}")
    tree = {
        "data": "elsewhere",
        "threads": 1,
        "model": {"granularities": {"sizes": [4, 8]}, "history_length": 8},
        "trainer": {"epochs": 2},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(tree))
    panel = {
        "run": str(folder / "run.yaml"),
        "panel": {f"circle{n}": {"data": str(folder / f"data{n}")} for n in (0, 1)},
        "levers": {"quick": ["trainer.optimizer.learning_rate=0.05"]},
        "num_resamples": 100,
    }
    (folder / "panel.yaml").write_text(yaml.safe_dump(panel))
    return folder


def test_a_panel_trains_measures_on_validation_and_goes_on(place, monkeypatch):
    found = study(place / "panel.yaml", out=place / "study", only=["before"])
    assert len(found.missing) == 2 and found.content.chosen == "before"
    found = study(place / "panel.yaml", out=place / "study")
    assert not found.missing and found.files[0].is_file()
    run = load_run(place / "study" / "circle1--quick-s0")
    assert run.config.trainer.optimizer.learning_rate == 0.05
    tables = sorted(path.name for path in (place / "study").rglob("metrics/*.json"))
    assert tables and all(name.startswith("valid-") for name in tables)
    console = Console(record=True, width=200)
    print_panel(found, console)
    assert "without circle0 the others choose" in console.export_text()
    narrow = Console(record=True, width=80)
    print_panel(found, narrow)
    assert "…" not in (text := narrow.export_text()) and "quick" in text and "circle1" in text
    step = Step(command="recsys study panel.yaml")
    keep_study(Origin(place / "panel.json", (step,), ()), found)
    kept = read_results(place / "panel.json")
    assert {row.metric for row in kept.rows} == {"ndcg@10", "gain", "gain there"}
    assert {row.name for row in kept.rows if row.metric == "ndcg@10"} == {
        "before on circle0",
        "before on circle1",
    }
    again = study(place / "panel.yaml", out=place / "study", train=False)
    assert again.content.frame.equals(found.content.frame)


@pytest.mark.parametrize("dry", [False, True])
def test_a_study_folder_that_is_a_file_is_refused(place, tmp_path, dry):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="file is a file, and a study is a folder"):
        study(place / "panel.yaml", out=tmp_path / "file", dry=dry)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levers": {"before": []}}, "recipe itself"),
        ({"levers": {"a--b": []}}, "letters, digits"),
        ({"panel": {}}, "at least 1"),
    ],
)
def test_wrong_panels_are_refused(place, changes, message):
    tree = yaml.safe_load((place / "panel.yaml").read_text()) | changes
    (place / "wrong.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match=message):
        read_panel(place / "wrong.yaml", [])


def test_runs_of_other_granularities_and_unknown_levers_are_refused(place):
    with pytest.raises(ConfigError, match="'slow' is not among before, quick"):
        study(place / "panel.yaml", out=place / "study", only=["slow"])
    wider = read_panel(place / "panel.yaml", ["levers.wide=['model.granularities.sizes=[4]']"])
    with pytest.raises(ConfigError, match="same granularities"):
        make_panel_plan(wider)
