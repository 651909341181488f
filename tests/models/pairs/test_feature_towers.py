"""Two towers with features: columns alone tell of new users, features alone of new items.

100 users and 48 items of four kinds. Users like items of their own kind, which their column `club`
says; that of items is told by `kind` and `shade`. The last 20 users are in no data set, and the
last eight items are had at the very end, after the training part.
"""

import json
import math

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from pydantic import ValidationError
from torch.nn.functional import normalize

import recsys
from recsys.data.batching import Batch
from recsys.data.features.loading import ItemFeatures, NumericFeature
from recsys.data.features.manifest import FeatureOrigin
from recsys.data.features.user_columns import user_features
from recsys.data.features.writing import write_categories, write_numbers
from recsys.data.histories import Histories
from recsys.errors import ConfigError, DataError, RunError
from recsys.library.engines.bundle_engine import BundleEngine
from recsys.library.user_table import read_users, told_of
from recsys.models.pairs.feature_towers import FeatureTowers, FeatureTowersConfig
from recsys.retrieval.bundle.loading import load_bundle
from recsys.runs.config import RunConfig
from recsys.server.answering.answers import Answering
from recsys.server.answering.served import Served
from recsys.server.answering.stock import Stock
from recsys.server.settings import Limits
from recsys.server.web.schemas import RecommendRequest, ScoreRequest
from recsys.serving.item_tower_export import column_users_of
from recsys.studies.verb import study

KNOWN, USERS, ITEMS, OLD, KINDS = 80, 100, 48, 40, 4


def people(users):
    """Club (the kind, and for some a second word), age with gaps, and town, which tells nothing."""
    users = [int(user) for user in users]
    clubs = [f"c{u % KINDS}" + "|all" * (u % 5 == 0) for u in users]
    ages = [None if u % 7 == 0 else 20 + int(u) for u in users]
    towns = [f"t{u % 3}" for u in users]
    table = {"user_id": [f"u{u}" for u in users], "club": clubs, "age": ages, "town": towns}
    return pl.DataFrame(table)


def rows():
    """Eight or so old items of the own kind, one of any, and one new item at the end."""
    rng = np.random.default_rng(0)
    found = []
    for user in range(KNOWN):
        own = rng.permutation(np.arange(user % KINDS, OLD, KINDS))[:8].tolist()
        had = [*own, int(rng.integers(OLD))]
        found += [(f"u{user}", f"i{item}", int(rng.integers(800))) for item in had]
        found.append((f"u{user}", f"i{OLD + user % KINDS + KINDS * (user % 8 > 3)}", 900 + user))
    return pl.DataFrame(found, schema=["user_id", "item_id", "timestamp"], orient="row")


def kind_of(item_ids):
    return np.array([int(each[1:]) % KINDS for each in item_ids])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("towers")
    data = recsys.Dataset.from_frame(
        rows(), user="user_id", item="item_id", time="timestamp", users=people(range(KNOWN)),
        out=place / "data",
    )  # fmt: skip
    kinds = kind_of(data.item_frame()["item_id"])
    origin, edges = FeatureOrigin(source="made by hand"), np.arange(ITEMS + 1)
    for name, names in (("kind", "abcd"), ("shade", "wxyz")):
        write_categories(data.folder, name, kinds.astype(np.int32), edges, list(names), origin)
    noise = np.random.default_rng(1).normal(size=ITEMS)
    write_numbers(data.folder, "price", noise, np.arange(ITEMS) % 5 > 0, origin)
    return place


def tree(place, **model):
    return {
        "data": str(place / "data"),
        "protocol": "global-time",
        "threads": 1,
        "logs": [],
        "model": {"name": "feature_towers", "granularities": {"sizes": [4, 8]}, **model},
        "loss": {
            "name": "sampled_softmax",
            "negatives": {"uniform": 20, "in_batch": True},
        },
        "batching": {"batch_tokens": 128},
        "trainer": {
            "epochs": 25,
            "patience": 25,
            "validate_every": 25,
            "optimizer": {"learning_rate": 0.03, "warmup_steps": 0, "schedule": "constant"},
        },
    }


COLUMNS = {"categories": ["club", "town"], "numbers": ["age"]}
ITEM_PARTS = {"features": ["kind", "shade", "price"]}


def trained(place, name, **model):
    return recsys.train(RunConfig.model_validate(tree(place, **model)), out=place / name)


@pytest.fixture(scope="module")
def both(place):
    """Users of columns and histories, items of ids and features, with views."""
    return trained(place, "both", columns=COLUMNS, items=ITEM_PARTS, views={"items": 16})


