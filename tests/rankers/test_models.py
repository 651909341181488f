"""Trees and the logistic ranker: they learn, keep, and refuse what is not theirs."""

import numpy as np
import pytest

from recsys.errors import DataError
from recsys.rankers.examples import Examples, Field, Schema, take
from recsys.rankers.registry import RANKERS

SCHEMA = Schema(("good", "noise", "gone"), (Field("kind", 4),))
SMALL = {"lightgbm": {"num_trees": 60, "least_rows": 5, "learning_rate": 0.1, "threads": 1}}
WAYS = [
    ("lightgbm", "lambdarank"),
    ("lightgbm", "listwise"),
    ("lightgbm", "pointwise"),
    ("logistic", "pointwise"),
    ("logistic", "listwise"),
]


def world(num_requests, seed):
    """Requests of ten rows; the target has the largest `good`, and kind 3 is worth two of it."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(num_requests, 10, 3)).astype(np.float32)
    numbers[rng.random((num_requests, 10)) < 0.3, 2] = np.nan
    fields = rng.integers(0, 4, (num_requests, 10, 1)).astype(np.int32)
    worth = numbers[..., 0] + 2.0 * (fields[..., 0] == 3)
    labels = np.zeros((num_requests, 10), np.float32)
    labels[np.arange(num_requests), worth.argmax(axis=1)] = 1
    return Examples(
        numbers.reshape(-1, 3),
        fields.reshape(-1, 1),
        np.arange(num_requests + 1) * 10,
        labels=labels.ravel(),
    )


def hits(ranker, rows):
    """Share of requests whose target comes first."""
    scores = ranker.scores(rows).reshape(-1, 10)
    return (scores.argmax(axis=1) == rows.labels.reshape(-1, 10).argmax(axis=1)).mean()


@pytest.fixture(scope="module")
def parts():
    return world(300, 0), world(100, 1), world(200, 2)


@pytest.mark.parametrize(("name", "objective"), WAYS)
def test_a_ranker_learns_what_is_there_and_is_kept(name, objective, parts, tmp_path):
    train, valid, test = parts
    config = RANKERS.find(name)(objective=objective, **SMALL.get(name, {}))
    ranker = config.fit(SCHEMA, train, valid, 0)
    assert hits(ranker, test) > 0.7
    ranker.save(tmp_path)
    again = RANKERS.find(name).load(tmp_path, SCHEMA)
    np.testing.assert_array_equal(again.scores(test), ranker.scores(test))
    alone = np.concatenate([again.scores(take(test, np.array([q]))) for q in range(5)])
    np.testing.assert_allclose(alone, ranker.scores(test)[:50], rtol=1e-5, atol=1e-6)
    assert again.multiply_adds() == ranker.multiply_adds() > 2
    with pytest.raises(DataError, match="other features"):
        RANKERS.find(name).load(tmp_path, Schema(("good",), SCHEMA.fields))
    for file in tmp_path.iterdir():
        file.write_bytes(b"\x80\x04nothing")
    with pytest.raises(DataError, match="fit"):
        RANKERS.find(name).load(tmp_path, SCHEMA)


def test_the_weight_of_a_row_counts(parts):
    """Rows without weight teach nothing: all positives of kind 3 are without."""
    train, valid, _ = parts
    weights = np.where((train.labels > 0) & (train.fields[:, 0] == 3), 0, 1).astype(np.float32)
    config = RANKERS.find("logistic")()
    plain = config.fit(SCHEMA, train, valid, 0).weights
    blind = config.fit(SCHEMA, Examples(**vars(train) | {"weights": weights}), valid, 0).weights
    kinds = slice(-1 - 4, -1)
    assert plain[kinds].argmax() == 3 and blind[kinds].argmax() != 3


def test_a_seed_gives_the_same_trees(parts):
    train, valid, test = parts
    config = RANKERS.find("lightgbm")(**SMALL["lightgbm"])
    one, two, three = (config.fit(SCHEMA, train, valid, seed).scores(test) for seed in (0, 0, 1))
    assert (one == two).all() and (one != three).any()
