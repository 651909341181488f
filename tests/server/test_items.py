"""Items that are put and deleted while the server runs."""

import shutil

import numpy as np
import polars as pl
import pytest

import recsys
from recsys.errors import ConfigError, DataError
from recsys.library.engines.engine import unit_rows
from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.versions import point_to
from recsys.retrieval.bundle.writing import BundleSource, write_bundle
from recsys.server.app import make_app
from recsys.server.settings import ServerSettings
from recsys.server.versions import Versions
from recsys.server.web.metrics import Metrics
from recsys.serving.item_tower import open_item_tower
from tests.server.conftest import around

ASKED = {"history": ["film 3", "film 4"], "k": 10}


def new(film, **more):
    """A film that stands at a place of the ring."""
    return {"features": {"place": around([film])[0].tolist()}, **more}


def listed(client, path="recommend", **asked):
    answer = client.post(f"/v1/{path}", json=asked)
    assert answer.status_code == 200, answer.text
    return [item["item_id"] for item in answer.json()["items"]]


@pytest.fixture
def client(serving, content_shelf, tmp_path):
    return serving(content_shelf, items={"folder": tmp_path / "log"})


def test_an_item_that_is_put_stands_where_the_tower_says(client, content_shelf):
    told = {"title": "The new one", "genres": "War|Western"}
    for _ in range(2):  # twice is as once
        answer = client.put("/v1/items/new", json=new(5, columns=told))
        assert answer.json() == {
            "version": "v000001",
            "sequence": 1,
            "items": [{"item_id": "new", "state": "added"}],
        }
    bundle = recsys.load(content_shelf)
    own = open_item_tower(content_shelf).vectors({"place": around([5])})[:, :8]
    for size in (4, 8):
        added = unit_rows(own[:, :size]) if bundle.engine.bundle.normalize else own[:, :size]
        vectors = np.concatenate([bundle.item_vectors(size)[1], added])
        users = bundle.user_vectors(histories={"x": ASKED["history"]}, granularity=size)[1]
        every = vectors @ users[0]
        names = [*bundle.items.to_list(), "new"]
        order = [names[place] for place in np.argsort(-every, kind="stable")]
        wanted = [name for name in order if name not in ASKED["history"]]
        asked = ASKED | {"granularity": size, "k": 29}
        assert listed(client, **asked) == wanted
        scored = {"history": ASKED["history"], "items": ["new", "film 9"], "granularity": size}
        one, other = client.post("/v1/score", json=scored).json()["items"]
        share = every[-1] / every[names.index("film 9")]  # both times the length of the user
        assert one["score"] / other["score"] == pytest.approx(share, rel=1e-4)
    (found,) = (each for each in client.post(
        "/v1/recommend", json=ASKED | {"k": 29, "columns": ["title"]}
    ).json()["items"] if each["item_id"] == "new")  # fmt: skip
    assert found["columns"] == {"title": "The new one"}


def test_every_option_knows_items_that_were_put(client):
    told = {"title": "The new one", "genres": "War|Western"}
    client.put("/v1/items/new", json=new(5, columns=told))
    assert listed(client, **ASKED, where={"genres": ["Western"]}) == ["new"]
    assert "new" in listed(client, **ASKED, where={"genres": ["War"]})
    assert listed(client, **ASKED, allow=["new", "film 9"]).count("new") == 1
    assert listed(client, **ASKED | {"k": 5}, allow=["new"], stages="4:5,8") == ["new"]
    assert "new" not in listed(client, **ASKED | {"k": 29}, block=["new"])
    assert "new" not in listed(client, **ASKED | {"k": 29}, block=["new"], filter_seen=False)
    assert "new" not in listed(client, history=["film 3", "new"], k=29)
    assert "new" in listed(client, history=["film 3", "new"], k=30, filter_seen=False)
    assert listed(client, history=["new"]) != listed(client, history=["film 20"])
    assert listed(client, history=[], k=100)[-1] == "new"  # nobody has had it
    assert listed(client, history=[], allow=["new"]) == ["new"]
    assert listed(client, user="u1", allow=["new"]) == ["new"]
    like = listed(client, "similar", item="new", k=29)
    assert "new" not in like and len(like) == 29
    assert "new" in listed(client, "similar", item=like[0], k=29)
    assert client.get("/v1/items", params={"query": "new one"}).json()["items"] == [
        {"item_id": "new", "title": "The new one", "columns": told}
    ]
    assert client.get("/v1/items/new").json()["title"] == "The new one"
    assert client.get("/v1/bundle").json()["added"] == 1


