"""`recsys tune`: the space at the door, the search, what a kill leaves, and what it may read."""

import json
import re
import signal
import threading
import time

import numpy as np
import polars as pl
import pytest
import yaml

pytest.importorskip("optuna")

import recsys.evaluation.evaluate as evaluation
import recsys.recipes.training.train as training
import recsys.recipes.training.tune as recipe
from recsys.config import parse
from recsys.data.dataset import write_dataset
from recsys.errors import ConfigError, RunError
from recsys.recipes.training.train import train
from recsys.recipes.training.tune import tune
from recsys.runs.config import RunConfig, read_config
from recsys.training.trainer import StoppedError
from recsys.tuning.space import read_space
from recsys.tuning.trials import Trials
from tests.command import call
from tests.forked import Child

RATE = "trainer.optimizer.learning_rate"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("tune") / "data", last=0)


def write(folder, last):
    """60 users who walk a ring of 30 items; the last item of most is moved on by `last`.

    Indices follow the order in which items first appear, so the first users show all of them.
    """
    users = np.repeat(np.arange(60), 8)
    place = np.tile(np.arange(8), 60)
    moved = last * ((place == 7) & (users >= 10))
    items = (users * 7 + place + moved) % 30
    frame = pl.DataFrame({"user_id": users, "item_id": items})
    return write_dataset(folder, frame, name="ring").folder


def tree(data, space, epochs=1):
    return {
        "data": str(data),
        "threads": 1,
        "model": {"granularities": {"sizes": [4, 8]}, "history_length": 8},
        "loss": {"name": "softmax"},
        "batching": {"batch_tokens": 32},
        "trainer": {"epochs": epochs, "optimizer": {"warmup_steps": 0}},
        "tune": space,
    }


def test_the_better_of_two_learning_rates_is_found(data, tmp_path):
    given = tree(data, {RATE: [1e-7, 0.02]}, epochs=3)
    given["model"]["init"] = "normal"  # the other first values find a ring by themselves
    found = tune(given, out=tmp_path / "out", trials=6)
    assert found.best.values == {RATE: 0.02}
    tried = {each.values[RATE]: each.value for each in found.trials}
    assert tried[0.02] > tried[1e-7]
    best = yaml.safe_load(found.config.read_text())
    assert best["trainer"]["optimizer"]["learning_rate"] == 0.02 and "tune" not in best
    assert read_config(found.config).trainer.optimizer.learning_rate == 0.02
    page = (tmp_path / "out" / "tune.html").read_text()
    assert page.count("<svg") == 3 and "http://" not in page.replace("http://www.w3.org", "")
    assert f'aria-label="ndcg@10 by {RATE}; ' in page and "trainer.<wbr>optimizer.<wbr>" in page
    assert pl.read_csv(tmp_path / "out" / "tune.csv").height == 6
    kept = [path.name for path in (tmp_path / "out" / "trials").iterdir() if path.is_dir()]
    assert kept == [f"{found.best.number:04}"], "of the best trial alone the run is kept"


def test_the_first_trial_is_the_config_itself_and_more_trials_go_on(data, tmp_path):
    given = tree(data, {RATE: {"low": 1e-4, "high": 0.1, "log": True}})
    first = tune(given, out=tmp_path / "out", trials=2).trials
    assert first[0].given and first[0].values[RATE] == 1e-3
    more = tune(given, out=tmp_path / "out", trials=3).trials
    assert more[:2] == first and len(more) == 3
    alone = tune(given, out=tmp_path / "other", trials=3).trials
    assert [each.values for each in alone] == [each.values for each in more]
    assert [each.value for each in alone] == [each.value for each in more]
    with pytest.raises(ConfigError, match=r"another search:\n  tune.*high: 0.1 -> 0.2"):
        tune(given, [f"tune.{RATE}.high=0.2"], out=tmp_path / "out", trials=3)


