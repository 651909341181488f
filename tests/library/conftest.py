"""One small data set, and every kind of recommender fitted on it."""

import numpy as np
import polars as pl
import pytest

import recsys

SIZES = "model.granularities.sizes=[4, 8]"


def walks():
    """80 users who walk along 25 items in a ring; ids are text."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(80), 9)
    items = (np.repeat(rng.integers(0, 25, 80), 9) + np.tile(np.arange(9), 80)) % 25
    times = np.tile(np.arange(9), 80) * 100 + rng.integers(0, 50, len(users))
    return pl.DataFrame(
        {"user": [f"u{x}" for x in users], "item": [f"i{x}" for x in items], "time": times}
    )


@pytest.fixture(scope="session")
def data():
    return recsys.Dataset.from_frame(walks(), user="user", item="item", time="time")


@pytest.fixture(scope="session")
def fitted(data):
    """`fitted(name)`: a recommender of that name, fitted once."""
    made = {}

    def of(name):
        if name not in made:
            small = {"sasrec", "fmrlrec", "two_tower"}
            overrides = [SIZES, "threads=1"] if name in small else []
            if name == "fmrlrec":
                overrides += ["model.features=[]", "model.ids=true"]
            if name == "repeats":
                overrides = [SIZES, "threads=1", "model.repeat_bias=true", "protocol=fmrlrec"]
            if name in ("als", "bpr"):
                overrides = ["granularities.sizes=[4, 8]", "iterations=3"]
            model = "sasrec" if name == "repeats" else name
            epochs = 1 if name in small or name == "repeats" else None
            made[name] = recsys.fit(data, model, overrides, epochs=epochs)
        return made[name]

    return of


@pytest.fixture(scope="session")
def bundle(fitted, tmp_path_factory):
    place = tmp_path_factory.mktemp("bundle")
    run = fitted("sasrec").save(place / "run")
    recsys.export(run, place / "out", tiers="0:4:fp32:ram,4:8:fp32:mmap")
    return recsys.load(place / "out")
