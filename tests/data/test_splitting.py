import math
import tempfile
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data import splitting
from recsys.data.dataset import SplitRule, write_dataset
from recsys.data.splitting import make_split
from recsys.errors import DataError, ProtocolError

histories = st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=8), min_size=1, max_size=12)


def dataset_of(times, folder):
    rows = [(user, time) for user, row in enumerate(times) for time in row]
    frame = pl.DataFrame(
        {
            "user_id": [user for user, _ in rows],
            "item_id": list(range(len(rows))),
            "timestamp": [time for _, time in rows],
        }
    )
    return write_dataset(
        Path(folder) / "data", frame, name="times", order="given", time_format="number"
    )


def parts(dataset, split):
    """Per user the items of training, validation and test."""
    bounds = zip(split.start, split.train_end, split.valid_end, split.end, strict=True)
    items = dataset.items.tolist()
    return [(items[a:b], items[b:c], items[c:d]) for a, b, c, d in bounds]


def histories_of(dataset):
    items, cuts = dataset.items.tolist(), dataset.offsets.tolist()
    return [items[a:b] for a, b in pairwise(cuts)]


@settings(max_examples=40, deadline=None)
@given(histories)
def test_leave_last_out_is_what_a_loop_over_users_gives(times):
    with tempfile.TemporaryDirectory() as folder:
        dataset = dataset_of(times, folder)
    expected = [
        (row[:-2], row[-2:-1], row[-1:]) if len(row) >= 3 else (row, [], [])
        for row in histories_of(dataset)
    ]
    assert parts(dataset, make_split(dataset)) == expected


@settings(max_examples=40, deadline=None)
@given(histories, st.sampled_from([(0.5, 0.7), (0.8, 0.9), (0.1, 0.99)]))
def test_global_time_is_what_a_loop_over_users_gives(times, quantiles):
    times = [sorted(row) for row in times]
    with tempfile.TemporaryDirectory() as folder:
        dataset = dataset_of(times, folder)
    everything = sorted(time for row in times for time in row)
    first, second = (everything[math.floor(q * (len(everything) - 1))] for q in quantiles)
    expected = []
    for row, when in zip(histories_of(dataset), times, strict=True):
        train = [item for item, time in zip(row, when, strict=True) if time <= first]
        known = [item for item, time in zip(row, when, strict=True) if time <= second]
        expected.append((train, known[len(train) :], row[len(known) :]))
    rule = SplitRule(name="global-time", valid_quantile=quantiles[0], test_quantile=quantiles[1])
    assert parts(dataset, make_split(dataset, rule)) == expected


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.integers(-(2**63), 2**63 - 1) | st.integers(-99, 99) | st.integers(0, 2**18),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from([0.01, 0.5, 0.8, 0.9, 0.99]),
)
def test_a_quantile_of_time_is_found_without_ordering_all_times(times, quantile):
    times = sorted(times)
    with tempfile.TemporaryDirectory() as folder:
        dataset = dataset_of([times], folder)
    last = times[math.floor(quantile * (len(times) - 1))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "_BLOCK", 7)
        rule = SplitRule(name="global-time", valid_quantile=quantile, test_quantile=0.999)
        split = make_split(dataset, rule)
    assert split.train_end.tolist() == [sum(time <= last for time in times)]


def test_a_history_that_goes_back_in_time_is_refused_by_global_time(tmp_path):
    dataset = dataset_of([[1, 2], [5, 9, 7], [0]], tmp_path)
    with pytest.raises(DataError, match="user_index 1 goes back in time at row 4"):
        make_split(dataset, SplitRule(name="global-time"))


def test_global_time_needs_times(tmp_path):
    frame = pl.DataFrame({"user_id": [1], "item_id": [1]})
    dataset = write_dataset(tmp_path / "d", frame, name="untimed")
    with pytest.raises(DataError, match="untimed has no timestamps"):
        make_split(dataset, SplitRule(name="global-time"))


def test_quantiles_must_ascend(tmp_path):
    rule = SplitRule(name="global-time", valid_quantile=0.9, test_quantile=0.9)
    with pytest.raises(DataError, match="must be below"):
        make_split(dataset_of([[1, 2]], tmp_path), rule)


def test_test_targets_stand_behind_the_validation_items(tmp_path):
    dataset = dataset_of([[1, 2, 3, 4]], tmp_path)
    split = make_split(dataset)
    assert [bound.tolist() for bound in split.targets("test")] == [[3], [4]]
    assert [bound.tolist() for bound in split.targets("valid")] == [[2], [3]]
    assert split.fit_end("train").tolist() == [2]
    assert split.fit_end("train+valid").tolist() == [3]


def test_unknown_parts_are_refused(tmp_path):
    split = make_split(dataset_of([[1, 2, 3]], tmp_path))
    with pytest.raises(ProtocolError, match="not among"):
        split.targets("train")
    with pytest.raises(ProtocolError, match="not among"):
        split.fit_end("test")