def test_trials_below_the_median_are_pruned(data, tmp_path, monkeypatch):
    real, calls = recipe.train, []

    def worse(config, **options):
        """Each training validates lower than the one before."""
        watch, calls[:] = options["callback"], [*calls, 1]

        def lowered(moment):
            if moment.validation is None:
                return watch(moment)
            seen = type(moment.validation)(moment.validation.value - len(calls), {})
            return watch(type(moment)("validation", moment.epoch, moment.step, 0.0, seen))

        return real(config, **options | {"callback": lowered})

    monkeypatch.setattr(recipe, "train", worse)
    given = tree(data, {RATE: {"low": 0.001, "high": 0.01}}, epochs=2)
    found = tune(given, out=tmp_path / "out", trials=7)
    assert [each.state for each in found.trials] == ["finished"] * 5 + ["pruned"] * 2
    assert found.trials[6].epochs == 1
    whole = tune(given, out=tmp_path / "whole", trials=7, prune=False)
    assert {each.state for each in whole.trials} == {"finished"}


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ({"trainer.learning_rate": [0.1, 0.2]}, "unknown key; did you mean 'trainer.optimizer.le"),
        ({"model.encoder.dropuot": [0.1, 0.2]}, "unknown key; did you mean 'model.encoder.drop"),
        ({"model.encoder.dropout": {"low": 0.5, "high": 1.5}}, r"high 1.5 .*\n.*less than"),
        ({RATE: {"low": 0, "high": 0.1}}, r"low 0.0 .*\n.*greater than 0"),
        ({RATE: {"low": 0, "high": 0.1, "log": True}}, "log needs a low above 0"),
        ({RATE: {"low": 0.2, "high": 0.1}}, "must be below high"),
        ({RATE: {"low": 0.1, "high": 0.2, "stp": 1}}, "stp: unknown key; did you mean 'step'"),
        ({RATE: {"low": 0.1, "high": 0.25, "step": 0.1}}, "0.2 would be"),
        ({RATE: 0.1}, "a list of values is expected"),
        ({RATE: [0.1]}, "two values or more"),
        ({"batching.batch_tokens": {"low": 16.5, "high": 32}}, "must be whole"),
        ({"loss.name": {"low": 1, "high": 2}}, "holds no number"),
        ({"loss": [{"name": "softmax"}, {"name": "sofmax"}]}, "choice .*sofmax"),
        ({"trainer.seed": [0, 1]}, "is luck"),
        ({"data": ["a", "b"]}, "the same data"),
        ({"split.valid_quantile": [0.1, 0.2]}, "split.* cannot be searched"),
        ({"model.granularities.sizes": [[4], [4, 8]]}, "the mean of"),
        ({}, "has no section `tune`"),
        ({"loss": [{"name": "softmax"}, {"name": "bpr"}], "loss.name": ["a", "b"]}, "lies inside"),
    ],
)
def test_wrong_spaces_are_refused_before_anything_is_made(data, tmp_path, space, told):
    with pytest.raises(ConfigError, match=told):
        tune(tree(data, space), out=tmp_path / "out", trials=2)
    assert not (tmp_path / "out").exists()


def test_a_key_that_does_nothing_in_any_trial_is_refused(data, tmp_path):
    space = {"loss.distillation": [0.0, 0.5]}
    given = tree(data, space)
    given["model"]["granularities"] = {"sizes": [8]}
    with pytest.raises(ConfigError, match=r"tune.loss.distillation does nothing in any trial: it "):
        tune(given, out=tmp_path / "out", trials=1)
    assert not (tmp_path / "out").exists()
    del given["tune"]
    given["trainer"]["metric"] = "ndcg@10/d8"
    both = {"model.granularities.sizes": [[8], [4, 8]], **space}
    assert [p.path for p in read_space(both, given, "here")] == list(both)


def test_values_that_do_not_go_together_fail_their_trial_alone(data, tmp_path):
    space = {"trainer.patience": [1, 5], "trainer.validate_every": [1, 3]}
    given = tree(data, space, epochs=3)
    given["trainer"]["patience"] = 5
    found = tune(given, out=tmp_path / "out", trials=8)
    failed = [each for each in found.trials if each.state == "failed"]
    assert failed and all("is shorter than validate_every" in each.reason for each in failed)


def test_the_test_part_is_not_read(data, tmp_path, monkeypatch):
    parts, real = set(), evaluation.held_out

    def spy(dataset, split, part, *rest, **more):
        parts.add(part)
        return real(dataset, split, part, *rest, **more)

    monkeypatch.setattr(evaluation, "held_out", spy)
    monkeypatch.setattr(training, "held_out", spy)
    space = {RATE: {"low": 1e-3, "high": 0.1, "log": True}}
    found = tune(tree(data, space), out=tmp_path / "out", trials=3)
    assert parts == {"valid"}
    other = write(tmp_path / "other", last=5)  # most of the test part is another
    again = tune(tree(other, space), out=tmp_path / "again", trials=3)
    assert [each.value for each in again.trials] == [each.value for each in found.trials]


