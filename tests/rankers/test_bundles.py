"""Rankers in bundles: the same lists by every way, and refusals."""

import numpy as np
import pytest
from fastapi.testclient import TestClient

import recsys
from recsys.errors import ConfigError, DataError
from recsys.rankers.fitted import Ranking
from recsys.retrieval.bundle.loading import load_bundle, verify_bundle
from recsys.retrieval.bundle.manifest import write_manifest
from recsys.server.app import make_app
from recsys.server.settings import ServerSettings

GUEST = ["i3", "i5", "i7"]


def test_a_bundle_ranks_by_its_ranker_unless_told_otherwise(shelf, ranked):
    assert verify_bundle(shelf) == []
    model = recsys.load(shelf)
    users = ["u0", "u1", "u2"]
    lists = model.recommend(users, k=5)
    plain = model.recommend(users, k=5, ranker=False)
    assert lists.equals(model.recommend(users, k=5, ranker=True))
    assert not lists["item_id"].equals(plain["item_id"])
    assert plain.equals(model.recommend(users, k=5, stages="8"))
    assert model.recommend(["u1"], k=5)["item_id"].equals(
        lists.filter(lists["user_id"] == "u1")["item_id"]
    )
    guest = model.recommend(histories={"a guest": GUEST}, k=5)
    assert "i9" in guest["item_id"].to_list()[:2]  # two further, as everybody goes
    only = model.recommend(users, k=5, allow=["i1", "i2"])
    assert set(only["item_id"]) <= {"i1", "i2"}


def test_the_server_gives_the_same_lists(shelf, ranked):
    model = recsys.load(shelf)
    with TestClient(make_app(ServerSettings(bundle=shelf, threads=1, logs=False))) as client:
        asked = [{"user": "u1", "k": 5}, {"history": GUEST, "k": 5}, {"user": "u2", "k": 5}]
        alone = [client.post("/v1/recommend", json=each).json() for each in asked]
        together = client.post("/v1/recommend/batch", json={"requests": asked}).json()["results"]
        plain = client.post("/v1/recommend", json=asked[0] | {"ranker": False}).json()
        wrong = client.post("/v1/recommend", json=asked[0] | {"ranker": True, "granularity": 4})
    named = [[item["item_id"] for item in each["items"]] for each in alone]
    assert named == [[item["item_id"] for item in each["items"]] for each in together]
    assert named[0] == model.recommend(["u1"], k=5)["item_id"].to_list()
    assert named[1] == model.recommend(histories={"g": GUEST}, k=5)["item_id"].to_list()
    assert alone[0]["ranked"] and not plain["ranked"]
    assert wrong.status_code == 422 and "leave out" in wrong.json()["detail"]


def test_a_ranker_of_the_run_goes_into_bundles_with_its_scores_alone(run, fit, place, tmp_path):
    same, other = tmp_path / "same", tmp_path / "other"
    recsys.export(run, same, tiers="0:8:fp32:ram", tower=False)
    version = recsys.rank_attach(fit.folder, same)
    assert load_bundle(version).manifest.ranker.name == "lightgbm"
    assert load_bundle(version).manifest.parent == "v000001"
    recsys.export(run, other, tiers="0:8:int8:ram", tower=False)
    with pytest.raises(ConfigError, match="other scores"):
        recsys.rank_attach(fit.folder, other)


def test_a_ranker_of_a_version_is_refused_in_another(shelf, ranked, run, tmp_path):
    """Whoever copies the ranker's folder and its entry into a version with other vectors."""
    old = load_bundle(shelf)
    recsys.export(run, tmp_path / "new", tiers="0:4:int8:ram,4:8:fp32:mmap", tower=False)
    new = load_bundle(tmp_path / "new")
    for file in (name for name in old.manifest.files if name.startswith("ranker/")):
        (new.folder / file).parent.mkdir(parents=True, exist_ok=True)
        (new.folder / file).write_bytes((old.folder / file).read_bytes())
    files = new.manifest.files | {k: v for k, v in old.manifest.files.items() if "ranker/" in k}
    write_manifest(
        new.folder,
        new.manifest.model_copy(update={"ranker": old.manifest.ranker, "files": files}),
    )
    with pytest.raises(DataError, match="another version"):
        recsys.load(tmp_path / "new").recommend(["u1"])


def test_doors(shelf, ranked, run, place):
    model = recsys.load(shelf)
    with pytest.raises(ConfigError, match="ranks 30 candidates"):
        model.recommend(["u1"], k=31)
    assert len(model.recommend(["u1"], k=31, ranker=False)) == 31
    with pytest.raises(ConfigError, match="leave out granularity and stages"):
        model.recommend(["u1"], granularity=4, ranker=True)
    with pytest.raises(ConfigError, match="rankers are served with bundles"):
        recsys.load(run).recommend(["u1"], ranker=True)
    bare = place / "bare"
    recsys.export(run, bare, tiers="0:8:fp32:ram", tower=False)
    with pytest.raises(ConfigError, match="has no ranker"):
        recsys.load(bare).recommend(["u1"], ranker=True)


def test_times_of_the_bundles_own_users_reach_their_features(shelf, ranked, data):
    engine = recsys.load(shelf).engine
    found = engine.own_histories(np.array([3, 0]))
    wanted = np.concatenate(
        [data.timestamps[data.offsets[u] : data.offsets[u + 1]] for u in (3, 0)]
    )
    np.testing.assert_array_equal(found.timestamps, wanted)


def test_the_moment_that_is_named_reaches_the_ranker_and_no_other_does(shelf, ranked, monkeypatch):
    told, best = [], Ranking.best

    def spy(self, requests, k):
        moments, times = requests.moments, requests.histories.timestamps
        told.append((moments, times))
        return best(self, requests, k)

    def moments():
        found = [None if moments is None else moments.tolist() for moments, _ in told]
        told.clear()
        return found

    def names(answer):
        return [item["item_id"] for item in answer["items"]]

    monkeypatch.setattr(Ranking, "best", spy)
    model = recsys.load(shelf)
    model.recommend(["u0", "u1"], k=3, at=7200)
    model.recommend(histories={"a guest": GUEST}, k=3, at="1970-01-01T01:00:00")
    model.recommend(["u0"], k=3)
    assert moments() == [[7200, 7200], [3600], None]
    asked = [
        {"user": "u1", "at": 3600}, {"user": "u1"}, {"user": "u2", "at": 7200},
        {"history": GUEST, "times": [1, 2, 3], "at": 9000}, {"history": GUEST},
    ]  # fmt: skip
    with TestClient(make_app(ServerSettings(bundle=shelf, threads=1, logs=False))) as client:
        told.clear()  # a server tries its ranker before the first request
        alone = [names(client.post("/v1/recommend", json=each).json()) for each in asked]
        assert told[3][1].tolist() == [1, 2, 3] and told[4][1] is None
        assert moments() == [[3600], None, [7200], [9000], None]
        body = {"requests": asked}
        together = client.post("/v1/recommend/batch", json=body).json()["results"]
    assert [names(each) for each in together] == alone
    assert sorted(moments(), key=str) == [None, None, [3600, 7200], [9000]]
