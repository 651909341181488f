"""Users of several vectors in bundles and funnels."""

import json
from dataclasses import replace

import numpy as np
import pytest

from recsys.errors import ConfigError, DataError
from recsys.retrieval.bundle.loading import load_bundle
from recsys.retrieval.bundle.manifest import MANIFEST, seal
from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.writing import write_bundle
from recsys.retrieval.filters import make_filters, rows_of
from recsys.retrieval.funnel import Funnel, Stage
from recsys.retrieval.interests import together
from recsys.retrieval.routing import Routing
from recsys.serving.rebundle import source_of_bundle
from tests.retrieval import bundles

INTERESTS = 3
FLOATS = "0:8:fp32:ram,8:32:fp32:mmap"


def source(normalize=False, **options):
    made = bundles.source(normalize=normalize, **options)
    several = bundles.vectors(INTERESTS * len(made.users.ids), seed=9).reshape(-1, INTERESTS, 32)
    several = several * np.array([0.2, 1, 5], np.float32)[:, None]
    return replace(made, users=replace(made.users, vectors=several), interests=INTERESTS)


@pytest.fixture(scope="module", params=[False, True], ids=["dot", "cosine"])
def bundle(request, tmp_path_factory):
    place = tmp_path_factory.mktemp("interests") / "bundle"
    write_bundle(place, source(request.param), parse_tiers(FLOATS, 32))
    return load_bundle(place)


def dense(bundle, users, size):
    users, items = users[..., :size].astype(float), bundle.items.decode(slice(None), 0, size)
    if bundle.normalize:
        users = users / np.linalg.norm(users, axis=2, keepdims=True)
        items = items / np.linalg.norm(items, axis=1, keepdims=True)
    return np.einsum("bkd,nd->bkn", users, items.astype(float)).max(axis=1)


def wanted(scores, seen, k):
    scores = scores.copy()
    rows = np.repeat(np.arange(len(scores)), np.diff(seen[1]))
    scores[rows, seen[0]] = -np.inf
    return np.lexsort((np.broadcast_to(np.arange(scores.shape[1]), scores.shape), -scores))[:, :k]


@pytest.mark.parametrize(
    "stages",
    [[(32, 10)], [(8, 300), (32, 10)], [(4, 300), (16, 300), (32, 10)], [(8, 40), (16, 10)]],
)
def test_a_funnel_that_keeps_all_is_exact_search_by_the_best_interest(bundle, stages):
    users, seen = bundle.user_vectors(slice(None), 32), bundle.seen
    filters = make_filters(len(users), bundle.num_items, seen=seen)
    found = Funnel(bundle, [Stage(*stage) for stage in stages]).search(users, filters=filters)
    size = stages[-1][0]
    scores = dense(bundle, users, size)
    if stages[0][1] < 300:  # keeps the best by the first prefix, of all interests together
        kept = wanted(dense(bundle, users, stages[0][0]), seen, stages[0][1])
        rows = np.arange(len(users))[:, None]
        among = np.full_like(scores, -np.inf)
        among[rows, kept] = scores[rows, kept]
        scores = among
    np.testing.assert_array_equal(found.items, wanted(scores, seen, 10))
    told = np.take_along_axis(scores, found.items, axis=1)
    np.testing.assert_allclose(found.scores, told, rtol=1e-4, atol=1e-5)
    assert (found.widths == size).all()


def test_few_users_at_once_find_what_all_find(bundle, monkeypatch):
    users, filters = bundle.user_vectors(slice(None), 32), make_filters(20, 300, seen=bundle.seen)
    funnel = Funnel(bundle, [Stage(8, 50), Stage(32, 10)])
    whole = funnel.search(users, filters=filters)
    monkeypatch.setattr("recsys.retrieval.funnel._SCORED", 1)
    one = funnel.search(users, filters=filters)
    np.testing.assert_array_equal(whole.items, one.items)
    some = np.array([3, 0, 7])
    few = funnel.search(users[some], filters=rows_of(filters, some))
    np.testing.assert_array_equal(few.items, whole.items[some])


