"""Inverted lists scanned by list: what is found, whoever multiplies, whatever is filtered."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import DataError
from recsys.retrieval.amx import have_tiles
from recsys.retrieval.bundle import load_bundle, verify_bundle
from recsys.retrieval.filters import make_filters
from recsys.retrieval.funnel import Funnel, Stage
from recsys.retrieval.indexing import index_of, make_index, measuring_users, open_index, prefixes
from recsys.retrieval.inverted import KIND, Inverted, build_inverted, load_inverted, shape_of
from recsys.retrieval.list_scan import by_list, choose
from recsys.retrieval.tiers import parse_tiers
from recsys.retrieval.writing import write_bundle
from tests.retrieval.bundles import source, vectors

WAYS = [pytest.param(True, marks=pytest.mark.skipif(not have_tiles(), reason="no tiles")), False]


def built(items, nprobe=None, *, tiled=False, threads=1):
    index = build_inverted(lambda rows: items[rows], len(items), threads=1)
    index.search["nprobe"] = nprobe or index.limit
    index.tiled, index.threads = tiled, threads
    return index


def scores_of(index, users, items):
    """`[B, N]` as bytes multiply, one by one."""
    peaks = np.abs(items).max(axis=1)
    codes = np.rint(items / peaks[:, None] * 127).astype(np.int64)
    own = np.rint(users / np.abs(users).max(axis=1, keepdims=True) * 127).astype(np.int64)
    return (own @ codes.T).astype(np.float32) * (peaks / 127)


def owners_of(index):
    """`[N]` which list each item stands in, and that each stands in one."""
    owners = np.full(index.num_items, -1)
    for number, (start, size) in enumerate(
        zip(index.arrays["starts"], index.arrays["sizes"], strict=True)
    ):
        inside = index.arrays["ids"][16 * start : 16 * start + size]
        assert (owners[inside] == -1).all()
        owners[inside] = number
    assert (owners >= 0).all()
    return owners


def test_items_stand_in_the_list_of_their_best_centroid_but_for_rounding():
    items = vectors(3000, 32, 1)
    index = built(items)
    scores, owners = items @ index.arrays["centroids"].T, owners_of(index)
    assert (scores.argmax(axis=1) == owners).mean() > 0.9
    lost = scores.max(axis=1) - scores[np.arange(3000), owners]
    assert (lost <= 0.02 * np.linalg.norm(items, axis=1)).all()


@pytest.mark.parametrize("tiled", WAYS)
@pytest.mark.parametrize(("num_items", "dim"), [(70, 8), (1000, 32), (3000, 96), (700, 100)])
def test_all_lists_together_hold_the_best_scores(num_items, dim, tiled):
    items, users = vectors(num_items, dim, 1), vectors(53, dim, 2)
    index = built(items, tiled=tiled)
    scores, filters = scores_of(index, users, items), make_filters(53, num_items)
    for keep, threads in ((1, 1), (30, 1), (30, 3), (num_items, 2)):
        index.threads = threads
        found = index.find(users, keep, filters)
        assert all(len(set(row)) == keep for row in found.tolist())
        np.testing.assert_array_equal(
            np.sort(np.take_along_axis(scores, found, axis=1), axis=1),
            np.sort(scores, axis=1)[:, num_items - keep :],
        )


@pytest.mark.parametrize("tiled", WAYS)
def test_only_the_lists_with_the_best_centroids_are_visited(tiled):
    items, users = vectors(2000, 32, 3), vectors(20, 32, 4)
    index = built(items, 5, tiled=tiled, threads=2)
    found = index.find(users, 40, make_filters(20, 2000))
    centroids = index.arrays["centroids"]
    owners = owners_of(index)
    scores = scores_of(index, users, items)
    for row in range(20):
        best = np.argsort(-(users[row] @ centroids.T))[:5]
        inside = np.where(np.isin(owners, best), scores[row], -np.inf)
        wanted = np.sort(inside)[::-1][:40]
        got = np.sort(inside[found[row][found[row] >= 0]])[::-1]
        np.testing.assert_array_equal(got, wanted[np.isfinite(wanted)])


@pytest.mark.skipif(not have_tiles(), reason="no tiles")
@settings(max_examples=15, deadline=None)
@given(st.integers(1, 260), st.integers(1, 40), st.integers(1, 70), st.integers(0, 99))
def test_tiles_and_plain_code_find_the_same(num_items, dim, num_users, seed):
    items, users = vectors(num_items, dim, seed), vectors(num_users, dim, seed + 1)
    keep, filters = min(7, num_items), make_filters(num_users, num_items)
    index = built(items, tiled=True)
    scores = scores_of(index, users, items)
    best = [np.sort(np.take_along_axis(scores, index.find(users, keep, filters), 1), 1)]
    index.tiled = False
    best.append(np.sort(np.take_along_axis(scores, index.find(users, keep, filters), 1), 1))
    np.testing.assert_array_equal(*best)


@pytest.mark.parametrize("tiled", WAYS)
def test_a_batch_finds_what_each_of_its_users_finds(tiled):
    items, users = vectors(1500, 24, 5), vectors(33, 24, 6)
    index = built(items, 6, tiled=tiled)
    whole = np.sort(index.find(users, 25, make_filters(33, 1500)), axis=1)
    for row in range(33):
        alone = index.find(users[[row]], 25, make_filters(1, 1500))
        np.testing.assert_array_equal(np.sort(alone[0]), whole[row])


@pytest.mark.parametrize("tiled", WAYS)
def test_filtered_items_make_room_for_others(tiled):
    items, users = vectors(900, 16, 7), vectors(9, 16, 8)
    index, rng = built(items, tiled=tiled), np.random.default_rng(0)
    offsets = np.arange(10) * 200
    seen = rng.integers(0, 900, 1800)
    blocked = rng.integers(0, 900, 50)
    filters = make_filters(9, 900, seen=(seen, offsets), blocked=blocked)
    found = index.find(users, 30, filters)
    scores = scores_of(index, users, items)
    for row in range(9):
        gone = np.concatenate([seen[offsets[row] : offsets[row + 1]], blocked])
        assert not set(found[row].tolist()) & set(gone.tolist())
        left = np.delete(scores[row], np.unique(gone))
        np.testing.assert_array_equal(np.sort(scores[row, found[row]]), np.sort(left)[-30:])


def test_all_lists_and_all_items_kept_equal_an_exact_search(tmp_path):
    made = source(num_items=500, num_users=40, normalize=True)
    tiers = parse_tiers("0:32:fp32:mmap", 32)
    folder = write_bundle(tmp_path / "a", made, tiers, additions=[index_of(KIND, 8, None)])
    bundle, users = load_bundle(folder), vectors(40, 32, 9)
    index = open_index(bundle, threads=2)
    assert isinstance(index, Inverted)
    index.search["nprobe"] = index.limit
    found = Funnel(bundle, [Stage(8, 500), Stage(32, 10)], finder=index, threads=2).search(users)
    scores = users @ (made.items / np.linalg.norm(made.items, axis=1, keepdims=True)).T
    np.testing.assert_array_equal(found.items, np.argsort(-scores, axis=1)[:, :10])


def test_it_is_tuned_saved_verified_and_read_again(tmp_path):
    made = source(num_items=2000, num_users=100)
    folder = write_bundle(
        tmp_path / "a", made, parse_tiers("0:8:int8:mmap,8:32:fp16:mmap", 32),
        additions=[index_of(KIND, 8, 0.9)],
    )  # fmt: skip
    bundle = load_bundle(folder)
    entry = bundle.manifest.index
    assert (entry.kind, entry.granularity) == (KIND, 8) and entry.recall >= 0.9
    index, reached = make_index(bundle, KIND, 8, 0.9, measuring_users(bundle), threads=1)
    again = open_index(bundle, threads=1)
    assert again.search == entry.search == index.search and reached == entry.recall
    assert again.nbytes == entry.nbytes and again.num_items == 2000
    assert index.multiply_adds(prefixes(bundle, 8)[:9], 10) < 2000 * 8 + 8 * index.limit
    users = np.ascontiguousarray(vectors(30, 32, 3)[:, :8])
    filters = make_filters(30, 2000)
    np.testing.assert_array_equal(index.find(users, 20, filters), again.find(users, 20, filters))
    path = folder / entry.file
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    assert verify_bundle(folder) == [f"{entry.file} is not what was written (its sha256 differs)"]
    path.write_bytes(b"x")
    with pytest.raises(DataError, match="holds no lists"):
        load_inverted(path, {"nprobe": 1})


def test_lists_are_chosen_by_score_and_grouped_by_list():
    rng = np.random.default_rng(0)
    scores = rng.permutation(40 * 5).reshape(5, 40).astype(np.float32)
    order = np.argsort(-scores, axis=1)
    chosen = np.empty((5, 12), np.int32)
    choose((0, 5), scores, 3, chosen)
    for row in range(5):
        assert set(chosen[row]) == set(order[row, :12])
        assert set(chosen[row, :3]) == set(order[row, :3])
    edges, visitors = np.empty(41, np.int64), np.empty(60, np.int32)
    by_list(chosen, edges, visitors)
    for number in range(40):
        wanted = np.flatnonzero((chosen == number).any(axis=1))
        np.testing.assert_array_equal(visitors[edges[number] : edges[number + 1]], wanted)


def test_coordinates_are_cut_into_equal_pieces_that_tiles_can_take():
    assert [shape_of(dim) for dim in (3, 8, 64, 96, 100, 128, 256)] == [
        (1, 4), (1, 8), (1, 64), (2, 48), (2, 52), (2, 64), (4, 64),
    ]  # fmt: skip
