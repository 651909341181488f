"""Run folders: moved, gone on with, asked for twice, and what a call leaves in its process."""

import re
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest
import torch

from data_prep import PrepareOptions, prepare
from recsys.data.dataset import load_dataset, write_dataset
from recsys.errors import BusyError, ConfigError, DataError, RunError
from recsys.recipes.training.train import train
from recsys.runs.config import RunConfig
from recsys.runs.folder import training
from recsys.runs.loading import load_run
from recsys.runs.records import load_config, load_run_info
from recsys.training.logs import read_lines
from tests.forked import Child


def frame(seed=0):
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 25, size=60)
    items = (np.repeat(starts, 8) + np.tile(np.arange(8), 60)) % 25
    return pl.DataFrame({"user_id": np.repeat(np.arange(60), 8), "item_id": items})


def settings(data, epochs=2, **changes):
    trainer = {
        "epochs": epochs,
        "optimizer": {"schedule": "constant"},
        **changes.pop("trainer", {}),
    }
    tree = {
        "data": str(data),
        "threads": 1,
        "model": {"granularities": {"sizes": [4, 8]}, "history_length": 8},
        "trainer": trainer,
    }
    return RunConfig.model_validate({**tree, **changes})


def longer(config, epochs):
    trainer = config.trainer.model_copy(update={"epochs": epochs})
    return config.model_copy(update={"trainer": trainer})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("folders")


@pytest.fixture(scope="module")
def data(place):
    return write_dataset(place / "data" / "walks", frame(), name="walks").folder


@pytest.fixture(scope="module")
def run(place, data):
    return train(settings(data), out=place / "runs" / "one")


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_resuming_a_finished_run_changes_no_byte(copy, monkeypatch):
    before = files_of(copy)
    train(load_config(copy), out=copy, resume=True)
    assert files_of(copy) == before


