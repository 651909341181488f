"""Faiss indexes as a first stage: recall by measuring, filters, saved in the bundle."""

import numpy as np
import polars as pl
import pytest

from recsys.errors import ConfigError, DataError
from recsys.retrieval.bundle import load_bundle, verify_bundle
from recsys.retrieval.filters import make_filters
from recsys.retrieval.funnel import Funnel, Stage
from recsys.retrieval.index import FaissIndex, build_index, check_kind, recall_of, tune
from recsys.retrieval.indexing import index_of, make_index, measuring_users, open_index, prefixes
from recsys.retrieval.tiers import parse_tiers
from recsys.retrieval.writing import BundleSource, write_bundle
from tests.retrieval.bundles import TIERS, source, vectors, write

N = 1000
KINDS = ["flat", "flat,sq8", "flat,pq4", "ivf", "ivf,sq8", "ivf,pq8", "hnsw", "hnsw,sq8"]


@pytest.fixture(scope="module", params=[False, True], ids=["dot", "cosine"])
def bundle(request, tmp_path_factory):
    folder, _ = write(
        tmp_path_factory.mktemp("index") / "a", num_items=N, num_users=200, normalize=request.param
    )
    return load_bundle(folder)


def exact(bundle, users, size, k):
    scores = users[:, :size] @ prefixes(bundle, size).T
    return np.argsort(-scores, axis=1)[:, :k]


@pytest.mark.parametrize("kind", ["ivf", "ivf,sq8", "hnsw", "hnsw,sq8"])
def test_a_recall_target_is_reached_on_users_it_was_not_tuned_on(bundle, kind):
    index, reached = make_index(bundle, kind, 16, 0.95, measuring_users(bundle), threads=1)
    assert reached >= 0.95
    users = np.ascontiguousarray(vectors(100, 32, 77)[:, :16])
    found = index.find(users, 100, make_filters(100, N))
    assert recall_of(found, exact(bundle, users, 16, 100)) > 0.9


def test_a_higher_target_visits_more(bundle):
    users, queries = np.ascontiguousarray(vectors(50, 32, 7)[:, :16]), measuring_users(bundle)
    low, high = (make_index(bundle, "ivf", 16, t, queries, threads=1)[0] for t in (0.5, 0.99))
    assert low.search["nprobe"] < high.search["nprobe"]
    assert low.multiply_adds(users, 10) < high.multiply_adds(users, 10) < N * 16
    graph, _ = make_index(bundle, "hnsw", 16, 0.5, queries, threads=1)
    assert graph.multiply_adds(users, 10) < graph.multiply_adds(users, 300)
    flat, reached = make_index(bundle, "flat", 16, None, queries, threads=1)
    assert flat.multiply_adds(users, 10) == N * 16 and reached is None


