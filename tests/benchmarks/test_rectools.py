"""The comparison is only as fair as what the other side is given and how its lists are measured."""

import sys

import numpy as np
import polars as pl
import pytest
import torch

from benchmarks import rectools
from benchmarks.rectools import (
    VARIANTS,
    ListModel,
    Settings,
    read_lists,
    side_settings,
    write_side,
)
from benchmarks.rectools_models import CONFIGS, EMBEDDING_DIM, PAIRS
from recsys.data.batching import BatchingConfig, TrainBatches
from recsys.data.dataset import write_dataset
from recsys.data.histories import select
from recsys.data.splitting import make_split
from recsys.evaluation.evaluate import evaluate
from recsys.evaluation.held_out import held_out
from recsys.evaluation.protocol import find_protocol
from recsys.evaluation.recommend import recommend
from recsys.granularity import Granularities
from recsys.layers.jagged import to_indices
from recsys.runs.config import read_config


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, size=60)
    users = np.repeat(np.arange(60), lengths)
    frame = pl.DataFrame({"user_id": users, "item_id": rng.integers(0, 30, size=len(users))})
    return write_dataset(tmp_path / "data", frame, name="random")


class Vectors:
    granularities = Granularities(sizes=(4,))

    def __init__(self, data):
        generator = torch.Generator().manual_seed(0)
        self.users = torch.randn(data.num_users, 4, generator=generator)
        self.items = torch.randn(data.num_items, 4, generator=generator)

    def item_vectors(self):
        return self.items

    def user_vectors(self, histories):
        return self.users[to_indices(histories.users)]


def test_lists_are_measured_as_the_model_that_made_them(data, tmp_path):
    """recall@10 and ndcg@10 of lists of ten are those of the scores behind them."""
    model, split, protocol = Vectors(data), make_split(data), find_protocol("s3rec")
    users = held_out(data, split, "test").users
    known = select(data, users, split.start[users], split.valid_end[users])
    lists = recommend(model, known, data.num_items, k=10, filter_seen=True)
    rows, ranks = np.nonzero(lists >= 0)
    columns = {"user_id": users[rows], "item_id": lists[rows, ranks], "rank": ranks + 1}
    pl.DataFrame(columns).sample(fraction=1, shuffle=True, seed=0).write_csv(tmp_path / "lists.csv")
    listed = ListModel(read_lists(tmp_path / "lists.csv", data.num_users), data.num_items)
    tables = [
        evaluate(scored, data, split, protocol=protocol, part="test", ks=(5, 10))
        for scored in (model, listed)
    ]
    for metric in ("recall", "ndcg"):
        for k in (5, 10):
            own, other = (table.value(metric, k) for table in tables)
            assert own == pytest.approx(other, abs=1e-12) and own > 0


def test_the_other_side_never_sees_what_it_is_asked_for(data, tmp_path):
    split = make_split(data)
    write_side(data, split, tmp_path)
    for name, end in {"train.csv": split.train_end, "known.csv": split.valid_end}.items():
        frame = pl.read_csv(tmp_path / name).sort("user_id", "datetime")
        for user in range(data.num_users):
            rows = frame.filter(pl.col("user_id") == user)["item_id"].to_list()
            assert rows == data.items[split.start[user] : end[user]].tolist()
    users = pl.read_csv(tmp_path / "users.csv")["user_id"].to_list()
    assert users == np.flatnonzero(split.end > split.valid_end).tolist()


