"""Reference: the same data set in memory."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys.data import dataset as dataset_module
from recsys.data import histories as histories_module
from recsys.data import splitting
from recsys.data.batching import BatchingConfig, TrainBatches
from recsys.data.dataset import INTERACTIONS, Dataset, SplitRule, load_dataset, write_dataset
from recsys.data.histories import item_counts, select
from recsys.data.mapped_histories import MAPPED
from recsys.data.splitting import make_split
from recsys.errors import ChecksumError, DataError
from recsys.evaluation.held_out import fit_histories, held_out

RULES = [SplitRule(), SplitRule(name="global-time")]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 30, size=80)
    users = np.repeat(np.arange(80), lengths)
    times = np.concatenate([np.sort(rng.integers(-50, 1_000, size=length)) for length in lengths])
    frame = pl.DataFrame(
        {"user_id": users, "item_id": rng.integers(0, 40, size=len(users)), "timestamp": times}
    )
    return write_dataset(tmp_path / "data", frame, name="random").folder


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """A few rows at once, so that pieces end inside histories and histories inside pieces."""
    monkeypatch.setattr(dataset_module, "_PIECE", 7)
    monkeypatch.setattr(splitting, "_BLOCK", 50)
    monkeypatch.setattr(histories_module, "_COUNTED_AT_ONCE", 64)


def same(a, b):
    for name in ("users", "items", "offsets", "timestamps"):
        one, other = getattr(a, name), getattr(b, name)
        assert one.dtype == other.dtype and one.tolist() == other.tolist(), name


def batches_of(data):
    return TrainBatches(
        BatchingConfig(batch_tokens=32), data, make_split(data),
        fit_on="train", history_length=6, seed=3,
    )  # fmt: skip


def test_mapped_batches_are_those_of_memory(folder):
    mapped, memory = (batches_of(load_dataset(folder, mapped=flag)) for flag in (True, False))
    for epoch in range(2):
        assert mapped.num_batches(epoch) == memory.num_batches(epoch) > 5
        for index in range(memory.num_batches(epoch)):
            one, other = mapped.batch(epoch, index), memory.batch(epoch, index)
            same(one.histories, other.histories)
            assert one.targets.tolist() == other.targets.tolist()
    assert mapped.target_counts().tolist() == memory.target_counts().tolist()


@pytest.mark.parametrize("most", [None, 10_000, 300, 40])
def test_no_more_is_read_than_is_wanted(folder, most, monkeypatch):
    data = load_dataset(folder, mapped=True)
    split, read = make_split(data), []
    real = Dataset.items_at
    monkeypatch.setattr(
        Dataset, "items_at", lambda self, at: read.append(len(at)) or real(self, at)
    )
    found = fit_histories(data, split, "train", most=most)
    lengths = split.train_end - split.start
    step = -(-int(lengths.sum()) // (most or 10_000))
    assert found.users.tolist() == list(range(0, data.num_users, step))
    assert found.lengths.tolist() == lengths[::step].tolist()
    assert sum(read) == len(found.items)
    assert (step > 1) == (most in (300, 40))


@pytest.mark.parametrize("rule", RULES)
def test_mapped_splits_and_evaluation_batches_are_those_of_memory(folder, rule):
    found = []
    for flag in (True, False):
        data = load_dataset(folder, mapped=flag)
        split = make_split(data, rule)
        held = held_out(data, split, "test")
        found.append((split, held, held.histories(data, np.arange(len(held.users))[::-1])))
    (one, held, seen), (other, held_other, seen_other) = found
    for name in ("start", "train_end", "valid_end", "end"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist(), name
    assert held.targets.tolist() == held_other.targets.tolist()
    same(seen, seen_other)


@pytest.mark.parametrize("mapped", [True, False])
def test_items_are_counted_in_the_ranges_alone(folder, mapped):
    data = load_dataset(folder, mapped=mapped)
    lo, hi = data.offsets[:-1] + 1, data.offsets[1:]
    everyone = np.arange(data.num_users)
    expected = np.bincount(select(data, everyone, lo, hi).items, minlength=data.num_items)
    assert item_counts(data, lo, hi).tolist() == expected.tolist()
    assert not item_counts(data, lo, lo).any()


def test_columns_are_made_once_and_again_for_another_data_set(folder):
    load_dataset(folder, mapped=True)
    column = folder / MAPPED / "items.i32"
    before = column.stat().st_ino
    load_dataset(folder, mapped=True, verify=True)
    assert column.stat().st_ino == before
    frame = pl.DataFrame({"user_id": [1, 1, 2], "item_id": [5, 6, 5]})
    other = write_dataset(folder.parent / "other", frame, name="other").folder
    for path in other.iterdir():
        path.rename(folder / path.name)  # the old columns are still there
    assert load_dataset(folder, mapped=True).items.tolist() == [0, 1, 0]
    assert load_dataset(folder, mapped=True).timestamps is None


def test_cut_columns_are_made_again_and_changed_ones_are_found_when_asked(folder):
    expected = load_dataset(folder, mapped=True).items.tolist()
    column = folder / MAPPED / "items.i32"
    column.write_bytes(column.read_bytes()[:-4])
    assert load_dataset(folder, mapped=True).items.tolist() == expected
    changed = bytearray(column.read_bytes())
    changed[0] ^= 1
    column.write_bytes(changed)
    with pytest.raises(ChecksumError, match=r"items\.i32 is not what was written .*; delete"):
        load_dataset(folder, mapped=True, verify=True)


def test_columns_are_not_made_of_a_table_the_manifest_does_not_know(folder):
    data = bytearray((folder / INTERACTIONS).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / INTERACTIONS).write_bytes(data)
    with pytest.raises(ChecksumError, match=r"interactions\.parquet is not what was written"):
        load_dataset(folder, mapped=True)
    assert not (folder / MAPPED).exists()


def test_where_columns_cannot_be_written_the_error_says_what_to_do(folder):
    (folder / MAPPED).write_text("in the way")
    with pytest.raises(DataError, match=r"mapped cannot be written .* or leave `mapped` out"):
        load_dataset(folder, mapped=True)


def test_what_was_read_does_not_stay_in_memory(folder):
    smaps = Path("/proc/self/smaps")
    if not smaps.is_file():
        pytest.skip("only Linux tells how much of a mapping is in memory")

    def resident(path):
        lines = smaps.read_text().splitlines()
        start = next(n for n, line in enumerate(lines) if line.endswith(str(path)))
        return next(int(line.split()[1]) for line in lines[start:] if line.startswith("Rss:"))

    data = load_dataset(folder, mapped=True)
    column = folder / MAPPED / "timestamps.i64"
    data.timestamps.sum()
    assert resident(column) > 0
    data.timestamps_at(np.arange(len(data.items)))
    assert resident(column) == 0