def test_tuning_stops_at_what_coarse_codes_can_reach(bundle):
    index, reached = make_index(bundle, "ivf,pq4", 16, 0.999, measuring_users(bundle), threads=1)
    assert 0.3 < reached < 0.999
    queries = np.ascontiguousarray(measuring_users(bundle)[:, :16])
    index.search["nprobe"] = index.inner.nlist
    everything = index.find(queries, 100, make_filters(len(queries), N))
    assert recall_of(everything, exact(bundle, queries, 16, 100)) == pytest.approx(
        reached, abs=0.002
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_funnel_over_an_index_scores_as_one_over_the_tiers(bundle, kind):
    users = vectors(20, 32, 5)
    index = build_index(prefixes(bundle, 8), kind, threads=1)
    if index.search:
        tune(index, np.ascontiguousarray(users[:, :8]), exact(bundle, users, 8, 100), 1.0)
    stages = [Stage(8, 300), Stage(32, 10)]
    found = Funnel(bundle, stages, finder=index, threads=1).search(users)
    wanted = Funnel(bundle, stages, threads=1).search(users)
    same = found.items == wanted.items
    assert same.mean() > (0.6 if "pq" in kind else 0.97)
    np.testing.assert_allclose(found.scores[same], wanted.scores[same], rtol=1e-6)


@pytest.mark.parametrize("kind", ["flat,sq8", "ivf,sq8", "hnsw"])
def test_lists_stay_full_under_any_filter(bundle, kind):
    rng = np.random.default_rng(0)
    index = build_index(prefixes(bundle, 8), kind, threads=1)  # nprobe 1: it finds very little
    users = vectors(12, 32, 6)
    lengths = rng.integers(0, 400, 12)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    seen = rng.integers(0, N, offsets[-1])
    for limits in ({}, {"allowed": rng.choice(N, 60, False)}, {"blocked": np.arange(N - 30)}):
        filters = make_filters(12, N, seen=(seen, offsets), **limits)
        funnel = Funnel(bundle, [Stage(8, 50), Stage(32, 20)], finder=index, threads=1)
        found = funnel.search(users, None, filters)
        left = np.minimum(filters.num_left(N), 20)
        assert ((found.items >= 0).sum(1) == left).all()
        for row in range(12):
            shown = set(found.items[row][found.items[row] >= 0].tolist())
            assert not shown & set(seen[offsets[row] : offsets[row + 1]].tolist())
            assert shown <= set(limits.get("allowed", range(N)))
            assert not shown & set(limits.get("blocked", []))


def test_the_index_travels_in_the_bundle(tmp_path):
    made = source(num_items=N, num_users=100)
    folder = write_bundle(
        tmp_path / "out", made, parse_tiers(TIERS, 32), additions=[index_of("ivf,sq8", 8, 0.9)]
    )
    bundle = load_bundle(folder)
    entry = bundle.manifest.index
    assert (entry.kind, entry.granularity) == ("ivf,sq8", 8) and entry.recall >= 0.9
    index = open_index(bundle, threads=1)
    assert index.search == entry.search and index.nbytes == entry.nbytes
    users = np.ascontiguousarray(vectors(100, 32, 3)[:, :8])
    found = index.find(users, 100, make_filters(100, N))
    assert recall_of(found, exact(bundle, users, 8, 100)) > 0.85
    data = (folder / entry.file).read_bytes()
    (folder / entry.file).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert verify_bundle(folder) == ["index.faiss is not what was written (its sha256 differs)"]


@pytest.mark.parametrize(
    "kind, told, not_told",
    [
        ("flat,pq1", "choose finer codes (flat,sq8, or flat alone), or a lower --recall", "ivf"),
        ("hnsw,sq8", "choose hnsw alone, which rounds nothing, or a lower --recall", "pq"),
        ("ivf,int8", "choose ivf alone, which rounds nothing, or a lower --recall", "pq"),
    ],
)
def test_an_index_that_cannot_reach_its_target_is_told_what_of_its_kind_could(
    tmp_path, kind, told, not_told
):
    """Items so close together that rounding mixes them up."""
    items = 1 + np.random.default_rng(0).normal(0, 1e-3, (N, 8)).astype(np.float32)
    made = BundleSource(items, pl.Series(range(N)), (8,))
    tiers = parse_tiers("0:8:fp32:ram", 8)
    with pytest.raises(DataError, match="reaches recall") as error:
        write_bundle(tmp_path / "out", made, tiers, additions=[index_of(kind, 8, 1)])
    assert told in str(error.value) and not_told not in str(error.value).partition("choose")[2]
    assert not list((tmp_path / "out").glob("v*"))


@pytest.mark.parametrize("recall", [0, -0.1, 1.01, float("nan")])
def test_a_recall_that_is_no_share_is_refused(recall):
    with pytest.raises(ConfigError, match="recall is"):
        index_of("ivf", 8, recall)


def test_recall_is_counted_row_by_row():
    found = np.array([[3, 1, -1], [5, 6, 7]])
    assert recall_of(found, np.array([[1, 2], [7, 5]])) == pytest.approx(0.75)
    assert recall_of(found, np.array([[5, -1], [5, -1]])) == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["tree", "flat,int8", "ivf,int4", "hnsw,", "ivf,pq5"])
def test_an_unknown_kind_is_refused(kind):
    with pytest.raises(ConfigError, match="index"):
        check_kind(kind, 16)


def test_a_bundle_without_an_index_says_so(bundle):
    with pytest.raises(DataError, match="has no index"):
        open_index(bundle)
    with pytest.raises(DataError, match="too few"):
        build_index(vectors(100, 8), "flat,pq2")
    assert isinstance(build_index(vectors(100, 8), "hnsw"), FaissIndex)
