"""Every verb on users of several vectors, and what takes one vector alone."""

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from fastapi.testclient import TestClient

import recsys
from recsys.data.histories import Histories
from recsys.errors import ConfigError
from recsys.evaluation.recommend import recommend
from recsys.recipes.bundles.parity import compare_with_run
from recsys.recipes.ranking.config import CandidatesConfig
from recsys.recipes.ranking.source import open_ranking
from recsys.retrieval.bundle.loading import load_bundle
from recsys.retrieval.funnel import Funnel, Stage
from recsys.retrieval.index.building import build_index
from recsys.runs.loading import load_run
from recsys.server.app import make_app
from recsys.server.settings import ServerSettings
from recsys.serving.user_tower import UserTower
from recsys.studies.verb import study
from tests.command import call

GENRES = ["Drama", "Comedy|Drama", "Comedy", "War"]
INTERESTS = 3
CHANGES = [
    "model.granularities.sizes=[4, 8]",
    "model.history_length=6",
    f"model.num_interests={INTERESTS}",
    "threads=1",
    "logs=[]",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("interests")


@pytest.fixture(scope="module")
def data():
    """60 users who walk along 30 films in a ring, and one who has had them all."""
    rows = [(f"u{u}", f"film {(u * 3 + s) % 30}", s) for u in range(60) for s in range(7)]
    rows += [("all", f"film {film}", film) for film in range(30)]
    frame = pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")
    told = pl.DataFrame({"item": [f"film {i}" for i in range(30)]}).with_columns(
        genres=pl.Series([GENRES[i % 4] for i in range(30)])
    )
    return recsys.Dataset.from_frame(frame, user="user", item="item", time="time", items=told)


@pytest.fixture(scope="module")
def model(data):
    return recsys.fit(data, "comirec", CHANGES, epochs=4)


@pytest.fixture(scope="module")
def run(model, place):
    return model.save(place / "run")


@pytest.fixture(scope="module")
def shelf(run, place):
    out = place / "bundle"
    tiers = "0:4:fp32:ram,4:8:fp32:mmap"
    recsys.export(run, out, tiers=tiers, stages="4:30,8", columns=("genres",))
    return out


@pytest.fixture(scope="module")
def bundle(shelf):
    return recsys.load(shelf)


@pytest.fixture(scope="module")
def client(shelf):
    app = make_app(ServerSettings(bundle=shelf, threads=1, logs=False))
    with TestClient(app) as opened:
        yield opened


def scores_of(users, items):
    """`[B, N]` cosines by the best of the interests."""
    users, items = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (users, items))
    return np.einsum("bkd,nd->bkn", users, items).max(axis=1)


def test_the_towers_users_are_those_of_the_model(run, shelf):
    opened, loaded = load_bundle(shelf), load_run(run)
    held = loaded.dataset
    everybody = Histories(np.arange(held.num_users), held.items, held.offsets)
    with torch.inference_mode():
        wanted = loaded.model.user_vectors(everybody).numpy()
    assert wanted.shape == (held.num_users, INTERESTS, 8)
    np.testing.assert_allclose(opened.user_vectors(slice(None), 8), wanted, atol=1e-5)
    served = UserTower(opened).user_vectors(held.items, held.offsets)
    np.testing.assert_allclose(served, wanted, atol=1e-4)
    parity = compare_with_run(shelf, run)
    assert parity.holds and parity.exact, parity.lines()


def test_python_gives_the_same_lists_and_scores_of_a_run_and_of_its_bundle(model, bundle):
    users = model.users.to_list()
    ids, vectors = model.user_vectors(users, granularity=4)
    assert vectors.shape == (len(users), INTERESTS, 4) and ids.to_list() == users
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=2), 1, rtol=1e-5)
    dense = scores_of(vectors, model.item_vectors(4)[1])
    listed = model.recommend(users, k=30, granularity=4, filter_seen=False)
    names = model.items.to_list()
    order = [names.index(item) for item in listed["item_id"]]
    told = dense[np.repeat(np.arange(len(users)), 30), order]
    np.testing.assert_allclose(listed["score"], told, atol=1e-5)
    pairs = listed.select("user_id", "item_id")
    for each in (model, bundle):
        scored = each.score(pairs, granularity=4)["score"]
        np.testing.assert_allclose(scored, told, atol=1e-5)
    guest = {"guest": ["film 3", "film 9"]}
    for way in ({}, {"granularity": 4}, {"stages": "4:9,8"}, {"filter_seen": False}):
        one, other = (each.recommend(histories=guest, k=5, **way) for each in (model, bundle))
        if way != {"stages": "4:9,8"}:
            assert one["item_id"].to_list() == other["item_id"].to_list()
        np.testing.assert_allclose(one["score"], other["score"], atol=1e-5)


