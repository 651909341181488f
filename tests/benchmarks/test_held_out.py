"""`benchmarks.held_out`: whether held-out items of a user are like his other ones."""

import numpy as np
import polars as pl
import pytest

from benchmarks.held_out import figures_of, likeness
from data_prep import PrepareOptions, prepare
from recsys.data.dataset import Dataset
from recsys.errors import DataError

USERS, ITEMS, TASTES = 60, 80, 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Users of one taste above all; validation items are of that taste, test items of another."""
    random = np.random.default_rng(0)
    rows = []
    for user in range(USERS):
        each = ITEMS // TASTES
        main, side = random.choice(TASTES, 2, replace=False)
        first = (main * each + random.permutation(each)).tolist()
        second = (side * each + random.permutation(each)).tolist()
        rows += [(user, item, "train") for item in first[:9] + second[:2]]
        rows += [(user, item, "valid") for item in first[9:11]]
        rows += [(user, item, "test") for item in second[2:5]]
    folder = tmp_path_factory.mktemp("held")
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "part"], orient="row")
    frame.write_csv(folder / "rows.csv")
    options = PrepareOptions(part_column="part")
    return prepare("csv", options, source=folder / "rows.csv", out=folder / "data")


def by_pairs(data, part):
    """Pair by pair."""
    rows = pl.read_parquet(data.folder / "interactions.parquet")
    code = {"train": 0, "valid": 1, "test": 2}
    of = {
        name: [
            rows.filter((pl.col("user_index") == u) & (pl.col("part") == c))["item_index"].to_list()
            for u in range(USERS)
        ]
        for name, c in code.items()
    }
    who = [{u for u in range(USERS) if item in of["train"][u]} for item in range(data.num_items)]

    def cosine(a, b):
        return len(who[a] & who[b]) / np.sqrt(len(who[a]) * len(who[b]))

    together, others = [], []
    for held, had in zip(of[part], of["train"], strict=True):
        if len(held) > 1 and had:
            pairs = [cosine(a, b) for a in held for b in held if a != b]
            together.append(np.mean(pairs))
            others.append(np.mean([cosine(a, b) for a in held for b in had]))
    return np.mean(together), np.mean(others)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_likeness_is_the_mean_over_pairs(data, part):
    found = likeness(data, "tastes", part)
    assert (found.together, found.others) == pytest.approx(by_pairs(data, part))


def test_a_test_part_that_is_unlike_the_rest_is_told_apart(data):
    valid, test = (likeness(data, "tastes", part) for part in ("valid", "test"))
    assert test.together / test.others > 1.5 > valid.together / valid.others
    assert [one.value for one in figures_of([test])] == pytest.approx(
        [test.together, test.others, test.together / test.others]
    )


def test_one_held_out_item_of_a_user_cannot_be_compared():
    rows = [(f"u{u}", f"i{(u + s) % 9}") for u in range(9) for s in range(5)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    with pytest.raises(DataError, match="two items of the test part"):
        likeness(Dataset.from_frame(frame, order="given"), "ring", "test")
