"""Splits of a budget of bytes: what is counted, what is found, what is never spent."""

import numpy as np
import pytest

from recsys.errors import ConfigError
from recsys.evaluation.tradeoff.bits import WAYS, spend
from recsys.evaluation.tradeoff.funnels import measure_tiers
from recsys.evaluation.tradeoff.sweep import Queries
from recsys.evaluation.tradeoff.tier_scans import TierScans
from recsys.retrieval.bundle.tiers import TierSpec, parse_tiers
from recsys.retrieval.codecs.registry import encode
from recsys.retrieval.filters import make_filters

N, B, EDGES = 1500, 40, (4, 8, 16)


def vectors(rows, seed, decay=0.2):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, 24)) * np.geomspace(2, decay, 24)).astype(np.float32)


def queries(filtered=False):
    seen = np.random.default_rng(2).integers(0, N, 5 * B), np.arange(0, 5 * B + 1, 5)
    return Queries(vectors(B, 1), make_filters(B, N, seen=seen if filtered else None), None, None)


def scans_of(normalize=False, filtered=False, keep=20, edges=EDGES):
    users = queries(filtered)
    return TierScans(vectors(N, 0), normalize, users, edges=edges, keep=keep, k=10, threads=1)


@pytest.mark.parametrize("normalize", [False, True])
def test_recall_is_that_of_a_naive_scan_of_what_is_stored(normalize):
    tiers = parse_tiers("0:4:int8:ram,4:16:int2:ram", 24)
    found = scans_of(normalize, filtered=True).recalls(tiers)
    items, q = vectors(N, 0), queries(filtered=True)
    stored = np.hstack([encode(items[:, t.lo : t.hi], t.codec).decode() for t in tiers])
    for row, user in enumerate(q.users.astype(np.float64)):
        exact, near = items @ user, stored @ user[:16]
        if normalize:
            exact /= np.linalg.norm(items.astype(np.float64), axis=1)
            near /= np.linalg.norm(stored.astype(np.float64), axis=1)
        seen = q.filters.seen[q.filters.offsets[row] : q.filters.offsets[row + 1]]
        exact[seen] = near[seen] = -np.inf
        first, kept = np.argsort(-exact)[:10], np.argsort(-near)[:20]
        assert found[row] == pytest.approx(len(set(first) & set(kept)) / 10)


def test_bytes_are_codes_scales_codebooks_and_norms():
    tiers = parse_tiers("0:4:int8:ram,4:16:pq6x4:ram", 24)
    codebooks = 6 * 16 * 2 * 4 / N
    assert scans_of().nbytes(tiers) == pytest.approx(4 + 4 + 3 + codebooks)
    assert scans_of(normalize=True).nbytes(tiers) == pytest.approx(4 + 4 + 3 + codebooks + 4)
    assert scans_of().least_bytes(tiers) == 4 + 4 + 3


@pytest.mark.parametrize("codec", ["pq8x4", "pq16x4", "pq4", "pq4x4", "int2"])
def test_codes_learned_by_bucket_are_those_of_the_whole_tier(codec):
    tier = TierSpec(0, 16, codec, "ram")
    by_bucket, at_once = (scans_of(edges=edges)._tier(tier).vectors for edges in (EDGES, ()))
    assert at_once.rows.keys() == by_bucket.rows.keys()
    for name, array in at_once.rows.items():
        np.testing.assert_array_equal(array, by_bucket.rows[name])
    np.testing.assert_array_equal(at_once.decode(), by_bucket.decode())


def test_encoded_tiers_are_held_within_a_limit(monkeypatch):
    monkeypatch.setattr("recsys.evaluation.tradeoff.tier_scans._READY", 0)
    scans = scans_of()
    for codec in ("fp16", "fp32", "bf16", "int8"):
        scans.recalls([TierSpec(0, 16, codec, "ram")])
    # As many bytes as the vectors, or one tier: 64 + 32 + 20 bytes an item is more than 96.
    assert [tier.codec for tier in scans._ready] == ["bf16", "int8"]


@pytest.fixture(scope="module")
def bought():
    return spend(scans_of(normalize=True, keep=12), EDGES, [9, 11, 13])


def test_a_split_stays_within_its_budget_and_finds_at_least_what_one_codec_finds(bought):
    for each in bought:
        for found in (each.split, each.single):
            assert found.nbytes <= each.budget
            assert found.recall == scans_of(normalize=True, keep=12).recalls(found.tiers).mean()
        assert each.split.recall >= each.single.recall and len(each.single.tiers) == 1
    recalls = [each.split.recall for each in bought]
    assert recalls == sorted(recalls) and recalls[0] < recalls[-1]


def test_first_coordinates_that_matter_most_get_the_most_bits(bought):
    tiers = bought[1].split.tiers
    bits = [8 * scans_of().least_bytes([tier]) / (tier.hi - tier.lo) for tier in tiers]
    assert len(tiers) > 1 and bits == sorted(bits, reverse=True)
    assert bought[1].split.recall > bought[1].single.recall + 0.01


def test_no_single_codec_over_a_prefix_within_the_budget_finds_more(bought):
    scans, most = scans_of(normalize=True, keep=12), 0.0
    for hi in (*EDGES, 12):
        learned = [f"pq{hi // 4}", f"pq{hi // 4}x4", f"pq{hi // 2}x4", f"pq{hi}x4"]
        for codec in ("fp16", "int8", "int4", "int2", *learned):
            tiers = [TierSpec(0, hi, codec, "ram")]
            if scans.nbytes(tiers) <= 11:
                most = max(most, scans.recalls(tiers).mean())
    assert bought[1].single.recall == most


def test_of_few_items_no_codebooks_are_learned():
    few = vectors(15, 0)
    users = Queries(vectors(B, 1), make_filters(B, 15), None, None)
    scans = TierScans(few, False, users, edges=EDGES, keep=5, k=3, threads=1)
    (each,) = spend(scans, EDGES, [12])
    assert {tier.codec for tier in each.split.tiers} <= {way for way in WAYS if way[:2] != "pq"}


def test_parts_that_do_not_divide_a_bucket_are_not_tried():
    (each,) = spend(scans_of(edges=(3, 7)), (3, 7), [10])
    assert each.split.nbytes <= 10 and each.split.tiers[-1].hi in (3, 7)


def test_funnels_over_a_split_are_measured_like_those_of_a_sweep():
    layout = parse_tiers("0:4:int8:ram,4:12:int4:ram,12:24:fp32:mmap", 24)
    found = measure_tiers(vectors(N, 0), (8, 24), False, queries(), [layout], N, k=10, threads=1)
    (point,) = found.points
    assert (point.granularity, point.codec, point.ranking) == (12, "int8+int4", 24)
    assert point.hot_bytes == (4 + 4) + (4 + 4) and point.cold_bytes == 12 * 4
    assert found.exact.kept == 1 and 0.5 < point.kept < 1  # ranked by what is stored


@pytest.mark.parametrize("edges", [(), (8, 4), (4, 4), (0, 4), (4, 24)])
def test_buckets_that_cannot_be_are_refused(edges):
    with pytest.raises(ConfigError, match="ascending numbers of coordinates from 1 to 23"):
        spend(scans_of(), edges, [10])


def test_budgets_and_candidates_that_are_too_few_are_refused():
    with pytest.raises(ConfigError, match=r"0\.5 bytes an item store not even the first 4"):
        spend(scans_of(), EDGES, [0.5])
    with pytest.raises(ConfigError, match="9 candidates cannot give lists of 10"):
        scans_of(keep=9)