def test_the_server_gives_the_lists_of_python(bundle, client):
    told = client.get("/v1/bundle").json()
    assert told["interests"] == INTERESTS
    assert told["granularities"][0]["multiply_adds"] == INTERESTS * 30 * 4
    history = ["film 3", "film 9", "film 21"]
    for way in (
        {},
        {"granularity": 4},
        {"stages": "4:9,8"},
        {"filter_seen": False},
        {"allow": ["film 1", "film 5", "film 7"], "block": ["film 5"]},
    ):
        wanted = bundle.recommend(histories={"guest": history}, k=5, **way)
        found = client.post("/v1/recommend", json={"history": history, "k": 5, **way}).json()
        assert [row["item_id"] for row in found["items"]] == wanted["item_id"].to_list()
        assert [row["score"] for row in found["items"]] == wanted["score"].to_list()
    items = ["film 1", "film 2", "film 3"]
    asked = {"user": "u5", "items": items}
    scored = [row["score"] for row in client.post("/v1/score", json=asked).json()["items"]]
    wanted = bundle.score([("u5", item) for item in items])["score"]
    np.testing.assert_allclose(scored, wanted, rtol=1e-6)


def test_lists_may_trade_scores_for_other_categories(model, bundle, client):
    history = {"guest": ["film 3", "film 9"]}
    plain = bundle.recommend(histories=history, k=5)
    for strength in (0, 0.3):
        diversity = recsys.Diversity("genres", strength)
        lists = [
            each.recommend(histories=history, k=5, diversity=diversity) for each in (model, bundle)
        ]
        found = client.post(
            "/v1/recommend",
            json={
                "history": history["guest"],
                "k": 5,
                "diversity": {"by": "genres", "strength": strength},
            },
        ).json()
        named = [row["item_id"] for row in found["items"]]
        assert named == lists[0]["item_id"].to_list() == lists[1]["item_id"].to_list()
        assert (named == plain["item_id"].to_list()) == (strength == 0)
    assert named[0] == plain["item_id"][0]
    kinds = [set(GENRES[int(name.split()[1]) % 4].split("|")) for name in named]
    assert not kinds[0] & kinds[1]
    wrong = client.post(
        "/v1/recommend", json={"history": ["film 3"], "diversity": {"by": "colour"}}
    )
    assert wrong.status_code == 422 and "no column colour" in wrong.text
    with pytest.raises(ConfigError, match="have no column 'colour'; they have genres"):
        model.recommend(["u1"], diversity=recsys.Diversity("colour"))
    with pytest.raises(ConfigError, match=r"\(strength\) is -1"):
        recsys.Diversity("genres", -1)
    told = "for diversity lists of 5 are chosen from 25 candidates, and .*keeps must not"
    for each in (model, bundle):
        with pytest.raises(ConfigError, match=told):
            each.recommend(["u1"], k=5, stages="4:9,8", diversity=recsys.Diversity("genres"))
    asked = {"user": "u1", "k": 5, "stages": "4:9,8", "diversity": {"by": "genres"}}
    wrong = client.post("/v1/recommend", json=asked)
    assert wrong.status_code == 422 and "chosen from 25 candidates, and" in wrong.text


