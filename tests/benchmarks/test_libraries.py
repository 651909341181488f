"""The comparison is only as fair as what each library is given and how its lists are measured."""

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.libraries.candidates import CANDIDATES, DRAWN
from benchmarks.libraries.compare import Sides, check_interpreter, code_of, compare, count_lines
from recsys.data.dataset import write_dataset
from recsys.errors import InstallationError, RunError


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(60), 9)
    items = (users * 3 + np.tile(np.arange(9), 60)) % 20
    frame = pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in users],
            "item_id": [f"i{item}" for item in items],
            "timestamp": np.repeat(rng.integers(10**9, 2 * 10**9, size=180), 3),
        }
    )
    return write_dataset(tmp_path / "data", frame, name="steps")


@pytest.fixture
def sides(data, tmp_path):
    return Sides(data, {"recsys": Path(sys.executable)}, tmp_path)


def test_a_part_holds_all_but_the_last_rows_with_unlike_times(sides, data, tmp_path):
    for part, left_out in (("valid", 2), ("test", 1)):
        rows = pl.read_csv(tmp_path / f"{part}.csv")
        assert len(rows) == data.num_users * (9 - left_out)
        assert rows.group_by("user_id").agg(pl.col("time").diff().min())["time"].min() > 0
        full = pl.read_parquet(data.folder / "interactions.parquet")
        first = data.user_frame()["user_id"][0]
        kept = rows.filter(pl.col("user_id") == first)["item_id"].to_list()
        wanted = full.filter(pl.col("user_index") == 0)["item_index"].to_list()[: 9 - left_out]
        assert kept == data.item_frame()["item_id"].gather(wanted).to_list()


def test_the_best_setting_on_validation_is_measured_on_test(sides, monkeypatch):
    rules = [{"model": "popularity"}, {"model": "sequential_rules", "reach": 1, "last": 1}]
    monkeypatch.setitem(CANDIDATES, "recsys", {"either": rules})
    (line,) = compare(sides, [0], ["recsys"])
    assert line.settings == {"reach": 1, "last": 1}
    assert line.validation > 0.5
    assert line.test["ndcg"][0] > 0.5
    assert line.lines == count_lines("recsys") > 5


def test_each_seed_is_a_fit_of_its_own(sides, monkeypatch):
    """This library draws from its own random numbers, whatever the process was seeded with."""
    options = {"trainer.epochs": 1, "model.granularities.sizes": [4, 8], "threads": 1}
    monkeypatch.setitem(CANDIDATES, "recsys", {"sasrec": [{"model": "sasrec", **options}]})
    ran, run = [], sides._run
    monkeypatch.setattr(sides, "_run", lambda *told: ran.append((told[1], told[2])) or run(*told))
    (line,) = compare(sides, [0, 1], ["recsys"])
    assert [told.get("trainer.seed") for part, told in ran if part == "test"] == [0, 1]
    assert line.test["ndcg"][0] != line.test["ndcg"][1]
    assert "trainer.seed" not in line.settings


def test_a_comparison_goes_on_where_it_was_killed(data, tmp_path, monkeypatch):
    pythons, kept = {"recsys": Path(sys.executable)}, tmp_path / "kept"
    rules = {"model": "popularity"}
    found = [Sides(data, pythons, tmp_path, kept=kept).run("recsys", "test", rules, 0)]
    monkeypatch.setattr(Sides, "_run", lambda *_: pytest.fail("it was measured already"))
    found.append(Sides(data, pythons, tmp_path, kept=kept).run("recsys", "test", rules, 0))
    assert found[0] == found[1]
    for other in ({"commit": "another"}, {}):
        sides = Sides(data, pythons, tmp_path, kept=kept, **other)
        with pytest.raises(pytest.fail.Exception):
            sides.run("recsys", "test", rules, 0 if other else 1)


def test_what_fails_is_told(sides):
    with pytest.raises(RunError, match=r"recsys failed with .*no_such_model"):
        sides.run("recsys", "valid", {"model": "no_such_model"}, 0)


def test_an_interpreter_without_the_library_is_refused(tmp_path):
    with pytest.raises(InstallationError, match="--lenskit ENV/bin/python"):
        check_interpreter("lenskit", tmp_path / "python")


def test_models_that_draw_are_candidates():
    assert {model for models in CANDIDATES.values() for model in models} >= DRAWN


@pytest.mark.parametrize("library", sorted(CANDIDATES))
def test_the_code_shown_is_whole(library):
    assert code_of(library).startswith("import")
    assert "def recommend(frame: pd.DataFrame" in code_of(library)
