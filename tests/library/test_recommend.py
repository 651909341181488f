"""Lists of every recommender are the evaluator's own, at every granularity, by external ids."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import recsys
from recsys.data.histories import Histories
from recsys.evaluation.recommend import recommend
from recsys.granularity import Granularities
from tests.library.conftest import walks

MODELS = ("sasrec", "fmrlrec", "two_tower", "repeats")
BASELINES = (
    "popularity", "recent_popularity", "item_knn", "sequential_rules", "ease", "slim", "als", "bpr",
)  # fmt: skip
K = 7


def lists_of(frame, users, k=K):
    """`{user: [item, ...]}` in the order of ranks."""
    assert frame.columns == ["user_id", "item_id", "rank", "score"]
    assert frame["user_id"].unique(maintain_order=True).to_list() == list(users)
    for _, rows in frame.group_by("user_id"):
        assert rows["rank"].to_list() == list(range(1, len(rows) + 1))
        assert rows["score"].to_list() == sorted(rows["score"], reverse=True)
        assert len(rows) <= k
    return {user: rows["item_id"].to_list() for (user,), rows in frame.group_by("user_id")}


def own_lists(model, k=K, *, size=None, filter_seen=True):
    """As the evaluator lists, by external id: of all users, from their whole histories."""
    data = model.engine.dataset
    everything = Histories(np.arange(data.num_users), data.items, data.offsets)
    cut = None if size is None else Granularities(sizes=(size,))
    found = recommend(
        model.engine.model, everything, data.num_items, k=k, filter_seen=filter_seen,
        granularities=cut,
    )  # fmt: skip
    return {
        model.users[row]: [model.items[int(item)] for item in listed if item >= 0]
        for row, listed in enumerate(found)
    }


@pytest.mark.parametrize("filter_seen", [True, False])
@pytest.mark.parametrize("name", MODELS + BASELINES)
def test_lists_are_those_of_the_evaluator_at_every_granularity(name, filter_seen, fitted):
    model = fitted(name)
    for size in (None, *model.sizes):
        frame = model.recommend(model.users, k=K, granularity=size, filter_seen=filter_seen)
        wanted = own_lists(model, size=size, filter_seen=filter_seen)
        assert lists_of(frame, model.users) == wanted


@pytest.mark.parametrize("name", ["sasrec", "sequential_rules", "ease", "popularity", "repeats"])
def test_an_allow_list_leaves_what_of_the_whole_list_is_allowed(name, fitted):
    model = fitted(name)
    allowed, blocked = model.items[::2], model.items[:6]
    for seen in (True, False):
        whole = own_lists(model, k=25, filter_seen=seen)
        frame = model.recommend(model.users, k=4, allow=allowed, block=blocked, filter_seen=seen)
        kept = set(allowed) - set(blocked)
        wanted = {user: [i for i in listed if i in kept][:4] for user, listed in whole.items()}
        assert lists_of(frame, model.users, 4) == wanted


@pytest.mark.parametrize("size", [4, 8])
def test_a_bundle_lists_as_its_run_does_also_by_a_funnel_that_keeps_everything(
    size, fitted, bundle
):
    model = fitted("sasrec")
    wanted = lists_of(model.recommend(model.users, k=K, granularity=size), model.users)
    found = bundle.recommend(bundle.users, k=K, granularity=size)
    assert lists_of(found, model.users) == wanted
    if size == 8:
        for kind in (bundle, model):
            funnel = kind.recommend(kind.users, k=K, stages="4:25,8")
            assert lists_of(funnel, model.users) == wanted
    scores = model.recommend(model.users, k=K, granularity=size)["score"]
    np.testing.assert_allclose(found["score"], scores, rtol=1e-4)


def test_histories_of_anyone_get_the_lists_of_users_who_had_the_same(fitted, bundle, data):
    offsets = data.offsets
    of_three = {
        f"new {u}": [fitted("ease").items[int(i)] for i in data.items[offsets[u] : offsets[u + 1]]]
        for u in range(3)
    }
    known = fitted("ease").users.head(3)
    for name in ("sasrec", "fmrlrec", "item_knn", "sequential_rules", "ease", "als", bundle):
        model = fitted(name) if isinstance(name, str) else name
        by_history = model.recommend(histories=of_three, k=K)
        by_user = model.recommend(known, k=K)
        assert by_history["item_id"].to_list() == by_user["item_id"].to_list()
        assert by_history["user_id"].unique(maintain_order=True).to_list() == list(of_three)


def test_histories_are_sorted_by_their_times_and_equal_times_stay_as_given(fitted):
    model = fitted("sequential_rules")
    rows = pl.DataFrame(
        {
            "user_id": ["x", "y", "x", "x", "y"],
            "item_id": ["i5", "i1", "i3", "i4", "i2"],
            "timestamp": [30, 10, 10, 30, 20],
        }
    )
    wanted = {"x": ["i3", "i5", "i4"], "y": ["i1", "i2"]}
    by_mapping = model.recommend(histories=wanted, k=K)
    assert model.recommend(histories=rows, k=K).equals(by_mapping)
    for given in (rows.to_pandas(), rows.to_arrow()):
        assert pl.DataFrame(model.recommend(histories=given, k=K)).equals(by_mapping)
    lists = pl.DataFrame({"user_id": ["x", "y"], "item_id": list(wanted.values())})
    assert model.recommend(histories=lists, k=K).equals(by_mapping)
    as_given = rows.drop("timestamp")
    assert model.asked(None, as_given, order="given").items.tolist() == [
        model.items.to_list().index(item) for item in ("i5", "i3", "i4", "i1", "i2")
    ]


def test_the_kind_of_frame_that_comes_in_goes_out(fitted):
    model = fitted("popularity")
    users = pl.DataFrame({"user_id": ["u3"]})
    for given, kind in ((users, pl.DataFrame), (users.to_pandas(), pd.DataFrame),
                        (users.to_arrow(), pa.Table), (["u3"], pl.DataFrame)):  # fmt: skip
        assert isinstance(model.recommend(given), kind)


def test_what_is_unknown_is_counted_and_named_and_not_fatal(fitted, capsys):
    model = fitted("ease")
    frame = model.recommend(["u1", "nobody", "u2", "u1"], k=2)
    assert frame["user_id"].unique(maintain_order=True).to_list() == ["u1", "u2"]
    assert "1 user unknown ('nobody'; 1 rows)" in capsys.readouterr().err
    histories = {"a": ["i1", "bad", "worse"], "b": ["bad", "i2"]}
    assert model.unknown(histories=histories).rows() == [("item", "bad", 2), ("item", "worse", 1)]
    assert model.unknown(["nobody", "u1"]).rows() == [("user", "nobody", 1)]
    without = {"a": ["i1"], "b": ["i2"]}
    assert model.recommend(histories=histories).equals(model.recommend(histories=without))


def test_those_without_a_history_get_popular_items_where_that_is_asked_for(fitted, bundle):
    for model in (fitted("sasrec"), fitted("two_tower"), bundle):
        asked = {"known": ["i3"], "empty": [], "strange": ["bad"]}
        found = model.recommend(histories=asked, k=3, fallback="popularity", block=["i0"])
        lists = lists_of(found, asked, 3)
        assert len(lists["known"]) == 3
        counts = walks().filter(pl.col("item") != "i0")["item"].value_counts()
        wanted = sorted(counts["count"], reverse=True)[:3]
        for user in ("empty", "strange"):
            assert found.filter(pl.col("user_id") == user)["score"].to_list() == wanted
        assert lists["empty"] == lists["strange"] and "i0" not in lists["empty"]
    everyone = fitted("ease").recommend(["nobody", "u1"], k=2, fallback="popularity")
    assert everyone["user_id"].to_list() == ["nobody", "nobody", "u1", "u1"]


def test_a_model_that_knows_users_by_index_reads_no_history_of_strangers(fitted):
    model = fitted("two_tower")
    asked = {"u4": ["i1"], "stranger": ["i1"]}
    assert model.recommend(histories=asked)["user_id"].unique().to_list() == ["u4"]
    found = model.recommend(histories=asked, k=3, fallback="popularity")
    assert found["user_id"].unique(maintain_order=True).to_list() == ["u4", "stranger"]


def test_pairs_are_scored_as_lists_score_them(fitted, bundle):
    for model in (*(fitted(name) for name in ("sasrec", "ease", "item_knn", "als")), bundle):
        frame = model.recommend(model.users, k=5)
        scored = model.score(frame.select("user_id", "item_id"))
        np.testing.assert_allclose(scored["score"], frame["score"], rtol=1e-4, atol=1e-6)
        lost = model.score([("u1", "i1"), ("nobody", "i1"), ("u1", "bad")])["score"]
        assert lost.is_null().to_list() == [False, True, True]


def test_vectors_give_the_scores_of_pairs(fitted, bundle):
    for model, size in ((fitted("sasrec"), 4), (fitted("als"), 8), (bundle, 4)):
        items, of_items = model.item_vectors(size)
        users, of_users = model.user_vectors(["u7", "u5"], granularity=size)
        assert of_items.shape == (25, size) and users.to_list() == ["u7", "u5"]
        best = items[int((of_users @ of_items.T)[0].argmax())]
        listed = model.recommend(["u7"], k=1, granularity=size, filter_seen=False)
        assert listed["item_id"].to_list() == [best]
        _, same = model.user_vectors(histories={"x": ["i1", "i2"]}, granularity=size)
        assert same.shape == (1, size)


def test_similar_items_are_neighbours_by_cosine_or_what_follows_the_one_item(fitted, bundle):
    for model in (fitted("sasrec"), bundle):
        ids, vectors = model.item_vectors(8)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines = unit @ unit[3]
        cosines[3] = -2
        wanted = [ids[int(i)] for i in np.argsort(-cosines, kind="stable")[:4]]
        found = model.similar_items([ids[3]], k=4)
        assert found["similar_item_id"].to_list() == wanted
        assert found.columns == ["item_id", "similar_item_id", "rank", "score"]
    ease = fitted("ease")
    alone = ease.recommend(histories={"x": ["i3"]}, k=4)["item_id"]
    assert ease.similar_items(["i3"], k=4)["similar_item_id"].to_list() == alone.to_list()


def test_figures_are_those_of_the_run_and_of_the_exported_bundle(fitted, bundle, data, tmp_path):
    model = fitted("sasrec")
    run = model.save(tmp_path / "run")
    wanted = recsys.evaluate(run, with_baselines=False)
    for kind in (model, bundle):
        table = recsys.evaluate(kind, data, protocol="s3rec")
        for size in (4, 8):
            assert table.value("ndcg", 10, size) == pytest.approx(wanted.value("ndcg", 10, size))
    baseline = recsys.evaluate(fitted("ease"))
    assert 0 < baseline.value("recall", 10) <= 1
    assert recsys.evaluate(fitted("ease"), with_baselines=True).rows["run"].n_unique() == 6


def test_what_is_saved_is_loaded_with_its_data_wherever_it_is_moved(fitted, tmp_path):
    for name in ("sasrec", "als"):
        saved = fitted(name).save(tmp_path / name)
        moved = saved.rename(tmp_path / f"moved-{name}")
        again = recsys.load(moved)
        wanted = fitted(name).recommend(["u1", "u2"])
        assert again.recommend(["u1", "u2"]).equals(wanted)
        assert again.engine.dataset.folder.is_relative_to(moved)


def test_a_run_is_kept_where_it_is_asked_for_and_a_baseline_is_known_by_name(data, tmp_path):
    recsys.fit(data, "popularity", out=tmp_path / "pop")
    opened = recsys.load(tmp_path / "pop")
    assert opened.name == "popularity" and len(opened.users) == 80
    by_name = recsys.load("popularity", data=tmp_path / "pop" / "data")
    assert by_name.recommend(["u1"]).equals(opened.recommend(["u1"]))
