"""A run that is killed and resumed ends with the bits of one that was not."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys.data.dataset import write_dataset
from recsys.errors import RunError
from recsys.models import SASRec
from recsys.recipes.training import train as training
from recsys.recipes.training.train import train
from recsys.training.checkpoint import WEIGHTS
from recsys.training.logs import read_lines
from tests.forked import Child

CONFIG = """
data: {data}
threads: 1
model:
  granularities: {{sizes: [4, 8], learned_scale: true}}
  history_length: 8
  encoder: {{dropout: 0.3, attention_dropout: 0.1, layer: ligr}}
  output_dropout: 0.1
loss: {{name: sampled_softmax, negatives: {{uniform: 20, popularity: 10, in_batch: true}}}}
batching: {{batch_tokens: 64, bucket_batches: 4}}
trainer:
  epochs: 8
  checkpoint_seconds: {checkpoint_seconds}
  optimizer: {{schedule: cosine, weight_decay: 0.01}}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(120), 10)
    items = (users % 7 * 9 + rng.integers(0, 12, size=len(users))) % 60
    frame = pl.DataFrame({"user_id": users, "item_id": items})
    return write_dataset(tmp_path_factory.mktemp("resume") / "data", frame, name="x").folder


@pytest.fixture(scope="module")
def config(data) -> Path:
    path = data.parent / "config.yaml"
    path.write_text(CONFIG.format(data=data, checkpoint_seconds=0))
    return path


@pytest.fixture(scope="module")
def uninterrupted(config) -> Path:
    return train(config, out=config.parent / "whole")


def start(config: Path, out: Path) -> Child:
    return Child("-m", "recsys", "train", config, "--out", out, "--resume")


def wait_for(process: Child, reached) -> None:
    """Returns as soon as `reached()`; a child that ends earlier is a failure."""
    while not reached():
        assert process.poll() is None, process.stderr
        time.sleep(0.001)


def steps(run: Path) -> int:
    found = sorted((run / "checkpoints").glob("step-*"))
    return int(found[-1].name.split("-")[1]) if found else -1


def losses(run: Path) -> list[dict]:
    records = read_lines(run / "log.jsonl")
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


def test_kill_9_at_several_steps_then_resume_gives_the_same_bits(config, uninterrupted):
    run = config.parent / "killed"
    for reached in (
        lambda: (run / "run.json").is_file(),
        lambda: steps(run) >= 3,
        lambda: steps(run) >= 71,
    ):
        child = start(config, run)
        wait_for(child, reached)
        assert child.kill() == -signal.SIGKILL
        assert json.loads((run / "run.json").read_text())["state"] == "started"
    train(config, out=run, resume=True)
    assert (run / WEIGHTS).read_bytes() == (uninterrupted / WEIGHTS).read_bytes()
    assert losses(run) == losses(uninterrupted)
    assert len(list((run / "checkpoints").iterdir())) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_stop_saves_first_and_says_how_to_go_on(data, uninterrupted, number):
    """No checkpoint is due for a long time, so the one that is found was made by the stop."""
    config = data.parent / "polite.yaml"
    config.write_text(CONFIG.format(data=data, checkpoint_seconds=3600))
    run = data.parent / number.name
    child = start(config, run)
    wait_for(child, lambda: len(read_lines(run / "log.jsonl")) > 0)
    assert child.kill(number) == 130
    assert f"stopped by {number.name}" in child.stderr and "--resume" in child.stderr
    assert steps(run) > 0
    train(config, out=run, resume=True)
    assert (run / WEIGHTS).read_bytes() == (uninterrupted / WEIGHTS).read_bytes()


def test_a_run_that_ended_before_its_first_checkpoint_begins_as_it_began(
    config, uninterrupted, tmp_path, monkeypatch
):
    def killed(*_, **__):
        raise RuntimeError("killed")

    monkeypatch.setattr(training, "train_loop", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(config, out=tmp_path / "run")
    monkeypatch.undo()
    assert not (tmp_path / "run" / "checkpoints").exists()
    train(config, out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == (uninterrupted / WEIGHTS).read_bytes()


def test_a_run_that_is_refused_or_finished_makes_no_first_values(
    config, uninterrupted, monkeypatch
):
    monkeypatch.setattr(SASRec, "begin", lambda *_: pytest.fail("a minute of a large catalogue"))
    with pytest.raises(RunError, match="holds a run already"):
        train(config, out=uninterrupted)
    assert train(config, out=uninterrupted, resume=True) == uninterrupted
