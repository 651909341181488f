"""Every store gives the lists of the funnel, whatever the scores, ids and histories are."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import recsys
from recsys.errors import DataError
from recsys.retrieval.bundle.loading import load_bundle
from recsys.stores.checking import check_store
from recsys.stores.plan import make_plan
from recsys.stores.pushing import version_for, write_version
from recsys.stores.store import Query, open_store
from tests.stores.bundles import NUM_ITEMS, params, strange_ids, with_history, write


def pushed(store, opened, plan=None):
    """An open store that holds a bundle."""
    plan = plan or make_plan(opened, "16:100,32")
    version = version_for(store, "items", plan)
    write_version(store, version, opened)
    return version


@pytest.mark.parametrize("kind", ["bundle", "cosine_bundle"])
@pytest.mark.parametrize("store", params())
def test_lists_are_those_of_the_funnel_score_by_score(store, kind, target, request):
    shelf = request.getfixturevalue(kind)
    done = recsys.push(shelf, target(store), stages="16:60,32", check=30)
    assert done.checked.identical == done.checked.agreeing == done.checked.num_users == 30
    assert done.checked.agreeing_scores == done.checked.num_scores == 300
    assert done.checked.holds and done.switched and done.written == NUM_ITEMS


@pytest.mark.parametrize("store", params())
def test_lists_of_trained_vectors_are_those_of_the_funnel(store, trained, target):
    done = recsys.push(trained, target(store), check=100)
    assert done.checked.agreeing == done.checked.num_users >= 20 and done.checked.num_scores >= 200
    assert done.switched


@pytest.mark.parametrize("store", params())
def test_ids_of_any_text_are_filtered_and_found(store, tmp_path, target):
    ids = strange_ids()
    odd = list(range(8))
    opened = with_history(tmp_path / "bundle", odd, item_ids=ids)
    store = open_store(target(store), "items")
    version = pushed(store, opened)
    user = opened.users.decode(np.array([0]), 0, 32)[0]
    ranked = store.rank(version, Query(user, []), ids[:8].to_list())
    assert sorted(item for item, _ in ranked) == sorted(ids[:8])
    assert check_store(store, version, opened, 5).identical == 5
    none_had = store.search(version, Query(user, []), 100)
    assert len(none_had) == 100
    without = store.search(version, Query(user, [item for item, _ in none_had[:50]]), 10)
    assert not {item for item, _ in without} & {item for item, _ in none_had[:50]}
    store.close()


@pytest.mark.parametrize("store", params())
def test_ids_may_be_whole_numbers_and_columns_of_any_kind_go_along(store, tmp_path, target):
    numbers = pl.Series(np.arange(NUM_ITEMS)[::-1] * 7 + 10**12)
    opened = load_bundle(write(tmp_path / "bundle", item_ids=numbers))
    plan = make_plan(opened)
    told = pl.DataFrame(
        {
            "title": ['Amélie\'s "film"', None] * (NUM_ITEMS // 2),
            "genres": [["drama", "it's"], []] * (NUM_ITEMS // 2),
            "year": pl.Series([1999, None] * (NUM_ITEMS // 2), dtype=pl.Int16),
            "price": [9.5, None] * (NUM_ITEMS // 2),
            "new": [True, None] * (NUM_ITEMS // 2),
        }
    )
    plan = replace(plan, items=pl.concat([plan.items, told], how="horizontal"))
    store = open_store(target(store), "items")
    version = pushed(store, opened, plan)
    assert check_store(store, version, opened, 30).identical == 30
    store.close()


@pytest.mark.parametrize("store", params())
def test_what_a_user_had_comes_again_with_its_bias(store, tmp_path, target):
    source = {"repeats": {4: 1.0, 32: 2.5}, "protocol": {"filter_seen": False}}
    shelf = write(tmp_path / "bundle", **source)
    done = recsys.push(shelf, target(store), stages="16:60,32", check=30)
    assert done.checked.identical == 30 and done.switched
    repeats = load_bundle(shelf).manifest.repeats
    assert repeats == source["repeats"]


@pytest.mark.parametrize("store", params("pgvector", "lancedb", "faiss", "usearch", "milvus"))
def test_a_graph_finds_most_and_scores_stay_exact(store, bundle, target):
    done = recsys.push(bundle, target(store), stages="16:100,32", check=30, index="hnsw")
    assert done.checked.found > 0.9 and not done.checked.wrong_scores and done.switched


@pytest.mark.parametrize("store", params("sqlite-vec"))
def test_a_history_longer_than_the_neighbours_sqlite_vec_finds_is_filtered(store, tmp_path, target):
    shelf = write(tmp_path / "bundle", num_items=4500)
    opened = load_bundle(shelf)
    store = open_store(target(store), "items")
    version = pushed(store, opened)
    user = opened.users.decode(np.array([0]), 0, 32)[0]
    seen = version.plan.items["item_id"][: 4500 - 20].to_list()
    hits = store.search(version, Query(user, seen), 10)
    scores = opened.items.decode(slice(4480, 4500), 0, 32) @ user
    best = 4480 + np.argsort(-scores)[:10]
    assert [item for item, _ in hits] == [f"i{row}" for row in best]
    assert [score for _, score in hits] == pytest.approx(np.sort(scores)[::-1][:10], abs=1e-4)
    store.close()


@pytest.mark.parametrize("store", params())
def test_a_list_ends_where_nothing_is_left(store, tmp_path, target):
    opened = with_history(tmp_path / "bundle", list(range(NUM_ITEMS - 3)))
    store = open_store(target(store), "items")
    version = pushed(store, opened)
    found = check_store(store, version, opened, 5)
    assert found.holds and found.num_scores == 15
    store.close()


@pytest.mark.parametrize("store", params("duckdb"))
def test_a_bundle_without_users_cannot_be_checked(store, tmp_path, target):
    shelf = write(tmp_path / "bundle", users=None)
    assert recsys.push(shelf, target(store)).switched
    with pytest.raises(DataError, match="no histories"):
        recsys.push(shelf, target(store), check=5)
