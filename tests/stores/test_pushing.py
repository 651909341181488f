"""A push goes on where it was, moves the alias last, and refuses what cannot be."""

import json
import sys

import pytest

import recsys
from recsys.errors import BusyError, ConfigError, GranularityError, InstallationError, StoreError
from recsys.retrieval.bundle.loading import load_bundle
from recsys.stores.plan import make_plan
from recsys.stores.store import STORES, open_store
from tests.command import call
from tests.stores.bundles import NUM_ITEMS, params, write

KEPT = [each for each in params() if each.values != ("qdrant",)]
"""Stores that outlive a process; qdrant is tested in memory."""


def versions_of(target):
    store = open_store(target, "items")
    found = store.versions(), store.current()
    store.close()
    return found


@pytest.mark.parametrize("store", KEPT)
def test_versions_stand_side_by_side_and_a_second_push_writes_nothing(store, tmp_path, target):
    where = target(store)
    one, two = (write(tmp_path / f"bundle {seed}", seed) for seed in (1, 2))
    first, again = recsys.push(one, where), recsys.push(one, where)
    assert (first.written, again.written) == (NUM_ITEMS, 0) and first.version == again.version
    second = recsys.push(two, where)
    assert second.version.startswith("items_v2_")
    assert versions_of(where) == ([first.version, second.version], second.version)
    back = recsys.push(one, where)  # the alias goes back; nothing is written
    assert back.written == 0 and versions_of(where)[1] == first.version
    third = recsys.push(write(tmp_path / "bundle 3", 3), where, keep=1, check=5)
    assert third.dropped == (first.version, second.version)
    assert versions_of(where) == ([third.version], third.version)


@pytest.mark.parametrize("store", KEPT)
def test_a_push_that_failed_goes_on_behind_what_was_acknowledged(
    store, bundle, target, monkeypatch
):
    where, kind = target(store), STORES.find(store)
    add, done = kind.add, []

    def failing(self, version, rows):
        if done:
            raise ConnectionError("the line is down")
        add(self, version, rows)
        done.append(len(rows.items))

    monkeypatch.setattr(kind, "add", failing)
    with pytest.raises(ConnectionError):
        recsys.push(bundle, where)
    monkeypatch.setattr(kind, "add", add)
    assert versions_of(where)[1] is None
    resumed = recsys.push(bundle, where, check=30)
    assert resumed.written == NUM_ITEMS - 1000 and resumed.checked.identical == 30


@pytest.mark.parametrize("store", KEPT)
def test_the_alias_stays_where_lists_do_not_agree(store, bundle, tmp_path, target, monkeypatch):
    where, kind = target(store), STORES.find(store)
    first = recsys.push(bundle, where)
    search = kind.search

    def swapped(self, version, query, k):
        hits = search(self, version, query, k)
        return [(hits[1][0], hits[0][1]), (hits[0][0], hits[1][1]), *hits[2:]]

    monkeypatch.setattr(kind, "search", swapped)
    second = recsys.push(write(tmp_path / "bundle", 5), where, check=30)
    assert not second.switched and second.checked.agreeing == 0
    assert second.checked.wrong_scores >= 50 and second.checked.found == 1.0
    assert versions_of(where)[1] == first.version


def test_rows_of_somebody_else_are_told(bundle, target, monkeypatch):
    where, kind = target("duckdb"), STORES.find("duckdb")
    finish = kind.finish
    monkeypatch.setattr(kind, "finish", lambda self, version: finish(self, version) - 1)
    with pytest.raises(StoreError, match="holds 2,499 rows where 2,500 were pushed"):
        recsys.push(bundle, where)
    assert versions_of(where)[1] is None


def test_a_second_push_to_the_same_folder_waits_for_nothing(bundle, target):
    where = target("faiss")
    store = open_store(where, "items")
    with pytest.raises(BusyError, match="written by another push"):
        recsys.push(bundle, where)
    store.close()