@pytest.mark.parametrize("model", PAIRS)
@pytest.mark.parametrize("sizes", VARIANTS.values(), ids=VARIANTS)
def test_both_sides_learn_by_the_same_settings(model, sizes, data, tmp_path):
    split, pair = make_split(data), PAIRS[model]
    told = side_settings(Settings(tmp_path, tmp_path, model, epochs=7, threads=1), split)
    theirs = told["model"]
    ours = read_config(CONFIGS / pair.config, [f"data={data.folder}", *pair.ours(sizes)])
    encoder, loss, optimizer = ours.model.encoder, ours.loss, ours.trainer.optimizer
    assert told["kind"].removesuffix("Model").lower() == ours.model.name == model
    assert theirs["n_factors"] == ours.model.granularities.sizes[-1] == EMBEDDING_DIM
    assert theirs["session_max_len"] == ours.model.history_length
    assert theirs["n_blocks"] == encoder.num_layers and theirs["n_heads"] == encoder.num_heads
    assert theirs["dropout_rate"] == encoder.dropout and ours.model.history_dropout == 0
    assert theirs["loss"] == loss.name and loss.distillation == 0
    uniform = loss.negatives.uniform if loss.name == "sampled_softmax" else None
    assert theirs.get("n_negatives") == uniform
    assert theirs["lr"] == optimizer.learning_rate
    assert optimizer.schedule == "constant" and optimizer.warmup_steps == 0
    assert (ours.protocol == "request-time") == (getattr(ours.model, "time", "") == "request")
    scale = theirs.get("lightning_module_kwargs", {}).get("logits_t")
    assert scale is None or 1 / scale == ours.model.granularities.initial_scale
    assert theirs["epochs"] == 7 and told["threads"] == 1


def test_both_sides_are_trained_on_the_processor(data, tmp_path, monkeypatch):
    monkeypatch.setattr(rectools, "train", lambda config, out: config)
    settings = Settings(tmp_path, data.folder)
    assert side_settings(settings, make_split(data))["accelerator"] == "cpu"
    for name in VARIANTS:
        assert rectools._train(settings, data, name, tmp_path).device == "cpu"


@pytest.mark.parametrize("model", PAIRS)
def test_batches_of_both_sides_hold_about_as_many_targets(model, tmp_path):
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(400), rng.integers(1, 200, size=400))
    frame = pl.DataFrame({"user_id": users, "item_id": rng.integers(0, 30, size=len(users))})
    data = write_dataset(tmp_path / "long", frame, name="long")
    split, pair = make_split(data), PAIRS[model]
    config, length = BatchingConfig(batch_tokens=pair.batch_tokens), pair.history_length
    batches = TrainBatches(config, data, split, fit_on="train", history_length=length, seed=0)
    learned = len(batches.windows.users)
    theirs = pair.batch_users(split) * batches.num_tokens / learned
    assert theirs == pytest.approx(pair.batch_tokens, rel=0.05)


START = 10**9
FAKE = f"""#!{sys.executable}
import json, sys
from pathlib import Path
folder = Path(sys.argv[-1])
asked = [row.split(",") for row in (folder / "users.csv").read_text().split()[1:]]
lists = [f"{{user}},{{int(when) // 10**9 - {START}}},1" for user, when in asked]
(folder / "lists.csv").write_text("\\n".join(["user_id,item_id,rank", *lists]))
told = dict(epoch_seconds=[2.0, 4.0], steps=6, recommend_seconds=[1.0], versions=dict(rectools="0"))
(folder / "result.json").write_text(json.dumps(told))
"""
"""Recommends the one item that is taken at the time of the request."""


def test_hstu_of_the_other_side_is_told_when_its_lists_are_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    items = [np.arange(30), *(np.sort(rng.choice(30, 6, replace=False)) for _ in range(20))]
    users = np.repeat(np.arange(21), [len(each) for each in items])
    items = np.concatenate(items)
    frame = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": START + items})
    write_dataset(tmp_path / "timed", frame, name="timed")
    python = tmp_path / "python"
    python.write_text(FAKE)
    python.chmod(0o755)
    found = rectools.measure(Settings(python, tmp_path / "timed", "hstu", rounds=1, threads=1))
    *ours, theirs = found["an epoch, 1 trained"]
    assert theirs["recall@10"].value == theirs["ndcg@10"].value == 1
    assert (theirs["s/epoch"], theirs["steps"]) == (3.0, 6)
    assert [row["model"] for row in ours] == list(VARIANTS)
    assert all(0 < row["recall@10"].value < 1 for row in ours)
    assert {"setting": "protocol", "value": "request-time"} in found["compared"]


def test_the_other_side_is_told_no_time_unless_both_are(data, tmp_path):
    write_side(data, make_split(data), tmp_path)
    assert pl.read_csv(tmp_path / "users.csv").columns == ["user_id"]
    known = pl.read_csv(tmp_path / "known.csv")
    assert known["datetime"].to_list() == list(range(len(known)))
