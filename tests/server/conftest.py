"""One small bundle with titles, and applications that serve it."""

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient

import recsys
from recsys.data.features.manifest import FeatureOrigin
from recsys.data.features.writing import write_categories, write_vectors
from recsys.server.answering.answers import Answering
from recsys.server.answering.served import Served
from recsys.server.answering.stock import Stock
from recsys.server.app import make_app
from recsys.server.settings import Limits, ServerSettings

SMALL = ["model.granularities.sizes=[4, 8]", "model.history_length=6", "threads=1"]
GENRES = ["Drama", "Comedy|Drama", "Comedy", "War"]


def ratings():
    """60 users who walk along 30 items in a ring; film 7 is the most popular by far."""
    rows = [(f"u{u}", f"film {(u * 3 + s) % 30}", s) for u in range(60) for s in range(7)]
    rows += [(f"late{u}", "film 7", 0) for u in range(40)]
    return pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    content = pl.DataFrame({"item": [f"film {i}" for i in range(30)]}).with_columns(
        title="The " + pl.col("item"), genres=pl.Series([GENRES[i % 4] for i in range(30)])
    )
    data = recsys.Dataset.from_frame(
        ratings(), user="user", item="item", time="time", items=content
    )
    return recsys.fit(data, "sasrec", SMALL, epochs=2).save(tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="session")
def shelf(run, tmp_path_factory):
    """A bundle; read-only."""
    out = tmp_path_factory.mktemp("shelf") / "bundle"
    tiers = "0:4:fp32:ram,4:8:fp32:mmap"
    recsys.export(run, out, tiers=tiers, columns=("title", "genres"), stages="4:20,8")
    return out


def around(films):
    """The place of each film on the ring, as a vector."""
    angle = 2 * np.pi * np.asarray(films) / 30
    return np.stack([np.cos(angle), np.sin(angle), np.cos(2 * angle)], axis=1).astype(np.float32)


@pytest.fixture(scope="session")
def content_shelf(tmp_path_factory):
    """A bundle with an item tower, of films 0..29 with features `place` and `genres`; read-only."""
    room = tmp_path_factory.mktemp("content")
    told = pl.DataFrame({"item": [f"film {i}" for i in range(30)]}).with_columns(
        title="The " + pl.col("item"), genres=pl.Series([GENRES[i % 4] for i in range(30)])
    )
    options = {"user": "user", "item": "item", "time": "time", "items": told}
    data = recsys.Dataset.from_frame(ratings(), out=room / "data", **options)
    films = data.item_frame()["item_id"].str.strip_prefix("film ").cast(int).to_numpy()
    origin = FeatureOrigin(source="made by hand")
    write_vectors(data.folder, "place", around(films), np.ones(30, bool), origin)
    names = ["Comedy", "Drama", "War"]
    words = [[names.index(word) for word in GENRES[film % 4].split("|")] for film in films]
    edges = np.cumsum([0, *map(len, words)])
    write_categories(
        data.folder, "genres", np.concatenate(words).astype(np.int32), edges, names, origin
    )
    changes = [*SMALL, "model.items.features=[place,genres]"]
    run = recsys.fit(data, "sasrec", changes, epochs=2).save(room / "run")
    recsys.export(
        run, room / "bundle", tiers="0:4:int8:ram,4:8:fp16:mmap", columns=("title", "genres"),
        stages="4:20,8",
    )  # fmt: skip
    return room / "bundle"


@pytest.fixture(scope="session")
def model(shelf):
    return recsys.load(shelf)


@pytest.fixture(scope="session")
def answering(shelf):
    served = Served(shelf, verify=True, threads=1, shared=False)
    return Answering(Stock(served), Limits(), lambda *_: None)


@pytest.fixture
def serving(shelf):
    """`serving(key=value)`: a client of an application that is started and stopped."""
    opened = []

    def start(place=shelf, **told):
        app = make_app(ServerSettings(bundle=place, threads=1, logs=False, **told))
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        opened.append(client)
        return client

    yield start
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture(scope="session")
def client(shelf):
    app = make_app(ServerSettings(bundle=shelf, threads=1, logs=False))
    with TestClient(app, raise_server_exceptions=False) as opened:
        yield opened
