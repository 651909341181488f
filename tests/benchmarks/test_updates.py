"""The benchmark of updates: weeks, what is held out, and the figures that it keeps."""

import numpy as np
import polars as pl
import pytest

from benchmarks import updates
from benchmarks.updates_results import keep
from recsys.reports.results.record import read_results


def rows():
    """Forty users a week for four weeks, twenty of them new; items 5 a week more."""
    rng = np.random.default_rng(0)
    parts = []
    for week in range(4):
        users = np.repeat(np.arange(20 * week, 20 * week + 40), 5)
        items = rng.integers(0, 20 + 5 * week, len(users))
        times = week * updates.WEEK + np.tile(np.arange(5), 40) * 1000
        parts.append(pl.DataFrame({"user_id": users, "item_id": items, "timestamp": times}))
    joined = pl.concat(parts)
    return joined.with_columns(week=pl.col("timestamp") // updates.WEEK)


def test_the_week_after_is_held_out_of_what_is_known_by_then(tmp_path):
    weeks = updates.Weeks(rows(), tmp_path)
    known = weeks.data(1)
    dataset, split, told = weeks.next_week(1)
    assert dataset.num_items == known.num_items and dataset.num_users == known.num_users
    assert (split.train_end - split.start == np.diff(known.offsets)).all()
    held = dataset.timestamps[
        np.concatenate([np.arange(a, b) for a, b in zip(split.valid_end, split.end, strict=True)])
    ]
    assert (held >= 2 * updates.WEEK).all() and len(held) == told["of known users and items"]
    # Of forty users twenty are known, and few of their rows name an item that came that week.
    assert told["rows of the week"] == 200 and 60 < len(held) <= 100


def test_the_benchmark_keeps_shares_of_training_anew(tmp_path, monkeypatch):
    small = {**updates.CONFIG, "trainer": {"epochs": 2}}
    small["model"] = {"granularities": {"sizes": [4, 8]}, "history_length": 8}
    monkeypatch.setattr(updates, "CONFIG", small)
    monkeypatch.setattr("sys.argv", ["updates", "rows.csv"])
    found = updates.measure(updates.Weeks(rows(), tmp_path), 1, 1, [])
    assert [row["moved ids"] for row in found["weeks"]] == [0, 0, 0]
    anew, updated, _ = found["weeks"]
    # Forty users have been there for one week (four targets), forty for two (the last eight).
    assert anew["targets"] == 2 * (40 * 4 + 40 * 8)
    # Those of the last week train, and three tenths of the epoch are replayed.
    assert updated["targets"] == 2 * int((20 * 4 + 20 * 8) / 0.7)
    keep(tmp_path / "updates.json", found)
    kept = read_results(tmp_path / "updates.json")
    share = kept.find("updated", 8, "targets, of anew")
    assert share.value == pytest.approx(updated["targets"] / anew["targets"])
    pair = kept.find("new users x old items, shared items", 4, "of new x new")
    assert pair.value == pytest.approx(1.0)