@pytest.fixture(scope="module")
def alone(place):
    """Users of columns alone."""
    return trained(place, "alone", columns=COLUMNS, history=False)


@pytest.fixture(scope="module")
def shelf(both, place):
    recsys.export(both, place / "bundle", tiers="0:8:fp32:ram")
    return place / "bundle"


def own_share(lists):
    """How many of the items recommended are of the kind of the user."""
    users = np.array([int(each[1:]) for each in lists["user_id"]])
    return float((users % KINDS == kind_of(lists["item_id"])).mean())


def test_users_of_columns_alone_get_lists_of_their_taste(both, alone, place):
    """The most popular items are of one kind as often as of another."""
    new = people(range(KNOWN, USERS))
    for run in (both, alone):
        model = recsys.load(run)
        lists = model.recommend(new, k=5)
        assert len(lists) == 5 * len(new) and own_share(lists) > 0.9
        assert len(model.unknown(new)) == 0
        told = {row.pop("user_id"): row for row in new.to_dicts()}
        assert model.recommend(told, k=5).equals(lists)
        short = model.recommend(new, k=5, granularity=4)
        assert own_share(short) > 0.9
    popular = recsys.load("popularity", data=place / "data").recommend(
        histories={each: ["i0"] for each in new["user_id"]}, k=5
    )
    assert own_share(popular) < 0.5
    # Nothing is known of a town alone.
    town = recsys.load(alone).recommend(new.select("user_id", "town"), k=5)
    assert own_share(town) < 0.6


def test_new_items_are_found_by_their_features(both, place):
    table = recsys.evaluate(both, ks=[10], protocol="global-time")
    assert table.value("recall", 10, run="both", segment="cold") > 0.9
    assert table.value("recall", 10, run="popularity", segment="cold") < 0.3
    without = recsys.evaluate(both, ks=[10], without=["kind", "shade"], with_baselines=False)
    assert without.value("recall", 10, segment="cold") < 0.6
    vectors = recsys.vectors_for_new_items(both, {"kind": [["a"], ["b"]]})
    _, users = recsys.load(both).user_vectors(people([80, 81]))
    scores = users @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T
    assert (scores.argmax(axis=1) == [0, 1]).all()


def test_the_bundle_makes_users_of_columns_as_the_model_does(both, shelf, place):
    model, bundle = recsys.load(both), recsys.load(shelf)
    new, history = people(range(78, USERS)), {"u90": ["i1", "i5"], "someone": ["i2"]}
    cases = [
        {"users": new},  # two of them are known, and as they were
        {"users": new.with_columns(age=None).drop("town")},
        {"histories": history},
        {"users": new, "histories": history},  # u90 of both, the others of columns
        {"users": {"x": {"club": ["c1", "all", "never heard of"], "age": 41.0}}},
    ]
    for case in cases:
        wanted, found = (each.user_vectors(**case) for each in (model, bundle))
        assert wanted[0].to_list() == found[0].to_list()
        np.testing.assert_allclose(found[1], wanted[1], atol=1e-4)
        lists = [each.recommend(**case, k=6).drop("score") for each in (model, bundle)]
        assert lists[0].equals(lists[1]) and len(lists[0]) == 6 * len(wanted[0])
    # Who is known and has no history here stays as he is: what he has had is not forgotten.
    for each in (model, bundle):
        plain = each.recommend(["u78"], k=6)["item_id"].to_list()
        beside = each.recommend(users=new, histories=history, k=6)
        assert beside.filter(pl.col("user_id") == "u78")["item_id"].to_list() == plain
        nothing = new.head(1).with_columns(club=None, age=None, town=None)
        beside = each.recommend(users=nothing, histories=history, k=6)
        assert beside.filter(pl.col("user_id") == "u78")["item_id"].to_list() == plain
    guests = model.user_vectors(histories=history)[1]
    told = model.user_vectors(users=new, histories=history)[1]
    assert np.abs(guests[0] - told[0]).max() > 0.01
    assert recsys.verify(shelf) > 0
    again = recsys.export(shelf, place / "again", tiers="0:4:fp32:ram")
    np.testing.assert_allclose(
        BundleEngine(load_bundle(again)).columns.added(new),
        BundleEngine(load_bundle(shelf)).columns.added(new),
    )
    short = recsys.load(again).user_vectors(new)[1]
    assert short.shape == (len(new), 4)