def test_what_is_deleted_vanishes_from_all_answers(client):
    client.put("/v1/items/new", json=new(5))
    before = listed(client, **ASKED)
    gone = [before[0], "film 7", "new"]
    for _ in range(2):
        for name in gone:
            answer = client.delete(f"/v1/items/{name}").json()
            assert answer["items"] == [{"item_id": name, "state": "deleted"}]
            assert answer["sequence"] <= 4
    every = {"k": 100, "filter_seen": False}
    for asked in (ASKED | every, {"history": []} | every, {"user": "u1"} | every):
        assert not set(gone) & set(listed(client, **asked)), asked
        assert not set(gone) & set(listed(client, **asked, block=["film 1"])), asked
        assert listed(client, **asked, allow=gone) == []
    assert listed(client, "similar", item="film 7") == []
    assert not set(gone) & set(listed(client, "similar", item="film 1", k=30))
    scored = client.post("/v1/score", json={"user": "u1", "items": gone}).json()
    assert [item["score"] for item in scored["items"]] == [None] * 3
    assert scored["unknown"] == gone
    for name in gone:
        assert client.get(f"/v1/items/{name}").status_code == 404
    shown = client.get("/v1/items", params={"limit": 100}).json()["items"]
    assert not set(gone) & {item["item_id"] for item in shown} and len(shown) == 28
    # It still tells of those who have had it.
    assert client.post("/v1/recommend", json={"history": ["film 7"]}).json()["source"] == "history"
    user = client.get("/v1/users/u0").json()
    assert user["length"] == 7 and set(gone) & {f"film {n}" for n in range(7)} <= set(gone)
    assert not set(gone) & {item["item_id"] for item in user["latest"]}
    back = client.put(f"/v1/items/{before[0]}", json={}).json()
    assert back["items"] == [{"item_id": before[0], "state": "bundle"}]
    assert listed(client, **ASKED)[0] == before[0]


def test_a_batch_is_done_whole_or_not_at_all(client):
    named = [{"item_id": f"n{n}", **new(n)} for n in range(3)]
    answer = client.post("/v1/items/batch", json={"put": named, "delete": ["film 1"]}).json()
    assert [item["state"] for item in answer["items"]] == ["added"] * 3 + ["deleted"]
    bad = [{"item_id": "n9", **new(1)}, {"item_id": "n8", "features": {"place": [1.0]}}]
    answer = client.post("/v1/items/batch", json={"put": bad, "delete": ["film 2"]})
    assert answer.status_code == 422 and "'n8'" in answer.json()["detail"]
    assert client.get("/v1/items/n9").status_code == 404
    assert client.get("/v1/items/film 2").status_code == 200
    mixed = [
        {"item_id": "a", "features": {"genres": ["War"]}},
        {"item_id": "b", **new(3)},
        {"item_id": "c", "vector": [0.5] * 8},
    ]
    assert client.post("/v1/items/batch", json={"put": mixed}).status_code == 200
    alone = client.put("/v1/items/d", json={"features": {"genres": ["War"]}})
    assert alone.status_code == 200
    pair = {"history": ["film 3"], "items": ["a", "d"]}
    one, other = client.post("/v1/score", json=pair).json()["items"]
    assert one["score"] == pytest.approx(other["score"], abs=1e-6)


WRONG = {
    "nothing": ({}, "give features for its item tower"),
    "both": ({"features": {}, "vector": []}, "give one"),
    "no features": ({"features": {}}, "give some of place, genres"),
    "a stranger": ({"features": {"colour": 1}}, "not made from colour"),
    "another width": ({"features": {"place": [1.0]}}, r"[n, 3] is expected"),
    "words for numbers": ({"features": {"place": ["a", "b", "c"]}}, "numbers are expected"),
    "a number for words": ({"features": {"genres": 3}}, "a list of names is expected"),
    "a short vector": ({"vector": [1.0]}, "8 finite ones"),
    "a large vector": ({"vector": [1e39] * 8}, "8 finite ones"),
    "beyond any float": ({"vector": [10**400] * 8}, "8 finite ones"),
    "a feature beyond any float": ({"features": {"place": [10**400] * 3}}, "numbers are expected"),
    "a column beyond any number": (new(1, columns={"title": 10**400}), "String is expected"),
    "another column": (new(1, columns={"colour": "red"}), "it has title, genres"),
    "another type": (new(1, columns={"title": 3}), "String is expected"),
    "another key": (new(1, price=3), "Extra inputs"),
}


def test_what_cannot_be_is_told_and_not_kept(client):
    for name, (body, text) in WRONG.items():
        answer = client.put("/v1/items/new", json=body)
        assert answer.status_code == 422, name
        assert text in answer.json()["detail"], name
        assert client.get("/v1/items/new").status_code == 404, name
    assert client.get("/readyz").json()["sequence"] == 0


