"""Examples whose best order is known: a row is a target where two of its fields agree."""

import json
from typing import Literal

import numpy as np

from recsys.rankers.base import RankerConfig
from recsys.rankers.examples import Examples, Field, Schema

SCHEMA = Schema(
    numbers=("score", "age"),
    fields=(
        Field("taste", 6),
        Field("kind", 6),
        Field("tag_1", 9, "tags"),
        Field("tag_2", 9, "tags"),
    ),
    num_items=30,
)


def made(num_requests, seed, rows=6):
    """Requests of `rows` rows each; the label is drawn by a logit of the fields and a number."""
    rng = np.random.default_rng(seed)
    count = num_requests * rows
    fields = rng.integers(1, 6, (count, 4)).astype(np.int32)
    fields[:, 2:] += 3
    fields[rng.random(count) < 0.3, 3] = 0
    items = (fields[:, 1] * 5 + rng.integers(0, 5, count)).astype(np.int32)
    numbers = rng.normal(size=(count, 2)).astype(np.float32) * [1, 30]
    logits = 6.0 * (fields[:, 0] == fields[:, 1]) - 3.0 + numbers[:, 0]
    numbers[rng.random(count) < 0.2, 1] = np.nan
    labels = (rng.random(count) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    lengths = rng.integers(0, 4, num_requests)
    return Examples(
        numbers=numbers.astype(np.float32),
        fields=fields,
        offsets=np.arange(num_requests + 1) * rows,
        items=items,
        history_items=rng.integers(0, 30, lengths.sum()).astype(np.int32),
        history_offsets=np.concatenate([[0], np.cumsum(lengths)]),
        labels=labels,
    )


class AgreeConfig(RankerConfig):
    """A ranker that knows by how much agreeing fields raise the logit; fitting counts."""

    name: Literal["tests.rankers.made:AgreeConfig"] = "tests.rankers.made:AgreeConfig"
    shift: float = 0.0
    """Added to all scores, so that they are no logits."""

    def fit(self, schema, train, validation, seed):
        agree = train.fields[:, 0] == train.fields[:, 1]
        shares = [train.labels[agree == which].mean() for which in (False, True)]
        return Agree(schema, [float(np.log(p / (1 - p))) + self.shift for p in shares])

    @classmethod
    def load(cls, folder, schema):
        return Agree(schema, json.loads((folder / "agree.json").read_text()))


class Agree:
    def __init__(self, schema, logits):
        self.schema, self.logits = schema, logits

    def scores(self, examples):
        agree = examples.fields[:, 0] == examples.fields[:, 1]
        return np.asarray(self.logits, np.float32)[agree.astype(int)]

    def multiply_adds(self):
        return 1.0

    def save(self, folder):
        (folder / "agree.json").write_text(json.dumps(self.logits))