def test_popular_items_are_chosen_for_diversity_as_other_lists_are(model, bundle, client, data):
    """Those without a history, beside a plain loop over the most popular 25."""
    names = data.item_frame()["item_id"].to_list()
    counts = model.engine.popularity()
    order = np.lexsort((np.arange(30), -counts))[:25].tolist()
    kinds = [set(GENRES[int(name.split()[1]) % 4].split("|")) for name in names]
    low, high = counts[order].min(), counts[order].max()
    wanted: list[int] = []
    while len(wanted) < 5:
        left = [item for item in order if item not in wanted]
        worth = [
            (counts[item] - low) / (high - low)
            + 0.3 * sum(not kinds[item] & kinds[other] for other in wanted)
            for item in left
        ]
        wanted.append(left[int(np.argmax(worth))])
    assert wanted != order[:5]
    diversity = recsys.Diversity("genres", 0.3)
    for each in (model, bundle):
        found = each.recommend(
            histories={"guest": []}, k=5, fallback="popularity", diversity=diversity
        )
        assert found["item_id"].to_list() == [names[item] for item in wanted]
        assert found["score"].to_list() == counts[wanted].tolist()
    asked = {"history": [], "k": 5, "diversity": {"by": "genres", "strength": 0.3}}
    told = client.post("/v1/recommend", json=asked).json()
    assert told["source"] == "popularity"
    assert [row["item_id"] for row in told["items"]] == [names[item] for item in wanted]
    assert [row["score"] for row in told["items"]] == counts[wanted].tolist()
    nothing = client.post("/v1/recommend", json=asked | {"where": {"genres": ["?"]}}).json()
    assert nothing["items"] == []
    wrong = client.post("/v1/recommend", json=asked | {"diversity": {"by": "colour"}})
    assert wrong.status_code == 422 and "no column colour" in wrong.text


def test_the_command_line_writes_the_same_lists(shelf, bundle, place):
    out = place / "lists.csv"
    call("recommend", shelf, "--out", out, "--all", "-k", 4)
    wanted = bundle.recommend(bundle.users, k=4)
    assert pl.read_csv(out)["item_id"].to_list() == wanted["item_id"].to_list()
    diverse = place / "diverse.csv"
    call("recommend", shelf, "--out", diverse, "--all", "-k", 4, "--diverse-by", "genres")
    chosen = bundle.recommend(bundle.users, k=4, diversity=recsys.Diversity("genres"))
    assert pl.read_csv(diverse)["item_id"].to_list() == chosen["item_id"].to_list()


def test_evaluation_ranks_by_the_best_interest_whatever_the_device_of_the_lists(run):
    table = recsys.evaluate(run, with_baselines=False)
    assert {row for row in table.rows["granularity"].unique() if row} == {4, 8}
    loaded = load_run(run)
    held = loaded.dataset
    everybody = Histories(np.arange(held.num_users), held.items, held.offsets)
    lists = recommend(loaded.model, everybody, 30, k=30, filter_seen=False)
    with torch.inference_mode():
        dense = scores_of(
            loaded.model.user_vectors(everybody).numpy(), loaded.model.item_vectors().numpy()
        )
    told = np.take_along_axis(dense, lists, axis=1)
    assert (np.diff(told, axis=1) <= 1e-6).all()


def test_funnels_are_measured_and_each_interest_counts_as_work(run, shelf):
    for source in (run, shelf):
        changes = ["keeps=[10, 30]", "codecs=[fp32]", "ranking_codec=fp32", "indexes=[scan]"]
        found = recsys.tradeoff(source, changes)
        assert found.choice is not None
        assert found.found.exact.multiply_adds == INTERESTS * 30 * 8
        (whole,) = (point for point in found.found.points if point.keep == 30)
        assert whole.kept == 1 and whole.overlap == found.found.exact.overlap


def test_an_index_is_asked_for_every_interest(shelf):
    opened = load_bundle(shelf)
    pytest.importorskip("faiss")
    index = build_index(opened, "hnsw", 8, threads=1)
    users = opened.user_vectors(slice(None), 8)
    found = Funnel(opened, [Stage(8, 30), Stage(4, 30), Stage(8, 5)], finder=index).search(users)
    wanted = Funnel(opened, [Stage(8, 5)]).search(users)
    np.testing.assert_array_equal(found.items, wanted.items)


