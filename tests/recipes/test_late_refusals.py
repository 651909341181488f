"""What cannot be is refused before the work, and leaves nothing behind that was not there."""

from pathlib import Path

import pytest
import yaml

import recsys
import recsys.recipes.evaluating.tradeoff as tradeoff_recipe
import recsys.recipes.training.train as train_recipe
from recsys.data.dataset import write_dataset
from recsys.errors import ConfigError, DataError, InstallationError, ProtocolError, RunError
from recsys.files.atomic import check_writable, write_text
from recsys.processes import PeerError
from recsys.recipes.ranking.earlier import rank_earlier
from recsys.studies.seed_runs.training import train_seeds
from recsys.training.trainer import StoppedError
from tests.command import call
from tests.recipes.test_verbs import config, frame


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("late")
    write_dataset(place / "data", frame(), name="walks")
    recsys.train(config(place / "data"), out=place / "run")
    recsys.export(place / "run", place / "bundle", tower=False)
    return place


def below(folder):
    return sorted(path for path in Path(folder).rglob("*"))


@pytest.mark.parametrize("place_of", [lambda p: p / "file" / "x", lambda p: p / "file"])
def test_a_place_below_a_file_cannot_be_written(tmp_path, place_of):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file"):
        check_writable(place_of(tmp_path), folder=True)
    assert below(tmp_path) == [tmp_path / "file"]


def test_a_place_that_can_be_written_stays_as_it_was(tmp_path):
    check_writable(tmp_path / "new" / "folder", folder=True)
    check_writable(tmp_path / "new" / "file")
    assert below(tmp_path) == []
    with pytest.raises(IsADirectoryError):
        check_writable(tmp_path)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc")
def test_folders_of_the_system_are_refused_and_not_tried_for_ever():
    for path in (Path("/proc/x"), Path("/proc/x/y")):
        with pytest.raises(OSError):
            write_text(path, "text")
        with pytest.raises(PermissionError):
            check_writable(path)


@pytest.mark.parametrize(
    "words",
    [
        ("tradeoff",),
        ("bits",),
        ("rank", "fit"),
        ("export",),
    ],
)
def test_verbs_that_take_a_run_or_a_bundle_name_both(place, words):
    more = [place / "out"] if words == ("export",) else []
    for wrong, found in ((place / "missing", "nothing is there"), (place / "data", "dataset fold")):
        told = call(*words, wrong, *more, code=1)
        assert "neither a run folder nor a bundle" in told and found in told
        assert "recsys train" in told and "recsys export" in told
    assert not (place / "out").exists()


@pytest.mark.parametrize("verb", ["tradeoff", "bits"])
def test_a_protocol_beside_a_bundle_is_refused(place, verb):
    told = call(verb, place / "bundle", "--protocol", "hstu", code=1)
    assert "is a bundle" in told and "leave --protocol hstu out" in told


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_measured(
    place, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("mine")

    def measured(*_args, **_options):
        raise AssertionError("it was measured")

    monkeypatch.setattr(tradeoff_recipe, "measure", measured)
    for out in (tmp_path / "file" / "x", tmp_path / "file"):
        with pytest.raises((OSError, ConfigError), match="file"):
            recsys.tradeoff(place / "run", out=out)


def test_results_and_tables_that_cannot_be_written_are_refused_at_the_door(place, tmp_path):
    (tmp_path / "file").write_text("mine")
    told = call("baselines", place / "data", "popularity", "--out", tmp_path / "file" / "x.json",
                code=1)  # fmt: skip
    assert "is a file where a folder is meant" in told and "intervals" not in told
    told = call("baselines", place / "data", "popularity", "--results",
                tmp_path / "file" / "x.json", code=1)  # fmt: skip
    assert "is a file where a folder is meant" in told and "intervals" not in told


@pytest.mark.parametrize("make", ["cut", "calibrate", "train"])
def test_a_run_folder_that_cannot_be_made_is_refused_before_the_run_is_opened(
    place, tmp_path, make, monkeypatch
):
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / "run"
    called = {
        "cut": lambda: recsys.cut(place / "missing", out, granularity=4),
        "calibrate": lambda: recsys.calibrate(place / "missing", out),
        "train": lambda: recsys.train(config(place / "missing"), out=out),
    }
    with pytest.raises(OSError, match="file"):
        called[make]()


def test_a_folder_that_holds_a_run_is_refused_before_the_data_is_read(place):
    with pytest.raises(RunError, match="holds a run already"):
        recsys.train(config(place / "missing"), out=place / "run")


ERRORS = [ConfigError, RunError, DataError, InstallationError, ProtocolError, PeerError, ValueError]


@pytest.mark.parametrize("error", [*ERRORS, KeyboardInterrupt])
def test_a_training_that_is_refused_before_its_first_step_leaves_no_folder(
    place, tmp_path, error, monkeypatch
):
    def refused(*_args, **_options):
        raise error("no")

    monkeypatch.setattr(train_recipe, "train_loop", refused)
    with pytest.raises(error):
        recsys.train(config(place / "data"), out=tmp_path / "above" / "run")
    assert below(tmp_path) == []


def test_a_training_that_was_stopped_keeps_its_folder(place, tmp_path, monkeypatch):
    def stopped(*_args, **_options):
        raise StoppedError("asked")

    monkeypatch.setattr(train_recipe, "train_loop", stopped)
    with pytest.raises(StoppedError):
        recsys.train(config(place / "data"), out=tmp_path / "run")
    assert (tmp_path / "run" / "run.json").is_file()


def test_seeds_of_a_config_that_cannot_be_trained_leave_no_folder(place, tmp_path):
    settings = config(place / "data").model_copy(update={"device": "cuda:99"})
    with pytest.raises(ConfigError, match="cuda:99"):
        train_seeds(settings, seeds=[0, 1], out=tmp_path / "above" / "runs")
    assert below(tmp_path) == []


def test_compatibility_after_an_update_is_of_a_part_that_was_not_fitted_on(place, tmp_path):
    recsys.train(config(place / "data"), out=tmp_path / "old")
    told = call("update", tmp_path / "old", place / "data", "fit_on=train+valid", "--out",
                tmp_path / "new", "--compatible")  # fmt: skip
    assert "updated:" in told
    assert '"part": "test"' in (tmp_path / "new" / "compatibility.json").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("fit", "--granularities", "4"), "it is of evaluate; rank fit takes --run, --out, --data"),
        (("fit", "--split", "valid"), "it is of evaluate"),
        (("evaluate", "--run", "x"), "it is of fit"),
        (("earlier", "--users", "5"), "it is of evaluate"),
        (("attach", "--data", "x"), "it is of fit and evaluate and earlier"),
    ],
)
def test_rank_refuses_options_of_its_other_actions(place, words, told):
    action, *rest = words
    assert told in " ".join(call("rank", action, place / "run", *rest, code=2).split())