def test_filters_and_what_was_had_before_hold_for_all_interests(bundle):
    users = bundle.user_vectors(np.arange(5), 32)
    offsets = np.array([0, 1, 2, 3, 4, 5])
    had = Funnel(bundle, [Stage(32, 1)]).search(users).items[:, 0]
    funnel, allowed = Funnel(bundle, [Stage(8, 300), Stage(32, 300)]), np.arange(0, 300, 2)
    hidden = funnel.search(users, filters=make_filters(5, 300, seen=(had, offsets)))
    assert not (hidden.items == had[:, None]).any()
    only = funnel.search(users, filters=make_filters(5, 300, allowed=allowed, blocked=had))
    assert set(only.items[only.items >= 0].tolist()) == set(allowed) - set(had.tolist())
    again = make_filters(5, 300, seen=(had, offsets), repeats={8: 3.0, 32: 7.0})
    found = funnel.search(users, filters=again)
    np.testing.assert_array_equal(found.items[:, 0], had)
    best = dense(bundle, users, 32)[np.arange(5), had]
    np.testing.assert_allclose(found.scores[:, 0], best + 7, rtol=1e-4)
    empty = make_filters(5, 300, seen=(had, offsets), repeats={})
    np.testing.assert_array_equal(funnel.search(users, filters=empty).items[:, 0], had)


def test_one_interest_of_three_dimensions_is_the_user_of_two(tmp_path):
    place = tmp_path / "bundle"
    write_bundle(place, bundles.source(), parse_tiers(FLOATS, 32))
    opened = load_bundle(place)
    users = opened.user_vectors(slice(None), 32)
    funnel = Funnel(opened, [Stage(8, 50), Stage(32, 10)])
    flat, deep = funnel.search(users), funnel.search(users[:, None])
    np.testing.assert_array_equal(flat.items, deep.items)
    np.testing.assert_array_equal(flat.scores, deep.scores)


def test_users_that_are_to_stop_early_and_users_of_no_shape_are_refused(bundle):
    users = bundle.user_vectors(slice(None), 32)
    routed = Funnel(bundle, [Stage(8, 50), Stage(32, 10)], routing=Routing((0.5,)))
    with pytest.raises(ConfigError, match="the scores of one vector, and these have 3"):
        routed.search(users)
    funnel = Funnel(bundle, [Stage(32, 10)])
    with pytest.raises(DataError, match="shape"):
        funnel.search(users[None])
    broken = users.copy()
    broken[1, 2, 3] = np.nan
    with pytest.raises(DataError, match="NaN or infinite values in row 5"):
        funnel.search(broken)


@pytest.mark.parametrize("form", ["raw", "safetensors", "parquet"])
def test_a_bundle_gives_back_the_vectors_of_each_user(form, tmp_path):
    made = source()
    write_bundle(tmp_path / "bundle", made, parse_tiers("0:32:fp32:ram", 32), form=form)
    opened = load_bundle(tmp_path / "bundle")
    assert opened.interests == INTERESTS and len(opened.users) == 60
    np.testing.assert_array_equal(opened.user_vectors(slice(None), 32), made.users.vectors)
    some = np.array([7, 2])
    np.testing.assert_array_equal(opened.user_vectors(some, 8), made.users.vectors[some, :, :8])
    again = source_of_bundle(opened, with_users=True)
    np.testing.assert_array_equal(again.users.vectors, made.users.vectors)
    assert again.interests == INTERESTS


def test_readers_of_one_vector_a_user_refuse_it_and_the_other_form_has_not_changed(tmp_path):
    tiers = parse_tiers(FLOATS, 32)
    one, three = (
        json.loads((write_bundle(tmp_path / name, made, tiers) / MANIFEST).read_text())
        for name, made in (("one", bundles.source()), ("three", source()))
    )
    assert one["schema_version"] == 1 and "interests" not in one
    assert three["schema_version"] == 2 and three["interests"] == INTERESTS
    folder = load_bundle(tmp_path / "three").folder
    for changed in ({"schema_version": 1}, {"interests": 1}):
        (folder / MANIFEST).write_text(json.dumps(three | changed))
        seal(folder)
        with pytest.raises(DataError, match="vectors a user, which do not fit"):
            load_bundle(tmp_path / "three", verify=False)


def test_vectors_and_their_number_must_fit(tmp_path):
    for made in (replace(source(), interests=2), replace(bundles.source(), interests=2)):
        with pytest.raises(DataError, match="2 vectors each"):
            write_bundle(tmp_path / "bundle", made, parse_tiers(FLOATS, 32))


def test_what_interests_find_together_is_distinct():
    items = np.array([[5, 2, -1], [2, 9, 5], [-1, -1, -1], [4, -1, 4]])
    np.testing.assert_array_equal(together(items, 2), [[9, 5, 2], [4, -1, -1]])