def test_a_study_compares_it_with_every_kind_of_method(place, run):
    tree = yaml.safe_load((run / "config.yaml").read_text())
    tree["data"] = str(load_run(run).dataset.folder)
    tree["trainer"]["epochs"] = 1
    (place / "run.yaml").write_text(yaml.safe_dump(tree))
    methods = ["nested", "nested_int8", "truncation", "pca", "svd", "projection", "svd_int8"]
    settings = {"run": str(place / "run.yaml"), "seeds": [0], "methods": methods}
    (place / "study.yaml").write_text(yaml.safe_dump(settings | {"num_resamples": 100}))
    found = study(place / "study.yaml", out=place / "study").content.summary
    assert set(methods) <= set(found["method"])
    # At full rank these lose nothing: the same lists, so the same figures.
    whole = found.filter((pl.col("granularity") == 8) & (pl.col("metric") == "ndcg"))
    whole = whole.filter(pl.col("k") == 10)
    assert (
        whole.filter(pl.col("method").is_in(["truncation", "pca", "svd", "projection"]))[
            "value"
        ].n_unique()
        == 1
    )


@pytest.mark.parametrize("store", ["duckdb", "faiss"])
def test_a_store_is_asked_for_each_interest_and_the_lists_are_merged(store, shelf, place):
    pytest.importorskip(store)
    done = recsys.push(shelf, f"{store}:{place / store}", stages="4:12,8", check=40, k=5)
    assert done.checked.holds and done.checked.agreeing == done.checked.num_users == 40
    assert done.checked.num_scores >= 195  # one user may have had every film


def test_a_run_goes_on_with_new_rows_and_old_vectors_stay_in_use(model, run, data):
    rows = [(f"u{u}", f"film {(u * 3 + s) % 30}", 10 + s) for u in range(60) for s in range(2)]
    frame = pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")
    later = model.update(
        frame, ["trainer.epochs=1"], user="user", item="item", time="time", compatible=True
    )
    assert later.user_vectors(["u1"])[1].shape == (1, INTERESTS, 8)
    np.testing.assert_allclose(
        later.item_vectors()[1][: len(model.items)], model.item_vectors()[1], atol=1e-5
    )


def test_what_takes_one_vector_a_user_says_so(run, place):
    with pytest.raises(ConfigError, match="features of rankers are made of one"):
        open_ranking(run, CandidatesConfig(keep=10))
    with pytest.raises(ConfigError, match="learned from the scores of one; leave --route out"):
        stages = recsys.RoutedStages("4:20,8", 0.9)
        recsys.export(run, place / "routed", stages=stages)
    with pytest.raises(ConfigError, match="calibrate fits scores of one"):
        recsys.calibrate(run, place / "calibrated")


def test_parts_of_the_bundle_can_be_written_again(shelf, place):
    again = place / "again"
    recsys.export(shelf, again, tiers="0:8:int8:ram", users="int8")
    before, now = load_bundle(shelf), load_bundle(again)
    assert now.interests == INTERESTS and now.manifest.tower is not None
    np.testing.assert_allclose(
        now.user_vectors(slice(None), 8), before.user_vectors(slice(None), 8), atol=0.05
    )


def test_an_item_added_at_run_time_is_scored_by_the_best_interest(shelf, place, client):
    """A copy of a film's vector stands beside the film, with the film's score."""
    opened = load_bundle(shelf)
    films = opened.ids("item")["item_id"].to_list()
    history, k = ["film 3", "film 9"], 4
    first = client.post("/v1/recommend", json={"history": history, "k": k}).json()["items"][0]
    vector = opened.items.decode(np.array([films.index(first["item_id"])]), 0, 8)[0]
    settings = {"bundle": shelf, "threads": 1, "logs": False, "items": {"folder": place / "log"}}
    with TestClient(make_app(ServerSettings.model_validate(settings))) as taking:
        taking.put("/v1/items/copy", json={"vector": vector.tolist()}).raise_for_status()
        for way in ({}, {"granularity": 4}):
            body = {"history": history, "k": 30, **way}
            found = taking.post("/v1/recommend", json=body).json()["items"]
            told = {row["item_id"]: row["score"] for row in found}
            assert told["copy"] == pytest.approx(told[first["item_id"]], abs=1e-5)
        asked = {"history": history, "items": ["copy", first["item_id"]]}
        scored = [row["score"] for row in taking.post("/v1/score", json=asked).json()["items"]]
        assert scored[0] == pytest.approx(scored[1], abs=1e-5)