@pytest.mark.parametrize("store", params("pgvector"))
def test_grants_on_the_view_stay_and_another_length_makes_a_new_view(store, tmp_path, target):
    import psycopg

    where = target(store)
    first, second = (write(tmp_path / f"b{seed}", seed) for seed in (1, 2))
    recsys.push(first, where)
    with psycopg.connect(where.partition(":")[2], autocommit=True) as connection:
        connection.execute("GRANT SELECT ON items TO public")
        recsys.push(second, where)
        told = connection.execute("SELECT relacl FROM pg_class WHERE relname = 'items'").fetchone()
        assert "=r/" in str(told[0])
        recsys.push(second, where, stages="8:50,32")
        text = "SELECT vector_dims(prefix) FROM items LIMIT 1"
        assert connection.execute(text).fetchone() == (8,)
        with pytest.raises(BusyError):
            store = open_store(where, "items")
            try:
                open_store(where, "items")
            finally:
                store.close()


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("items.db", r"not of the form STORE:LOCATION"),
        ("oracle:x", r"no store named 'oracle'; known: qdrant, pgvector"),
        ("milvus:x", r"name it FILE.db"),
    ],
)
def test_a_target_that_is_none_is_refused(target, told, bundle):
    with pytest.raises(ConfigError, match=told):
        recsys.push(bundle, target)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"name": "My Items"}, ConfigError, "name 'My Items' does not fit"),
        ({"stages": "32"}, ConfigError, "two stages"),
        ({"stages": "16:100,20"}, GranularityError, "granularity 20 is not among"),
        ({"index": "ivf"}, ConfigError, "'ivf' is not among"),
        ({"check": -1}, ConfigError, "check is -1"),
        ({"keep": -2}, ConfigError, "keep is -2"),
        ({"stages": "16:5,32", "check": 3}, recsys.errors.DataError, "lists of 10"),
    ],
)
def test_options_that_cannot_be_are_refused(options, error, told, bundle, tmp_path):
    with pytest.raises(error, match=told):
        recsys.push(bundle, f"faiss:{tmp_path / 'store'}", **options)


@pytest.mark.parametrize(
    ("store", "module", "extra"),
    [
        ("qdrant", "qdrant_client", "qdrant"),
        ("pgvector", "psycopg", "pgvector"),
        ("milvus", "pymilvus", "milvus"),
        ("lancedb", "lancedb", "lancedb"),
        ("duckdb", "duckdb", "duckdb"),
        ("sqlite-vec", "apsw", "sqlitevec"),
        ("usearch", "usearch.index", "usearch"),
    ],
)
def test_a_missing_client_is_told_with_the_line_that_installs_it(
    store, module, extra, monkeypatch, tmp_path
):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    with pytest.raises(InstallationError, match=rf"pip install 'recsys\[{extra}\]'"):
        open_store(f"{store}:{tmp_path / 'x.db'}", "items")


def test_a_server_that_is_not_there_is_told_without_its_password():
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError, match=r"postgresql://me:\*\*\*@127.0.0.1:1/x answers") as error:
        open_store("pgvector:postgresql://me:secret@127.0.0.1:1/x", "items")
    assert "secret" not in str(error.value)


def test_an_export_states_what_its_scores_are(cosine_bundle, tmp_path):
    done = recsys.push(cosine_bundle, f"faiss:{tmp_path}")
    card = json.loads((tmp_path / "items" / "about.json").read_text())
    assert card["bundle_metric"] == "cosine" and card["vectors_divided_by_their_own_norms"]
    assert (card["prefix"], card["candidates"], card["full"]) == (16, 200, 32)
    assert card["largest_norms"] == pytest.approx([1, 1], abs=1e-3)
    assert (tmp_path / "items").readlink().name == done.version


def test_the_plan_takes_the_stages_of_the_bundle(cosine_bundle, bundle):
    opened = load_bundle(bundle)
    assert make_plan(opened).digest != make_plan(opened, index="hnsw").digest
    assert make_plan(opened).digest != make_plan(load_bundle(cosine_bundle)).digest
    assert make_plan(opened).digest == make_plan(opened, "16:200,32").digest


def test_the_verb_prints_what_was_found(bundle, tmp_path):
    told = call("push", bundle, f"faiss:{tmp_path / 'store'}", "--check", 20)
    assert "2,500 items, 2,500 of them written now" in told
    assert "lists of 10 for 20 users: 20 identical to the funnel's" in told
    assert "items leads to items_v1_" in told
    feed = tmp_path / "feed"
    assert f"error: vespa:{feed} is written as files" in call(
        "push", bundle, f"vespa:{feed}", "--check", 5, code=1
    )
    assert not feed.exists()