def test_limits_keys_and_folders(serving, content_shelf, shelf, tmp_path, monkeypatch):
    closed = serving(content_shelf)
    assert closed.put("/v1/items/new", json=new(1)).status_code == 403
    assert closed.get("/readyz").json()["sequence"] is None
    client = serving(content_shelf, items={"folder": tmp_path / "a", "most": 2, "batch": 2})
    named = [{"item_id": f"n{n}", **new(n)} for n in range(3)]
    assert client.post("/v1/items/batch", json={"put": named}).status_code == 422
    for body in named[:2]:
        assert client.post("/v1/items/batch", json={"put": [body]}).status_code == 200
    full = client.put("/v1/items/n2", json=new(2))
    assert full.status_code == 409 and "2 are allowed (items.most)" in full.json()["detail"]
    assert client.put("/v1/items/n1", json=new(9)).status_code == 200  # in the place of another
    client.delete("/v1/items/n0")
    assert client.put("/v1/items/n2", json=new(2)).status_code == 200
    assert client.put("/v1/items/film 3", json={}).status_code == 200  # the bundle's own
    plain = serving(shelf, items={"folder": tmp_path / "b"})
    answer = plain.put("/v1/items/new", json=new(1))
    assert answer.status_code == 422 and "no item tower" in answer.json()["detail"]
    assert plain.put("/v1/items/new", json={"vector": [0.1] * 8}).status_code == 200
    assert "new" in listed(plain, **ASKED | {"k": 29})
    reached = ServerSettings(bundle=shelf, host="0.0.0.0", items={"folder": tmp_path / "b"})
    with pytest.raises(ConfigError, match="could put and delete items"):
        make_app(reached)
    with pytest.raises(ConfigError, match="beside it"):
        make_app(ServerSettings(bundle=shelf, items={"folder": shelf / "v000001" / "x"}))
    monkeypatch.setenv("RECSYS_API_KEY", "secret")
    make_app(reached)
    locked = serving(content_shelf, items={"folder": tmp_path / "a"})
    assert locked.put("/v1/items/x", json=new(1)).status_code == 401
    assert locked.delete("/v1/items/n1").status_code == 401
    assert locked.get("/v1/items/n1", headers={"x-api-key": "secret"}).status_code == 200


def opened(place, folder, **told):
    versions = Versions(
        ServerSettings(bundle=place, threads=1, items={"folder": folder}, **told), Metrics()
    )
    versions.open()
    return versions


def names_of(versions):
    added = versions.stock.added
    return [] if added is None else added.names


def test_items_live_through_restarts_swaps_and_other_workers(content_shelf, tmp_path):
    place, folder = tmp_path / "b", tmp_path / "log"
    shutil.copytree(content_shelf, place, symlinks=True)
    one, other = opened(place, folder), opened(place, folder)
    given = {"vector": [0.5] * 8}
    one.change({"new": new(5), "given": given, "film 3": {}}, ["film 7"])
    assert not one.look() and other.look() and not other.look()
    assert names_of(other) == names_of(one) == ["new", "given"]
    other.change({}, ["given"])
    other.change({"given": given}, [])
    assert one.look() and one.sequence == other.sequence == 3
    other.change({"late": new(6)}, [])
    with pytest.raises(DataError, match="give features"):
        one.change({"bad": {}}, [])
    assert "late" in names_of(one)  # what was read on the way is served
    one.change({}, ["late"])
    later = opened(place, folder)
    assert set(names_of(later)) == {"new", "given"}
    assert later.stock.deleted.tolist() == one.stock.deleted.tolist() != []
    np.testing.assert_array_equal(
        later.stock.vectors(later.stock.find(["new"])), one.stock.vectors(one.stock.find(["new"]))
    )

    # The same model with other tiers: vectors that were given stay.
    recsys.export(place, place, tiers="0:8:fp32:ram")
    assert one.renew() and one.served.version == "v000002"
    assert set(names_of(one)) == {"new", "given"} and len(one.stock.deleted) == 1
    one.change({"late": new(6)}, [])
    assert "late" in names_of(one)

    # Another model that holds `new`, and has no item tower.
    source = BundleSource(
        items=np.eye(3, 8, dtype=np.float32),
        item_ids=pl.Series(["new", "film 7", "x"]),
        sizes=(4, 8),
    )
    write_bundle(place, source, parse_tiers("0:8:fp32:ram", 8))
    assert one.renew() and one.served.version == "v000003"
    assert names_of(one) == [] and one.stock.waiting == 3  # and film 3
    assert one.stock.find(["new", "film 7"]).tolist()[1] == -1
    assert one.stock.find(["new"])[0] >= 0
    assert "no item tower" in one.why_waiting("late")
    assert "another model" in one.why_waiting("given")
    with pytest.raises(DataError, match="no item tower"):
        one.change({"late": new(6)}, [])
    point_to(place, "v000001")
    assert one.renew() and set(names_of(one)) == {"new", "given", "late"}


def test_a_damaged_log_is_told_and_the_server_serves_on(content_shelf, tmp_path):
    folder = tmp_path / "log"
    one = opened(content_shelf, folder)
    one.change({"new": new(5)}, [])
    path = folder / "items.log"
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    path.write_bytes(whole + last.replace(b"place", b"PLACE"))
    with pytest.raises(recsys.errors.ChecksumError):
        one.change({"other": new(6)}, [])
    assert names_of(one) == ["new"]
    with pytest.raises(recsys.errors.ChecksumError, match="damaged"):
        opened(content_shelf, folder)
