"""The trade-off: figures against naive search, bytes and work worked by hand, the front."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from recsys.errors import ConfigError, DataError, GranularityError
from recsys.evaluation.bootstrap import paired_difference
from recsys.evaluation.tradeoff.funnels import measure
from recsys.evaluation.tradeoff.sweep import (
    Point,
    Queries,
    Sweep,
    choose,
    mark_best,
    tiers_of,
)
from recsys.retrieval.bundle.unwritten_tiers import InMemory
from recsys.retrieval.filters import make_filters
from recsys.retrieval.funnel import Stage
from recsys.retrieval.index.building import build_index, tune_index

N, B, K = 200, 40, 10
SIZES = (4, 8, 16)


def vectors(rows, seed):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, 16)) * np.geomspace(2, 0.3, 16)).astype(np.float32)


def queries(with_truth=True, filtered=False):
    users, rng = vectors(B, 1), np.random.default_rng(2)
    seen = rng.integers(0, N, B * 3), np.arange(0, 3 * B + 1, 3)
    filters = make_filters(B, N, seen=seen if filtered else None)
    if not with_truth:
        return Queries(users, filters, None, None)
    scores = users @ vectors(N, 0).T + rng.standard_normal((B, N))
    return Queries(users, filters, np.argmax(scores, axis=1), np.arange(B + 1))


def sweep(**changes):
    tree = {"granularities": (4,), "codecs": ("fp32",), "indexes": ("scan",), "keeps": (50,)}
    return Sweep.model_validate({**tree, "rankings": (16,), "ranking_codec": "fp32", **changes})


def naive(q, keep):
    """recall@10 and ndcg@10 of candidates by 4 coordinates, ranked by 16."""
    items, users = vectors(N, 0).astype(float), q.users.astype(float)
    recalls, gains = [], []
    for row in range(B):
        hidden = q.filters.seen[q.filters.offsets[row] : q.filters.offsets[row + 1]]
        shown = [i for i in range(N) if i not in hidden]
        kept = sorted(shown, key=lambda i: -(users[row, :4] @ items[i, :4]))[:keep]
        ranked = sorted(kept, key=lambda i: -(users[row] @ items[i]))[:K]
        place = ranked.index(q.targets[row]) + 1 if q.targets[row] in ranked else None
        recalls.append(place is not None)
        gains.append(1 / np.log2(place + 1) if place else 0)
    return np.mean(recalls), np.mean(gains)


@pytest.mark.parametrize("filtered", [False, True])
def test_quality_is_that_of_a_naive_two_stage_search(filtered):
    q = queries(filtered=filtered)
    found = measure(vectors(N, 0), SIZES, False, q, sweep(keeps=(20, 50)), threads=1)
    _, full = naive(q, N)
    assert found.exact.ndcg == pytest.approx(full) and found.exact.kept == 1
    for point, keep in zip(found.points, (20, 50), strict=True):
        recall, ndcg = naive(q, keep)
        assert (point.recall, point.ndcg) == pytest.approx((recall, ndcg))
        assert point.kept == pytest.approx(ndcg / full)


def test_keeping_everything_overlaps_exact_search_wholly():
    found = measure(vectors(N, 0), SIZES, True, queries(False), sweep(keeps=(N,)), threads=1)
    assert found.points[0].overlap == found.points[0].kept == 1
    assert found.points[0].ndcg is None and found.exact.recall is None


def test_bytes_and_work_are_those_worked_by_hand():
    q, items = queries(), vectors(N, 0)
    settings = sweep(codecs=("int8",), rankings=(8, 16), ranking_codec="fp16")
    short, full = measure(items, SIZES, False, q, settings, threads=1).points
    assert short.hot_bytes == full.hot_bytes == 4 + 4
    assert (short.cold_bytes, full.cold_bytes) == (4 * 2, 12 * 2)
    assert short.multiply_adds == N * 4 + 50 * 4 + 50 * 4
    assert full.multiply_adds == N * 4 + 50 * 4 + 50 * 12
    exact = measure(items, SIZES, False, q, settings, threads=1).exact
    assert (exact.hot_bytes, exact.cold_bytes) == (64, 0)
    assert (exact.multiply_adds, exact.work_share, exact.hot_share) == (N * 16, 1, 1)
    assert full.work_share == (N * 4 + 50 * 4 + 50 * 12) / (N * 16) and full.hot_share == 8 / 64


def test_an_index_replaces_the_hot_tier():
    q = queries()
    scanned, indexed = measure(
        vectors(N, 0), SIZES, False, q, sweep(indexes=("scan", "flat,sq8")), threads=1
    ).points
    assert scanned.index == "scan" and indexed.index == "flat,sq8"
    assert indexed.cold_bytes == scanned.cold_bytes + 16
    assert indexed.kept == pytest.approx(scanned.kept, abs=0.1)
    assert indexed.ms_single > 0 and indexed.ms_batch > 0


def test_half_of_the_candidates_go_on_at_each_granularity_between():
    settings = sweep(granularities=(4, 8), cascades=("direct", "halving"), keeps=(50,))
    found = measure(vectors(N, 0), SIZES, False, queries(), settings, threads=1)
    # Nothing lies between 8 and 16: both ways are the same funnel.
    ways = [(p.granularity, p.cascade) for p in found.points]
    assert ways == [(4, "direct"), (4, "halving"), (8, "direct")]
    direct, halving = found.points[:2]
    assert direct.multiply_adds == N * 4 + 50 * 4 + 50 * 12
    assert halving.multiply_adds == N * 4 + 50 * 4 + 50 * 4 + 25 * 8
    stages = [(stage.granularity, stage.keep) for stage in halving.stages(SIZES, K)]
    assert stages == [(4, 50), (8, 25), (16, K)]


def test_the_work_of_an_index_is_what_it_visits_and_what_is_scanned_where_it_falls_short():
    q, items = queries(), vectors(N, 0)
    # Every second user has had what is near, so that the lists hold fewer than are to be given.
    near = np.argsort(-(q.users[:, :4] @ items[:, :4].T), axis=1)[::2, :90]
    seen = near.ravel(), np.append(0, np.cumsum(np.arange(B) % 2 == 0)) * 90
    q = replace(q, filters=make_filters(B, N, seen=seen))
    settings = sweep(indexes=("ivf",), index_recall=0.01, keeps=(70,))
    point = measure(items, SIZES, False, q, settings, threads=1).points[0]
    memory = InMemory(items, tiers_of(4, 16, "fp32", "fp32", "ivf"), SIZES, normalize=False)
    index = build_index(memory, "ivf", 4, threads=1)
    tune_index(memory, index, [Stage(4, 70), Stage(16, K + 1)], 0.01, q.users)
    centroids = index.inner.quantizer.reconstruct_n(0, index.inner.nlist)
    own = np.argmax(items[:, :4] @ centroids.T, axis=1)
    cosines = q.users[:, :4] @ centroids.T / np.linalg.norm(q.users[:, :4], axis=1)[:, None]
    within = cosines >= cosines.max(axis=1)[:, None] - index.search["margin"] / 1000
    visited = [set(np.flatnonzero(row[own])) for row in within]
    hidden = [set(q.filters.seen[lo:hi]) for lo, hi in pairwise(q.filters.offsets)]
    short = np.mean([len(v - h) < K + 1 for v, h in zip(visited, hidden, strict=True)])
    assert 0 < short < 1
    first = len(centroids) * 4 + np.mean([len(v) for v in visited]) * 4 + short * N * 4
    assert point.multiply_adds == pytest.approx(first + 70 * 4 + 70 * 12)


def test_every_combination_is_a_point_once():
    settings = sweep(
        granularities=(4, 8), codecs=("fp16", "int8"), keeps=(20, 500, 900), rankings=(8, 16)
    )
    found = measure(vectors(N, 0), SIZES, True, queries(), settings, threads=1)
    labels = {(p.granularity, p.codec, p.keep, p.ranking) for p in found.points}
    # 500 and 900 are both the whole catalogue; 8 is not ranked by 8.
    assert len(found.points) == len(labels) == 2 * 2 * (2 + 1)


def point(kept, hot, work):
    return Point(
        granularity=4, codec="int8", index="scan", keep=50, ranking=16, cascade="direct",
        recall=None, ndcg=None, kept=kept, overlap=kept, hot_bytes=hot, cold_bytes=0,
        multiply_adds=work, hot_share=hot / 64, work_share=work / 100, ms_single=0, ms_batch=0,
    )  # fmt: skip


def test_the_front_is_what_nothing_beats():
    points = [point(0.9, 8, 5), point(0.9, 8, 6), point(0.99, 16, 9), point(0.95, 20, 9)]
    assert [p.best for p in mark_best(points)] == [True, False, True, False]
    twins = mark_best([point(0.9, 8, 5), point(0.9, 8, 5)])
    assert all(p.best for p in twins)


def banded(kept, hot, low, high, surely=None, overlap=0.9):
    surely = low if surely is None else surely
    bands = {"kept_low": low, "kept_high": high, "surely": surely, "overlap": overlap}
    return replace(point(kept, hot, 5), **bands)


def test_the_cheapest_funnel_that_surely_keeps_the_floor_is_chosen():
    points = [
        banded(1.02, 4, 0.97, 1.05), banded(1.01, 8, 1.0, 1.02, surely=0.985),
        banded(0.999, 16, 0.992, 1.001), banded(1.0, 64, 1.0, 1.0), banded(0.9, 2, 0.88, 0.92),
    ]  # fmt: skip
    choice = choose(points, 0.99)
    assert choice.point is points[2] and choice.sure
    assert choice.undecided == 2, "of the first two it cannot be told whether they keep as much"


def test_where_funnels_cannot_be_told_apart_the_one_most_like_exact_search_is_taken():
    points = [
        banded(1.02, 4, 0.97, 1.05, overlap=0.8), banded(0.99, 16, 0.96, 1.01, overlap=0.99),
        banded(1.0, 32, 0.97, 1.02, overlap=0.99), banded(0.9, 2, 0.88, 0.92, overlap=1.0),
    ]  # fmt: skip
    choice = choose(points, 0.99)
    assert choice.point is points[1] and not choice.sure and choice.undecided == 1


def test_nothing_is_chosen_where_every_interval_lies_below_the_floor():
    assert choose([banded(0.9, 4, 0.88, 0.92), banded(0.95, 8, 0.94, 0.97)], 0.99) is None


def test_what_is_kept_has_the_paired_interval_of_both_searches():
    q = queries()
    found = measure(vectors(N, 0), SIZES, False, q, sweep(keeps=(20,)), threads=1)
    point, exact = found.points[0], measure(
        vectors(N, 0), SIZES, False, q, sweep(keeps=(N,)), threads=1
    )  # fmt: skip
    known = paired_difference(gains_of(q, N), gains_of(q, 20))
    assert (point.kept_low, point.kept_high) == pytest.approx((known.ratio_low, known.ratio_high))
    assert point.kept_low < point.kept < point.kept_high
    # Lists that are all the same lose nothing in any resample; one more user still could.
    assert (exact.points[0].kept_low, exact.points[0].kept_high) == (1, 1)
    assert 0.5 < exact.points[0].surely < 1


def gains_of(q, keep):
    """`[B]` ndcg@10 of candidates by 4 coordinates, ranked by 16."""
    items, gains = vectors(N, 0).astype(float), []
    for user, target in zip(q.users.astype(float), q.targets, strict=True):
        kept = sorted(range(N), key=lambda i: -(user[:4] @ items[i, :4]))[:keep]
        ranked = sorted(kept, key=lambda i: -(user @ items[i]))[:K]
        gains.append(1 / np.log2(ranked.index(target) + 2) if target in ranked else 0)
    return np.array(gains)


def test_users_who_choose_are_not_those_who_measure():
    one, other = queries(filtered=True).halves()
    assert len(one) == len(other) == B // 2
    whole = queries(filtered=True)
    np.testing.assert_array_equal(one.users, whole.users[::2])
    np.testing.assert_array_equal(other.targets, whole.targets[1::2])
    assert other.filters.seen.tolist() == [
        item for row in range(1, B, 2)
        for item in whole.filters.seen[whole.filters.offsets[row] : whole.filters.offsets[row + 1]]
    ]  # fmt: skip
    with pytest.raises(DataError, match="there is only one user"):
        Queries(one.users[:1], make_filters(1, N), None, None).halves()


def test_an_exact_search_that_finds_nothing_has_nothing_to_keep():
    q = replace(queries(), targets=np.argmin(vectors(B, 1) @ vectors(N, 0).T, axis=1))
    with pytest.raises(DataError, match="finds no target of these 40 users"):
        measure(vectors(N, 0), SIZES, False, q, sweep(), threads=1)


def test_a_trade_off_has_the_ndcg_of_the_evaluator_where_items_are_scored_alike():
    items = np.repeat(np.round(vectors(N // 4, 0)), 4, axis=0)  # whole numbers: ties are exact
    users = np.round(vectors(B, 1))
    scores = users @ items.T
    order = np.argsort(-scores, axis=1, kind="stable")
    targets = order[np.arange(B), np.random.default_rng(0).integers(0, 12, B)]
    ranks = (scores >= scores[np.arange(B), targets][:, None]).sum(axis=1)
    expected = np.where(ranks <= K, 1 / np.log2(ranks + 1), 0).mean()
    q = replace(queries(), users=users, targets=targets)
    found = measure(items, SIZES, False, q, sweep(keeps=(K, N)), threads=1)
    assert found.exact.ndcg == pytest.approx(expected)
    assert found.points[1].ndcg == pytest.approx(expected)  # keeps every item


def test_sweeps_that_cannot_be_are_refused():
    def run(**changes):
        measure(vectors(N, 0), SIZES, False, queries(), sweep(**changes), threads=1)

    with pytest.raises(GranularityError, match="5 is not among"):
        run(granularities=(5,))
    with pytest.raises(ConfigError, match="codec 'int7'"):
        run(codecs=("int7",))
    with pytest.raises(ConfigError, match="index 'tree'"):
        run(indexes=("tree",))
    with pytest.raises(ConfigError, match="5 candidates cannot give lists of 10"):
        run(keeps=(5, 50))
