from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from recsys.data.batching import BatchingConfig, TrainBatches
from recsys.data.dataset import write_dataset
from recsys.data.histories import Histories
from recsys.data.splitting import make_split
from recsys.errors import DataError

HISTORY = 6


@pytest.fixture
def dataset(tmp_path):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 20, size=60)
    users = np.repeat(np.arange(60), lengths)
    frame = pl.DataFrame({"user_id": users, "item_id": rng.integers(0, 40, size=len(users))})
    return write_dataset(tmp_path / "data", frame, name="random")


def batches_of(dataset, seed=0, **config):
    return TrainBatches(
        BatchingConfig(**config), dataset, make_split(dataset),
        fit_on="train", history_length=HISTORY, seed=seed,
    )  # fmt: skip


def pairs(batches, epoch):
    """Every (user, history item, target) the epoch holds, in order."""
    found = []
    for index in range(batches.num_batches(epoch)):
        batch = batches.batch(epoch, index)
        users = np.repeat(batch.histories.users, batch.histories.lengths)
        found += zip(
            users.tolist(), batch.histories.items.tolist(), batch.targets.tolist(), strict=True
        )
    return found


def test_an_epoch_holds_every_recent_training_pair_once(dataset):
    split = make_split(dataset)
    expected = []
    for user in range(dataset.num_users):
        rows = dataset.items[split.start[user] : split.train_end[user]][-(HISTORY + 1) :].tolist()
        expected += [(user, a, b) for a, b in pairwise(rows)]
    batches = batches_of(dataset, batch_tokens=16, bucket_batches=3)
    assert sorted(pairs(batches, 0)) == sorted(expected)
    assert batches.num_tokens == len(expected)


@pytest.mark.parametrize("windows", [2, 10])
def test_windows_take_in_older_rows_each_as_a_target_once(dataset, windows):
    split = make_split(dataset)
    expected = []
    for user in range(dataset.num_users):
        rows = dataset.items[split.start[user] : split.train_end[user]][-(windows * HISTORY + 1) :]
        expected += [(user, a, b) for a, b in pairwise(rows.tolist())]
    batches = batches_of(dataset, batch_tokens=16, bucket_batches=3, windows=windows)
    assert sorted(pairs(batches, 0)) == sorted(expected)
    assert batches.num_tokens == len(expected) > batches_of(dataset).num_tokens
    assert batches.target_counts().sum() == len(expected)
    longest = [batches.batch(0, n).histories.lengths.max() for n in range(batches.num_batches(0))]
    assert max(longest) == HISTORY


def test_epochs_differ_and_repeat_by_seed(dataset):
    batches = batches_of(dataset, batch_tokens=16)
    assert pairs(batches, 0) != pairs(batches, 1)
    assert pairs(batches, 1) == pairs(batches_of(dataset, batch_tokens=16), 1)
    assert pairs(batches, 0) != pairs(batches_of(dataset, seed=1, batch_tokens=16), 0)


def test_batches_are_near_the_wanted_size_and_sorted_by_length(dataset):
    batches = batches_of(dataset, batch_tokens=24, bucket_batches=4)
    spreads = []
    for index in range(batches.num_batches(0)):
        lengths = batches.batch(0, index).histories.lengths
        assert lengths.sum() < 24 + HISTORY
        spreads.append(lengths.max() - lengths.min())
    assert np.mean(spreads) < HISTORY / 2


def test_held_out_items_are_never_batched(dataset):
    split = make_split(dataset)
    seen = {(user, target) for user, _, target in pairs(batches_of(dataset), 0)}
    for user in np.flatnonzero(split.valid_end > split.train_end):
        rows = dataset.items[split.start[user] : split.train_end[user]].tolist()
        for item in dataset.items[split.train_end[user] : split.end[user]].tolist():
            assert (user, item) not in seen or item in rows


def test_a_data_set_without_pairs_is_refused(tmp_path):
    frame = pl.DataFrame({"user_id": [1, 2], "item_id": [1, 2]})
    with pytest.raises(DataError, match="no user has two training interactions"):
        batches_of(write_dataset(tmp_path / "data", frame, name="tiny"))


def test_histories_keep_the_most_recent_items():
    histories = Histories(
        np.array([4, 7]), np.array([1, 2, 3, 9], np.int32), np.array([0, 3, 4]), None
    )
    recent = histories.last(2)
    assert recent.items.tolist() == [2, 3, 9]
    assert recent.offsets.tolist() == [0, 2, 3]


@pytest.mark.parametrize("windows", [1, 3])
def test_batches_tell_what_users_had_before_their_windows(dataset, windows):
    split = make_split(dataset)
    batches = TrainBatches(
        BatchingConfig(batch_tokens=16, windows=windows), dataset, split,
        fit_on="train", history_length=HISTORY, seed=0, older=True,
    )  # fmt: skip
    some = 0
    for index in range(batches.num_batches(0)):
        batch = batches.batch(0, index)
        assert batch.older.users.tolist() == batch.histories.users.tolist()
        for row, user in enumerate(batch.histories.users):
            read = batch.histories.rows(np.array([row])).items.tolist()
            older = batch.older.rows(np.array([row])).items.tolist()
            whole = dataset.items[split.start[user] : split.train_end[user]].tolist()
            starts = [i for i in range(len(whole)) if whole[i : i + len(read)] == read]
            assert any(sorted(set(whole[:start])) == sorted(older) for start in starts)
            some += len(older)
    assert some
    assert batches_of(dataset).batch(0, 0).older is None