def test_a_bundle_of_columns_alone_has_no_tower_and_answers_columns(alone, place):
    recsys.export(alone, place / "columns", tiers="0:8:fp32:ram")
    bundle, new = recsys.load(place / "columns"), people(range(KNOWN, USERS))
    wanted = recsys.load(alone).recommend(new, k=5)["item_id"]
    assert bundle.recommend(new, k=5)["item_id"].equals(wanted)
    with pytest.raises(DataError, match="has no user tower"):
        bundle.recommend(histories={"a": ["i1"]})
    served = Served(place / "columns" / "current", verify=True, threads=1, shared=False)
    answering = Answering(Stock(served), Limits(), lambda *_: None)
    told, untold = (
        answering.recommend([RecommendRequest(history=["i1"], user_columns=columns)])[0]
        for columns in ({"club": "c1"}, {"club": None})
    )
    assert told["source"] == "columns"  # its history tells this bundle nothing
    assert isinstance(untold, DataError) and "has no user tower" in str(untold)


def test_the_server_answers_columns_as_the_library_does(shelf, place):
    served = Served(shelf / "current", verify=True, threads=1, shared=False)
    answering = Answering(Stock(served), Limits(), lambda *_: None)
    new, history = people(range(KNOWN, KNOWN + 4)), {"u81": ["i1", "i5"]}
    wanted = recsys.load(shelf).recommend(new, histories=history, k=4)
    requests = []
    for row in new.to_dicts():
        user = row.pop("user_id")
        who = {"history": history[user]} if user in history else {}
        who |= {"user": user} if user == "u82" else {}
        requests.append(RecommendRequest(user_columns=row, k=4, **who))
    answers = answering.recommend(requests)
    assert [answer["source"] for answer in answers] == ["columns", "history", "columns", "columns"]
    order = ["u81", "u80", "u82", "u83"]  # histories come first
    lists = {user: part["item_id"].to_list() for (user,), part in wanted.group_by("user_id")}
    assert sorted(lists) == sorted(order)
    for user, answer in zip(new["user_id"], answers, strict=True):
        assert [item["item_id"] for item in answer["items"]] == lists[user]
    scored = answering.score([ScoreRequest(user_columns={"club": "c1"}, items=["i1", "i2"])])[0]
    first, second = (item["score"] for item in scored["items"])
    assert scored["source"] == "columns" and first > second
    refused = answering.recommend([RecommendRequest(user_columns={"height": 3})])[0]
    assert isinstance(refused, DataError) and "reads club, town, age of users" in str(refused)
    for told in ({"club": None}, {"club": "never heard of"}, {"club": [], "town": ""}, {}):
        nothing = answering.recommend([RecommendRequest(user_columns=told)])[0]
        assert nothing["source"] == "popularity"


