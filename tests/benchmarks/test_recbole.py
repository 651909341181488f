"""The comparison is only as fair as what RecBole is given and how its vectors are measured."""

import sys

import numpy as np
import polars as pl
import pytest
import torch

from benchmarks.recbole import compare
from benchmarks.recbole.compare import (
    CONFIGS,
    EQUAL,
    DotModel,
    K,
    Settings,
    config_of,
    own_name,
    protocol_of,
    side_settings,
    write_side,
)
from recsys.data.dataset import write_dataset
from recsys.data.splitting import make_split
from recsys.evaluation.evaluate import evaluate
from recsys.granularity import Granularities
from recsys.layers.jagged import to_indices
from recsys.runs.loading import build_model

NUM_USERS, NUM_ITEMS = 60, 30


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(NUM_USERS), rng.integers(3, 9, size=NUM_USERS))
    items = rng.integers(0, NUM_ITEMS, size=len(users))
    frame = pl.DataFrame({"user_id": users, "item_id": items})
    return write_dataset(tmp_path / "data", frame, name="random", order="given")


@pytest.fixture
def settings(tmp_path, data):
    python, config = tmp_path / "python", CONFIGS / "ml100k_lightgcn.yaml"
    return Settings(python, data.folder, config, epochs=1, layers=2, batch_pairs=64, threads=1)


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


def leave_vectors(folder, vectors, seed=0):
    """As RecBole does: in an order of its own."""
    rng = np.random.default_rng(seed)
    for kind, rows in (("user", vectors.users), ("item", vectors.items)):
        order = rng.permutation(len(rows))
        np.save(folder / f"{kind}_indices.npy", order)
        np.save(folder / f"{kind}_vectors.npy", rows[torch.from_numpy(order)].numpy())


def test_vectors_are_measured_as_the_model_that_made_them(data, tmp_path):
    vectors, split = Vectors(data), make_split(data)
    leave_vectors(tmp_path, vectors)
    read = DotModel(tmp_path, data.num_users, data.num_items)
    own, other = (
        evaluate(each, data, split, protocol=protocol_of(data), part="test", ks=(5, K))
        for each in (vectors, read)
    )
    for metric in ("recall", "ndcg"):
        for k in (5, K):
            assert own.value(metric, k) == pytest.approx(other.value(metric, k), abs=1e-12)
    assert 0 < own.value("ndcg", 5) < 1


def test_an_item_without_a_vector_is_never_recommended(data, tmp_path):
    leave_vectors(tmp_path, Vectors(data))
    kept = np.load(tmp_path / "item_indices.npy")[1:]
    left_out = np.setdiff1d(np.arange(data.num_items), kept)
    np.save(tmp_path / "item_indices.npy", kept)
    np.save(tmp_path / "item_vectors.npy", np.load(tmp_path / "item_vectors.npy")[1:])
    histories = compare.fit_histories(data, make_split(data), "train")
    scores = DotModel(tmp_path, data.num_users, data.num_items).scores(histories)
    assert (scores.isinf().sum(0).nonzero().squeeze(1) == torch.from_numpy(left_out)).all()


def test_the_other_side_learns_from_train_and_valid_and_never_sees_the_test_part(data, tmp_path):
    split = make_split(data)
    write_side(data, split, tmp_path / "side")
    frame = pl.read_csv(tmp_path / "side" / "data" / "data.inter", separator="\t")
    assert frame.columns == ["user_id:token", "item_id:token"]
    for user in range(data.num_users):
        rows = frame.filter(pl.col("user_id:token") == user)["item_id:token"].to_list()
        assert rows == data.items[split.start[user] : split.valid_end[user]].tolist()


def test_both_sides_learn_by_the_same_settings(settings, data):
    theirs, ours = side_settings(settings)["config"], config_of(settings, data, EQUAL)
    optimizer = ours.trainer.optimizer
    assert ours.model.granularities.sizes == (theirs["embedding_size"],)
    assert not ours.model.granularities.normalize and ours.model.granularities.initial_scale == 1
    assert ours.model.layers == theirs["n_layers"] == 2
    assert ours.batching.batch_tokens == theirs["train_batch_size"] == 64
    assert ours.loss.name == "bpr" and ours.loss.negatives.uniform == 64
    assert theirs["learner"] == "adam" and optimizer.betas == (0.9, 0.999)
    assert optimizer.learning_rate == theirs["learning_rate"]
    assert optimizer.schedule == "constant" and optimizer.warmup_steps == 0
    assert optimizer.table_weight_decay == theirs["weight_decay"] == theirs["reg_weight"] == 0
    assert ours.trainer.epochs == theirs["epochs"] and ours.trainer.seed == theirs["seed"]
    assert ours.device == "cpu"  # RecBole is run with use_gpu: false
    assert ours.threads == side_settings(settings)["threads"] and ours.fit_on == "train+valid"
    lengths = make_split(data).valid_end - make_split(data).start
    assert ours.model.history_length == lengths.max()


def test_first_values_are_spread_as_those_of_the_other_side(settings, data):
    model = build_model(config_of(settings, data, EQUAL), data)
    for rows in (model.user_table.weight, model.table.weight):
        xavier = torch.nn.init.xavier_uniform_(torch.empty(rows.shape)).std()
        assert float(rows.std()) == pytest.approx(float(xavier), rel=0.15)


def test_the_way_of_the_project_is_the_config_as_it_stands(settings, data):
    own = config_of(settings, data, own_name(settings))
    assert len(own.model.granularities.sizes) == 6 and own.loss.name == "sampled_softmax"
    assert own_name(settings) == "ours, 6 granularities, ml100k_lightgcn.yaml"


FAKE = f"""#!{sys.executable}
import json, sys
from pathlib import Path
import numpy as np
folder = Path(sys.argv[-1])
for kind, count in (("user", {NUM_USERS}), ("item", {NUM_ITEMS})):
    np.save(folder / f"{{kind}}_indices.npy", np.arange(count))
    vectors = np.random.default_rng(0).normal(size=(count, 2))
    np.save(folder / f"{{kind}}_vectors.npy", vectors.astype(np.float32))
told = dict(epoch_seconds=[2.0, 4.0], seconds=9.0, steps=6, versions=dict(recbole="0"))
(folder / "result.json").write_text(json.dumps(told))
"""


def test_the_table_has_both_of_ours_and_the_other_side(settings):
    settings.python.write_text(FAKE)
    settings.python.chmod(0o755)
    found = compare.measure(settings)
    *ours, theirs = found["an epoch, 1 trained"]
    assert [row["model"] for row in ours] == [EQUAL, own_name(settings)]
    assert (theirs["s/epoch"], theirs["steps"], theirs["seconds besides"]) == (3.0, 6, 3.0)
    assert ours[0]["ratio"] == 1 and theirs["ratio"] == 3.0 / ours[0]["s/epoch"]
    assert all(0 < row[f"recall@{K}"].value <= 1 for row in (*ours, theirs))
    assert {"setting": "RecBole's recbole", "value": "0"} in found["compared"]