def test_more_epochs_go_on_and_end_as_if_they_had_been_asked_for_at_once(run, copy, data, place):
    config = load_config(run)
    assert train(longer(config, 4), out=copy, resume=True) == copy
    info = load_run_info(copy)
    assert info["state"] == "finished" and info["planned_epochs"] == [2]
    assert load_config(copy).trainer.epochs == 4
    at_once = train(longer(config, 4), out=place / "at-once")
    assert (copy / "model.safetensors").read_bytes() == (at_once / "model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match=r"trainer\.epochs: 4 -> 3 \(4 are done\)"):
        train(longer(config, 3), out=copy, resume=True)


def test_a_longer_cosine_is_told(copy, data, capsys, tmp_path):
    cosine = settings(data, 1, trainer={"optimizer": {"schedule": "cosine"}})
    train(cosine, out=tmp_path / "cosine")
    train(longer(cosine, 2), out=tmp_path / "cosine", resume=True)
    assert "ends with other weights" in capsys.readouterr().err


def test_a_run_that_keeps_no_checkpoint_is_not_made_longer(data, tmp_path):
    config = settings(data, 1, trainer={"keep_checkpoint": False})
    folder = train(config, out=tmp_path / "run")
    assert not (folder / "checkpoints").exists()
    with pytest.raises(RunError, match=r"keeps no checkpoint .* 2 epochs into another --out"):
        train(longer(config, 2), out=folder, resume=True)


def test_what_differs_is_named_key_by_key(copy, data):
    config = load_config(copy)
    optimizer = config.trainer.optimizer.model_copy(update={"learning_rate": 0.5})
    other = config.model_copy(
        update={"trainer": config.trainer.model_copy(update={"optimizer": optimizer, "seed": 3})}
    )
    with pytest.raises(ConfigError) as error:
        train(other, out=copy, resume=True)
    lines = str(error.value).splitlines()
    assert lines[1:-1] == [
        "  trainer.optimizer.learning_rate: 0.001 -> 0.5",
        "  trainer.seed: 0 -> 3",
    ]


def test_a_run_is_found_and_gone_on_with_from_any_folder(place, data, tmp_path, monkeypatch):
    """The data of a relative path are those above the run, or where they lay in training."""
    project = tmp_path / "project"
    shutil.copytree(data, project / "data" / "walks")
    monkeypatch.chdir(project)
    folder = train(settings("data/walks", 1), out="runs/one").resolve()
    monkeypatch.chdir("/")
    assert load_run(folder).dataset.folder == project / "data" / "walks"
    train(longer(settings("data/walks"), 2), out=folder, resume=True)
    absolute = settings(project / "data" / "walks", 3)
    train(absolute, out=folder, resume=True)
    assert len({line["epoch"] for line in read_lines(folder / "log.jsonl")}) == 3
    moved = shutil.copytree(project, tmp_path / "moved")
    shutil.rmtree(project)
    assert load_run(moved / "runs" / "one").dataset.folder == moved / "data" / "walks"
    alone = (moved / "runs" / "one").rename(tmp_path / "alone")
    with pytest.raises(RunError, match=r"neither at data/walks nor .*60 users.*found no data set"):
        load_run(alone)


def test_a_data_set_prepared_again_is_told_and_the_run_says_what_it_was(tmp_path, capsys):
    source = tmp_path / "rows.csv"
    frame().with_columns(rating=pl.lit(5)).write_csv(source)
    prepare("csv", PrepareOptions(time_column="none"), source=source, out=tmp_path / "data")
    folder = train(settings(tmp_path / "data", 1), out=tmp_path / "run")
    capsys.readouterr()
    same = PrepareOptions(time_column="none")
    prepare("csv", same, source=source, out=tmp_path / "data")
    assert "another data set" not in capsys.readouterr().err
    other = PrepareOptions(time_column="none", min_item_count=2, min_user_count=3)
    frame().head(200).with_columns(rating=pl.lit(5)).write_csv(source)
    prepare("csv", other, source=source, out=tmp_path / "data")
    assert "can no longer be evaluated or resumed" in capsys.readouterr().err
    with pytest.raises(
        RunError, match=r"trained on data .*60 users, 25 items.* found .* with .*25 users"
    ):
        load_run(folder)


def test_users_of_two_rows_are_refused_before_a_folder_is_made(tmp_path):
    rows = frame().group_by("user_id", maintain_order=True).head(2)
    short = write_dataset(tmp_path / "short", rows, name="short").folder
    with pytest.raises(DataError, match="no user of short has both a history and a target"):
        train(settings(short), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_call_leaves_threads_and_random_numbers_as_they_were(run, data, tmp_path):
    torch.set_num_threads(2)
    torch.manual_seed(5)
    expected = torch.rand(3).tolist()
    torch.manual_seed(5)
    train(settings(data, 1), out=tmp_path / "run")
    load_run(run)
    assert torch.get_num_threads() == 2
    assert torch.rand(3).tolist() == expected


def test_training_runs_in_a_worker_thread(data, tmp_path, run):
    with ThreadPoolExecutor(1) as pool:
        folder = pool.submit(train, settings(data), out=tmp_path / "run").result()
    assert load_run_info(folder)["state"] == "finished"
    assert (folder / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_of_several_trainings_into_one_folder_one_trains_and_the_others_are_told(data, tmp_path):
    """Each has a seed of its own, and the folder is that of one of them."""
    configs = [settings(data, 1, trainer={"seed": seed}) for seed in range(4)]

    def attempt(config):
        try:
            return train(config, out=tmp_path / "run") and config.trainer.seed
        except (RunError, BusyError) as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(attempt, configs))
    (winner,) = [seed for seed in found if isinstance(seed, int)]
    told = [text for text in found if text != winner]
    assert all(re.search("has just made|holds a run already", text) for text in told)
    assert load_config(tmp_path / "run").trainer.seed == winner
    assert load_run_info(tmp_path / "run")["seed"] == winner
    events = [line["event"] for line in read_lines(tmp_path / "run" / "log.jsonl")]
    assert events == ["train", "valid"]


def test_a_run_that_is_being_trained_is_not_resumed(copy):
    config = longer(load_config(copy), 3)
    with training(copy), pytest.raises(BusyError, match="another process is training"):
        train(config, out=copy, resume=True)
    assert load_config(copy).trainer.epochs == 2


def test_a_killed_training_frees_its_folder_and_its_leftovers_are_swept(copy, tmp_path):
    code = (
        "import sys, time; from pathlib import Path; "
        "from recsys.runs.folder import training; from recsys.files.atomic import atomic_path\n"
        "run = Path(sys.argv[1])\n"
        "with training(run), atomic_path(run / 'a.json') as temporary:\n"
        "    temporary.write_text('half'); print('writing', flush=True); time.sleep(600)"
    )
    child = Child("-c", code, copy)
    while child.stdout != "writing\n":
        assert child.poll() is None, child.stderr
        time.sleep(0.01)
    config = longer(load_config(copy), 3)
    with pytest.raises(BusyError):
        train(config, out=copy, resume=True)
    assert child.kill() == -signal.SIGKILL
    assert list(copy.glob(".a.json.*.tmp"))
    train(config, out=copy, resume=True)
    assert not list(copy.glob(".*.tmp"))


def test_threads_that_map_one_data_set_at_once_all_read_it(data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "data")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load_dataset(folder, mapped=True), range(8)))
    expected = load_dataset(data).items.tolist()
    assert all(dataset.items.tolist() == expected for dataset in found)


def test_a_file_where_the_run_folder_is_meant_is_told(data, tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(RunError, match="is a file; choose another place"):
        train(settings(data, 1), out=tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"