def test_earlier_takes_nothing_more(place):
    told = call("rank", "earlier", place / "run", "trainer.epochs=3", code=2)
    assert "earlier takes a run and nothing more" in " ".join(told.split())


def test_a_ranker_replaces_nothing_but_a_ranker(place, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty; choose another folder of the ranker"):
        recsys.rank_fit(place / "run", overrides=["candidates.keep=10"], out=tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("wrong", ["missing", "data"])
def test_the_earlier_run_is_opened_before_rows_are_made(place, wrong, monkeypatch):
    import recsys.recipes.ranking.fit as recipe

    monkeypatch.setattr(recipe, "_learning", lambda *_: pytest.fail("rows were made"))
    with pytest.raises(RunError, match="neither a run folder nor a bundle"):
        recsys.rank_fit(place / "run", overrides=[f"rows.earlier={place / wrong}"])


def test_every_ranker_is_opened_before_the_first_is_measured(place, monkeypatch):
    import recsys.recipes.ranking.evaluate as recipe

    monkeypatch.setattr(recipe, "_exact", lambda *_: pytest.fail("it was measured"))
    with pytest.raises((RunError, DataError), match="no ranker"):
        recsys.rank_evaluate(place / "run", [place / "missing"])


def test_an_earlier_run_is_not_made_of_rows_that_have_changed_since(place, tmp_path):
    write_dataset(tmp_path / "data", frame(), name="walks")
    recsys.train(config(tmp_path / "data"), out=tmp_path / "run")
    rank_earlier(tmp_path / "run", tmp_path / "early")
    assert rank_earlier(tmp_path / "run", tmp_path / "early") == tmp_path / "early"
    write_dataset(tmp_path / "data", frame(1), name="walks")
    recsys.train(config(tmp_path / "data"), out=tmp_path / "run2")
    with pytest.raises(DataError, match="was made of other rows"):
        rank_earlier(tmp_path / "run2", tmp_path / "early")


def test_an_earlier_run_beside_another_run_leaves_no_data(place, tmp_path):
    recsys.train(config(place / "data"), out=tmp_path / "other")
    with pytest.raises(RunError, match="holds another run"):
        rank_earlier(place / "run", tmp_path / "other")
    assert not (tmp_path / "other-data").exists()


def test_calibrate_refuses_numbers_and_runs_that_cannot_be(place, tmp_path):
    for options, told in (({"steps": 0}, "steps is 0"), ({"learning_rate": float("nan")}, "nan")):
        with pytest.raises(ConfigError, match=told):
            recsys.calibrate(place / "run", tmp_path / "out", **options)
    fitted = config(place / "data").model_copy(update={"fit_on": "train+valid"})
    recsys.train(fitted, out=tmp_path / "fitted")
    with pytest.raises(ProtocolError, match=r"was fitted on train\+valid"):
        recsys.calibrate(tmp_path / "fitted", tmp_path / "out")
    with pytest.raises(ProtocolError, match="learns from a validation part that is new"):
        recsys.rank_fit(tmp_path / "fitted")


def test_one_run_twice_is_told_as_such(place):
    recsys.evaluate(place / "run", with_baselines=False)
    with pytest.raises(RunError, match="one is named twice; leave it out"):
        recsys.compare([place / "run", place / "run"])


def test_advice_names_options_that_are_there(place, tmp_path):
    folder = recsys.train(config(place / "data"), out=tmp_path / "run")
    text = (folder / "run.json").read_text().replace('"finished"', '"started"')
    (folder / "run.json").write_text(text)
    for verb in ("tradeoff", "bits"):
        told = call(verb, folder, code=1)
        assert "recsys evaluate --unfinished" in told
    assert yaml.safe_load((folder / "config.yaml").read_text())