REFUSED = {
    "another column": ({"users": {"x": {"height": 3}}}, "has the column height"),
    "no columns": ({"users": {"x": 3}}, "the columns of user 'x' are 3"),
    "a word for a number": ({"users": {"x": {"age": "old"}}}, "age of user 'x' is 'old'"),
    "words in a frame": (
        {"users": pl.DataFrame({"user_id": ["x"], "age": ["old"]})}, "age of the users holds 'old'",
    ),
    "a history of nothing": ({"histories": {"x": []}}, "1 of 1 histories hold no known item"),
    "nobody": ({}, "say for whom"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_told_of_a_user_is_refused(what, both):
    given, text = REFUSED[what]
    with pytest.raises(DataError, match=text):
        recsys.load(both).recommend(**given)


@pytest.fixture(scope="module")
def untrained():
    """What an untrained model makes of columns."""
    frame = pl.DataFrame({"club": ["c1", "c1", "c2", "c2"], "age": [20.0, 30.0, 40.0, 50.0]})
    tree = {"columns": {"categories": ["club"], "numbers": ["age"]}}
    config = FeatureTowersConfig.model_validate(tree | {"granularities": {"sizes": [2, 4]}})
    features = user_features(frame, config.columns, "a test")
    return column_users_of(FeatureTowers(config, 5, user_features=features).eval())


HUGE = {"whole": 10**400, "float": 1e300, "text": "1e300", "negative": -1e39}


@pytest.mark.parametrize("value", HUGE.values(), ids=HUGE.keys())
def test_a_number_beyond_32_bits_is_refused_of_that_user_alone(value, untrained):
    """Later it would be refused with all requests that are answered together."""
    with pytest.raises(DataError, match=r"age of the user is .* a finite number is expected"):
        untrained.row({"age": value}, "the user")


@pytest.mark.parametrize("value", [{"c1"}, object(), {"c1": 1}])
def test_what_is_no_category_is_refused(value, untrained):
    with pytest.raises(DataError, match=r"club of the user is .* a text or a list of texts"):
        untrained.row({"club": value}, "the user")


SAYS_NOTHING = [
    {"age": [math.nan]},
    {"club": ["never heard of"]},
    {"club": [" "], "age": [None]},
    {"club": [[]]},
    {"club": [["never heard of", None]]},
]


@pytest.mark.parametrize("told", SAYS_NOTHING)
def test_columns_that_say_nothing_are_as_none(told, untrained):
    read = read_users(pl.DataFrame({"user_id": ["new"], **told}), untrained)
    assert told_of(read.columns).tolist() == [False]
    row = {name: value for name, (value,) in told.items() if value == value}
    assert set(untrained.row(row, "the user").values()) <= {None}
    known = pl.DataFrame({"user_id": ["a", "b"], "club": ["c2| never heard of", "c1"]})
    assert read_users(known, untrained).columns["club"].to_list() == [["c2"], ["c1"]]


def test_columns_for_a_model_that_reads_none_are_refused(place):
    model = recsys.load("popularity", data=place / "data")
    with pytest.raises(DataError, match="this model reads none"):
        model.recommend({"x": {"club": "c1"}})
    with pytest.raises(DataError, match="and not both"):
        model.recommend(people([90]), histories={"u90": ["i1"]})
    lists = model.recommend(people([1, 90]), k=3)  # a frame names users, whatever else it holds
    assert lists["user_id"].unique().to_list() == ["u1"]


def test_files_of_users_are_taken_by_the_verb(both, place):
    from recsys.library.verb import recommend

    new = people(range(KNOWN, USERS))
    new.write_csv(place / "new.csv")
    found = recommend(both, place / "lists.parquet", users=place / "new.csv", k=5)
    wanted = recsys.load(both).recommend(new, k=5)["item_id"]
    assert pl.read_parquet(found)["item_id"].equals(wanted)
    table = pl.DataFrame({"user_id": ["u90"], "item_id": [["i1", "i5"]]})
    table.write_parquet(place / "had.parquet")
    given = {"users": place / "new.csv", "histories": place / "had.parquet"}
    found = recommend(both, place / "more.parquet", k=5, **given)
    assert pl.read_parquet(found)["user_id"].n_unique() == len(new)


def test_a_part_that_is_missing_is_learned_to_be_missing(both, place):
    """Histories of nobody known, known users without their history, and nobody at all."""
    model = recsys.load_run(both).model
    with torch.inference_mode():
        none = np.empty(0, np.int32)
        nobody = model.user_vectors(Histories(np.array([-1]), none, np.array([0, 0])))
        torch.testing.assert_close(model.column_users()[1], nobody[0])
        items = np.array([0, 1, 2, 3], np.int32)
        guests = Histories(np.full(2, -1), items, np.array([0, 2, 4]))
        tower, vectors = model.user_tower(), model.item_vectors()[:4].view(2, 2, -1)
        torch.testing.assert_close(tower(vectors, torch.tensor([2, 2])), model.user_vectors(guests))
        members = Histories(np.arange(8), none, np.zeros(9, np.int64))
        assert not torch.allclose(model.user_vectors(members), nobody)
    # Both parts are nested: a prefix is made of prefixes.
    matrix = tower.matrix
    assert (matrix[:4, 4:] == 0).all() and (matrix[4:, :4] != 0).any()


def test_other_columns_of_users_than_those_of_training_are_refused(alone, place):
    path = place / "data" / "users.parquet"
    users = path.read_bytes()
    manifest = json.loads((place / "data" / "dataset.json").read_text())
    frame = pl.read_parquet(path)
    changes = {
        "with hash": frame.with_columns(club=pl.col("club").reverse()),
        "have no column club": frame.drop("club"),
    }
    try:
        for text, changed in changes.items():
            changed.write_parquet(path)
            sizes = manifest | {"files": manifest["files"] | {"users.parquet": _entry(path)}}
            (place / "data" / "dataset.json").write_text(json.dumps(sizes))
            with pytest.raises((RunError, ConfigError), match=text):
                recsys.load_run(alone)
    finally:
        path.write_bytes(users)
        (place / "data" / "dataset.json").write_text(json.dumps(manifest))
    assert recsys.load_run(alone).model is not None


def _entry(path):
    import hashlib

    data = path.read_bytes()
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def of_columns(num_items=6):
    """An untrained model of four users of columns and six items of features; two items are not
    trained.
    """
    people = pl.DataFrame({"club": ["c1", "c1", "c2", "c2"], "age": [20.0, 30.0, 40.0, 50.0]})
    config = FeatureTowersConfig.model_validate(
        {
            "columns": {"categories": ["club"], "numbers": ["age"]},
            "items": {"features": ["price"]},
            "history": False,
            "granularities": {"sizes": [2, 4]},
        }
    )
    prices = NumericFeature(np.arange(num_items, dtype=np.float32), np.ones(num_items, bool))
    model = FeatureTowers(
        config, num_items,
        features=ItemFeatures(num_items, {}, {}, {"price": prices}, ""),
        user_features=user_features(people, config.columns, "a test"),
    ).eval()  # fmt: skip
    model.table.note_trained(np.arange(num_items) % 3)
    return model


def test_a_full_softmax_over_trained_items_has_what_the_user_has_among_them():
    """As over all items, and as pair by pair."""
    torch.manual_seed(0)
    model, items = of_columns(), np.array([1, 4, 5, 2], np.int32)
    had = Histories(np.array([0, 2]), items, np.array([0, 3, 4]))
    found = model.loss(Batch(had, items.astype(np.int64)), None)
    users, vectors, trained = model.user_vectors(had), model.item_vectors(), [1, 2, 4, 5]
    for g, size in enumerate((2, 4)):
        u, v = (normalize(x[:, :size], dim=1) for x in (users, vectors))
        scores = model.scales()[g] * u @ v.T
        losses = [
            scores[user, trained].logsumexp(0) - scores[user, item]
            for user, item in zip([0, 0, 0, 1], items.tolist(), strict=True)
        ]
        torch.testing.assert_close(found.per_granularity[g], torch.stack(losses).mean().detach())


CONFIGS = {
    "users of nothing": ({"history": False}, "users are made of nothing"),
    "views of one feature": ({"views": {}, "items": {"features": ["kind"]}}, "two features"),
    "views without features": ({"views": {}}, "two features or more"),
    "no column": ({"columns": {}}, "no column of the users is named"),
    "a column twice": ({"columns": {"categories": ["age"], "numbers": ["age"]}}, "named twice"),
    "the id": ({"columns": {"categories": ["user_id"]}}, "'user_id' cannot be a column"),
    "a name of networks": ({"items": {"features": ["values"]}}, "keep for themselves"),
    "another one": ({"columns": {"categories": ["type"]}}, "keep for themselves"),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_a_config_that_cannot_be_is_refused(what):
    given, text = CONFIGS[what]
    with pytest.raises(ValidationError, match=text):
        FeatureTowersConfig.model_validate(given)


COLUMN_ERRORS = {
    "height": ({"numbers": ["height"]}, "have no column height; they have club, age, town"),
    "club": ({"numbers": ["club"]}, "column club of the users .* is no finite number"),
    "town": ({"categories": ["town"], "min_count": 60}, "no category of at least 60 users"),
}


@pytest.mark.parametrize("what", COLUMN_ERRORS)
def test_columns_that_the_users_do_not_have_are_refused_at_the_door(what, place, tmp_path):
    columns, text = COLUMN_ERRORS[what]
    with pytest.raises((ConfigError, DataError), match=text):
        recsys.train(RunConfig.model_validate(tree(place, columns=columns)), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_funnels_are_measured_of_it_and_it_is_gone_on_with(both, place):
    assert recsys.tradeoff(both, ["keeps=[10]"]).choice is not None
    out = recsys.update(
        both, place / "data", ["trainer.epochs=1", "fit_on=train+valid"], out=place / "on"
    )
    assert own_share(recsys.load(out).recommend(people(range(KNOWN, USERS)), k=5)) > 0.8


def test_a_study_compares_its_prefixes_with_widths_of_their_own(place):
    settings = tree(place, columns=COLUMNS)
    settings["trainer"] |= {"epochs": 2, "validate_every": 2}
    (place / "run.yaml").write_text(yaml.safe_dump(settings))
    given = {"run": str(place / "run.yaml"), "seeds": [0], "methods": ["nested", "separate"]}
    (place / "study.yaml").write_text(yaml.safe_dump(given | {"num_resamples": 100}))
    found = study(place / "study.yaml", out=place / "study").content.summary
    assert {"nested", "separate"} <= set(found["method"])


def test_new_items_are_calibrated_on_the_validation_part(place):
    later = {"name": "global-time", "valid_quantile": 0.85, "test_quantile": 0.95}
    settings = tree(place, items=ITEM_PARTS) | {"split": later}
    settings["trainer"] |= {"epochs": 1, "validate_every": 1}
    run = recsys.train(RunConfig.model_validate(settings), out=place / "uncalibrated")
    found = recsys.calibrate(run, place / "calibrated", steps=20)
    told = recsys.load_run(found).info["calibrated"]
    assert told["after"] < told["before"]