def test_a_killed_search_goes_on_without_losing_a_trial(data, tmp_path):
    given = tree(data, {RATE: {"low": 1e-3, "high": 0.1, "log": True}}, epochs=4)
    config, out = tmp_path / "search.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(given))
    words = ["tune", str(config), "--trials", "200", "--out", str(out)]
    child = Child("-m", "recsys", *words)
    while child.poll() is None and not (out / "trials" / "0003").is_dir():
        time.sleep(0.002)
    assert child.kill() == -signal.SIGKILL
    with (out / "trials.journal").open("ab") as stream:
        stream.write(b'{"op_code"')  # a line that the kill has cut
    before = [each for each in Trials(out).records() if each.state != "running"]
    assert len(before) >= 3
    count = len(Trials(out).records()) + 1
    found = tune(config, out=out, trials=count)
    assert found.trials[: len(before)] == before
    assert len(found.trials) == count
    assert {each.state for each in found.trials} <= {"finished", "pruned"}
    json.loads((out / "search.json").read_text())


def test_two_jobs_share_the_trials(data, tmp_path):
    given = tree(data, {RATE: {"low": 1e-3, "high": 0.1, "log": True}})
    found = tune(given, out=tmp_path / "out", trials=8, jobs=2)
    assert [each.number for each in found.trials] == list(range(8))
    assert {each.state for each in found.trials} == {"finished"}
    assert (tmp_path / "out" / "job-2.log").is_file()


def test_threads_share_the_trials(data, tmp_path):
    given = tree(data, {RATE: {"low": 1e-3, "high": 0.1, "log": True}})
    failures = []

    def run():
        try:
            tune(given, out=tmp_path / "out", trials=4)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [each.state for each in Trials(tmp_path / "out").records()] == ["finished"] * 4


def test_a_folder_of_something_else_is_refused(data, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(RunError, match="something else than a search"):
        tune(tree(data, {RATE: [0.1, 0.2]}), out=tmp_path, trials=1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_config_with_a_space_can_be_trained_and_says_so(data, tmp_path, capsys):
    config = tmp_path / "search.yaml"
    config.write_text(yaml.safe_dump(tree(data, {RATE: [0.1, 0.2]})))
    told = call("train", config, "--out", tmp_path / "run")
    assert "trained:" in told
    assert "has a section `tune`" in told + capsys.readouterr().err


def test_the_command_prints_the_trials_and_what_to_do_next(data, tmp_path):
    config = tmp_path / "search.yaml"
    config.write_text(yaml.safe_dump(tree(data, {RATE: [0.001, 0.02]})))
    told = call("tune", config, "--trials", "2", "--out", tmp_path / "out")
    assert re.search(r"Trial \d is the best of 2: ndcg@10 \d", " ".join(told.split()))
    assert "tuned:" in told


def test_a_callback_ends_training_after_a_step_an_epoch_or_a_validation(data, tmp_path):
    config = parse(RunConfig, {k: v for k, v in tree(data, 0, 3).items() if k != "tune"}, "x")
    for event in ("step", "epoch", "validation"):
        seen = []

        def watch(moment, event=event, seen=seen):
            seen.append(moment)
            return "enough" if moment.event == event else None

        out = train(config, out=tmp_path / event, callback=watch)
        info = json.loads((out / "run.json").read_text())
        assert info["state"] == "finished" and info["ended"] == "enough"
        assert seen[-1].epoch == (0 if event == "step" else 1)
        assert (out / "model.safetensors").is_file()


def test_an_error_of_a_callback_leaves_a_run_that_goes_on(data, tmp_path):
    config = parse(RunConfig, {k: v for k, v in tree(data, 0, 2).items() if k != "tune"}, "x")

    def fail(moment):
        if moment.epoch == 1 and moment.event == "step":
            raise StoppedError("no more")
        return

    with pytest.raises(StoppedError, match="no more"):
        train(config, out=tmp_path / "run", callback=fail)
    train(config, out=tmp_path / "run", resume=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "finished"
