"""Whole runs: the same files from any number of processes, kills, failures, restarts."""

import os
import signal
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from recsys.recipes.evaluating.evaluate import evaluate
from recsys.runs.records import load_run_info
from recsys.tables import DenseConfig
from recsys.training.logs import read_lines
from tests.distributed import training
from tests.distributed.workers import Group, run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return training.write_data(tmp_path_factory.mktemp("data") / "data").folder


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """A run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    run(1, training.train_run, training.settings(data), folder)
    return folder


def same_results(folder, expected):
    """Weights, logs and figures are those of another run, up to the order of summation."""
    found, wanted = (
        load_file(folder / "model.safetensors"),
        load_file(expected / "model.safetensors"),
    )
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in wanted.items()}
    np.testing.assert_allclose(found["table.weight"], wanted["table.weight"], atol=2e-3)
    ours, theirs = read_lines(folder / "log.jsonl"), read_lines(expected / "log.jsonl")
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for line, other in zip(ours, theirs, strict=True):
        assert line.get("loss", 0) == pytest.approx(other.get("loss", 0), abs=1e-4)
    figures = [
        evaluate(path, with_baselines=False).value("ndcg", 10) for path in (folder, expected)
    ]
    assert figures[0] == pytest.approx(figures[1], abs=0.02)  # a rank or two of 60 users


def test_all_processes_begin_with_the_first_values_of_the_first(data, tmp_path):
    config = training.settings(data, epochs=1)
    model = config.model.model_copy(update={"table": DenseConfig()})
    config = config.model_copy(update={"model": model})
    assert run(2, training.begun_with, config, tmp_path / "run") == [1.0, 1.0]


def wait_for(folder, pattern):
    deadline = time.monotonic() + 60
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("world_size", "sharding"), [(2, "tier_aligned"), (4, "row_wise")])
def test_several_processes_leave_the_files_of_one(world_size, sharding, data, alone, tmp_path):
    run(world_size, training.train_run, training.settings(data, sharding), tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(
        path.name for path in alone.iterdir() if path.name != "metrics"
    )
    assert load_run_info(tmp_path / "run")["processes"] == world_size
    same_results(tmp_path / "run", alone)


@pytest.mark.parametrize(("killed", "again"), [(1, 4), (0, 1)])
def test_kill_9_of_one_then_a_restart_with_another_world_size_ends_the_same(
    killed, again, data, alone, tmp_path
):
    config = training.settings(data, checkpoint_seconds=0.0)
    group = Group(2, training.train_slowly, config, tmp_path / "run")
    wait_for(tmp_path, "run/checkpoints/step-*-epoch-000001")
    os.kill(group.processes[killed].pid, signal.SIGKILL)
    results = group.results()
    assert results[killed] is None
    kind, message, _ = results[1 - killed]
    assert kind == "PeerError" and "without a message" in message and "--resume" in message
    assert load_run_info(tmp_path / "run")["state"] == "started"
    run(again, training.train_run, config, tmp_path / "run")
    same_results(tmp_path / "run", alone)


@pytest.mark.parametrize("failing", [0, 2])
def test_when_one_process_fails_the_others_stop_with_its_reason(failing, data, tmp_path):
    config = training.settings(data)
    results = Group(
        3, training.train_with_a_failure, config, tmp_path / "run", failing, 2
    ).results()
    reason = "row 7 of histories.parquet is damaged"
    for rank, (kind, message, _) in enumerate(results):
        assert kind == ("DataError" if rank == failing else "PeerError")
        assert reason in message
        if rank != failing:
            assert f"process {failing} failed with DataError" in message


def test_a_run_that_cannot_begin_stops_everyone(data, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep")
    first, second = Group(
        2, training.train_run, training.settings(data), tmp_path / "run"
    ).results()
    assert first[0] == "RunError" and "not empty" in first[1]
    assert second[0] == "PeerError" and "not empty" in second[1]


def test_a_polite_stop_of_one_saves_and_stops_all(data, alone, tmp_path):
    config = training.settings(data, checkpoint_seconds=3600.0)
    group = Group(2, training.train_slowly, config, tmp_path / "run")
    wait_for(tmp_path, "run/checkpoints/step-*-epoch-000001")
    os.kill(group.processes[1].pid, signal.SIGTERM)
    words = ("stopped by another process", "stopped by SIGTERM")
    for (kind, message, _), cause in zip(group.results(), words, strict=True):
        assert kind == "StoppedError" and cause in message
    run(2, training.train_run, config, tmp_path / "run")
    same_results(tmp_path / "run", alone)
