"""A small shop whose next item follows from the last one, which a short training hardly learns; and
networks, fitted once for all tests."""

import numpy as np
import polars as pl
import pytest

import recsys
from recsys.config import parse
from recsys.data.features.manifest import FeatureOrigin
from recsys.data.features.writing import write_categories, write_numbers, write_vectors
from recsys.rankers.registry import RANKERS
from recsys.recipes.ranking.config import CandidatesConfig
from recsys.recipes.ranking.source import open_ranking
from recsys.runs.loading import LoadedRun
from tests.rankers.made import SCHEMA, made

NUM_ITEMS, NUM_USERS, LENGTH = 90, 260, 9
SMALL = [
    "model.granularities.sizes=[4, 8]",
    "model.history_length=8",
    "model.init=normal",
    "loss.negatives.uniform=64",
    "threads=1",
]


def walks():
    """Users who go two items further, now and then anywhere; one interaction an hour."""
    rng = np.random.default_rng(0)
    item, rows = rng.integers(0, NUM_ITEMS, NUM_USERS), []
    for step in range(LENGTH):
        jump = rng.random(NUM_USERS) < 0.15
        item = np.where(jump, rng.integers(0, NUM_ITEMS, NUM_USERS), (item + 2) % NUM_ITEMS)
        rows += [(f"u{u}", f"i{i}", 3600 * (step * 5 + u % 5)) for u, i in enumerate(item)]
    return pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("ranking")


@pytest.fixture(scope="session")
def data(place):
    people = pl.DataFrame({"user": [f"u{u}" for u in range(NUM_USERS)]}).with_columns(
        age=pl.Series([20 + u % 40 if u % 7 else None for u in range(NUM_USERS)]),
        town=pl.Series(["north", "south", None][u % 3] for u in range(NUM_USERS)),
    )
    made = recsys.Dataset.from_frame(
        walks(), user="user", item="item", time="time", users=people, out=place / "data"
    )
    here, n = made.folder, made.num_items
    origin = FeatureOrigin(source="a test")
    names = made.item_frame()["item_id"].str.slice(1).cast(pl.Int32).to_numpy()
    write_numbers(here, "year", names.astype(float), names % 10 > 0, origin)
    offsets = np.concatenate([[0], np.cumsum(names % 10 > 0)])
    write_categories(
        here, "kind", (names % 2)[names % 10 > 0].astype(np.int32), offsets, ["even", "odd"], origin
    )
    tags = [[t for t in range(4) if name >> t & 1] for name in names]
    edges = np.cumsum([0, *map(len, tags)])
    write_categories(
        here, "tags", np.concatenate(tags).astype(np.int32), edges, list("abcd"), origin
    )
    angles = names / NUM_ITEMS * 2 * np.pi
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    write_vectors(here, "ring", vectors, np.ones(n, bool), origin)
    return recsys.Dataset and made


@pytest.fixture(scope="session")
def run(data, place):
    """Hardly trained."""
    return recsys.fit(data, "sasrec", SMALL, epochs=2).save(place / "runs" / "shop")


@pytest.fixture(scope="session")
def loaded(run):
    return LoadedRun(run)


@pytest.fixture(scope="session")
def source(loaded):
    return open_ranking(loaded, CandidatesConfig(keep=30))


COLUMNS = {
    "item_numbers": ["year"],
    "item_categories": ["kind"],
    "item_vectors": ["ring"],
    "user_numbers": ["age"],
    "user_categories": ["town"],
    "context": ["hour", "weekday"],
    "windows": [0.5],
}
TREES = [
    "candidates.keep=30",
    "ranker.num_trees=40",
    "ranker.least_rows=5",
    "ranker.learning_rate=0.1",
    "ranker.threads=1",
    "rows.folds=3",
]


@pytest.fixture(scope="session")
def fit(run):
    """A ranker of the run, with all columns."""
    words = [f"features.{key}={value}" for key, value in COLUMNS.items()]
    return recsys.rank_fit(run, None, [*TREES, *words])


@pytest.fixture(scope="session")
def shelf(run, place):
    recsys.export(run, place / "bundle", tiers="0:4:fp32:ram,4:8:fp32:mmap")
    return place / "bundle"


@pytest.fixture(scope="session")
def ranked(shelf, run):
    """The bundle with a ranker of its own candidates, found by 4 coordinates."""
    words = [*TREES, "candidates.stages=4:30,8", "features.user_categories=[town]"]
    return recsys.rank_fit(shelf, None, words, run=run)


NEURAL = ("autoint", "dcn_v2", "din", "dlrm", "finalmlp", "wukong")
NESTED = ("din", "wukong")
"""Those that are kept at two widths: an export takes seconds."""
OWN = {
    "autoint": {"attention_dim": 16, "layers": 1, "hidden": [16]},
    "dcn_v2": {"hidden": [16], "rank": 4, "experts": 2},
    "din": {"hidden": [16], "attention_hidden": [8]},
    "dlrm": {"hidden": [16], "bottom": [8]},
    "finalmlp": {"first": [16], "second": [16], "gate_first": ["taste"], "gate_hidden": [8]},
    "wukong": {"hidden": [16], "machine_hidden": [16], "layers": 2, "rank": 4},
}


def config_of(name, **sections):
    """A small config of that ranker."""
    training = {"loss": "pointwise", "epochs": 8, "batch_rows": 256, "learning_rate": 0.02}
    tree = {
        "name": name,
        "norm": True,
        "inputs": {"embedding_dim": 8, "init_std": 0.1, **sections.pop("inputs", {})},
        "training": training | sections.pop("training", {}),
        "widths": {"shares": [1.0]},
        **OWN[name],
        **sections,
    }
    return parse(RANKERS.find(name), tree, "a test")


class Fitted:
    """Rankers by name, each fitted when it is first asked for."""

    def __init__(self):
        self.train, self.validation, self.test = made(700, 0), made(100, 1), made(150, 2)
        self._kept = {}

    def __getitem__(self, name):
        if name not in self._kept:
            widths = {"shares": [0.5, 1.0] if name in NESTED else [1.0]}
            config = config_of(name, widths=widths)
            self._kept[name] = config.fit(SCHEMA, self.train, self.validation, 0)
        return self._kept[name]


@pytest.fixture(scope="session")
def fitted():
    return Fitted()
