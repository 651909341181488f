"""The scan: every stored prefix is scored, threads and filters change nothing of what is found."""

import numpy as np
import pytest

from recsys.retrieval.bundle.tiers import Tier, Tiers, TierSpec
from recsys.retrieval.codecs.registry import encode
from recsys.retrieval.filters import make_filters, rows_of
from recsys.retrieval.scan import FEW, Scan
from tests.retrieval.bundles import vectors


def tiers_of(items, codec="int8"):
    spec = TierSpec(0, items.shape[1], codec, "ram")
    return Tiers((Tier(spec, encode(items, codec)),))


@pytest.mark.parametrize("codec", ["fp32", "int8", "int8-coordinate", "int4"])
@pytest.mark.parametrize(
    ("size", "num_items", "keep"), [(4, 300, 300), (32, 5000, 50), (100, 3000, 7)]
)
@pytest.mark.parametrize("cosine", [False, True])
def test_a_scan_finds_the_best_stored_scores(codec, size, num_items, keep, cosine):
    tiers, users = tiers_of(vectors(num_items, 100, 1), codec), vectors(25, 100, 2)
    stored = tiers.decode(slice(None), 0, size)
    norms = np.linalg.norm(stored, axis=1).astype(np.float32) if cosine else None
    rng = np.random.default_rng(size)
    seen = (rng.integers(0, num_items, 75), np.arange(26) * 3)
    blocked = rng.integers(0, num_items, 5)
    scores = users[:, :size].astype(np.float64) @ stored.T.astype(np.float64)
    scores /= 1 if norms is None else norms
    prefix = np.ascontiguousarray(users[:, :size])
    for filters, gone in (
        (make_filters(25, num_items), np.zeros((25, 0), np.int64)),
        (
            make_filters(25, num_items, seen=seen, blocked=blocked),
            np.concatenate([seen[0].reshape(25, 3), np.tile(blocked, (25, 1))], axis=1),
        ),
    ):
        shown = scores.copy()
        np.put_along_axis(shown, gone, -np.inf, axis=1)
        found = Scan(tiers, size, norms, 1).find(prefix, keep, filters)
        np.testing.assert_array_equal(
            np.sort(found, axis=1),
            np.sort(Scan(tiers, size, norms, 3).find(prefix, keep, filters), 1),
        )
        for row in range(25):
            got = found[row][found[row] >= 0]
            assert (
                len(set(got.tolist())) == len(got) == min(keep, int(np.isfinite(shown[row]).sum()))
            )
            best = np.sort(shown[row])[::-1][: len(got)]
            np.testing.assert_allclose(np.sort(shown[row, got])[::-1], best, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("codec", ["fp32", "fp16", "bf16", "int8", "int8-coordinate"])
@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("size", [16, 48])
def test_few_users_get_what_many_get_to_the_last_item(codec, cosine, size):
    rows = vectors(40_000, 64, 1)
    rows[1::2] = np.nextafter(rows[::2], np.float32(9))  # many scores are all but equal
    tiers, users = tiers_of(rows, codec), vectors(FEW + 1, 64, 2)[:, :size]
    stored = tiers.decode(slice(None), 0, size)
    norms = np.linalg.norm(stored, axis=1).astype(np.float32) if cosine else None
    rng = np.random.default_rng(size)
    seen = (rng.integers(0, len(rows), 3 * len(users)), np.arange(len(users) + 1) * 3)
    filters = make_filters(len(users), len(rows), seen=seen, blocked=np.arange(0, 40_000, 7))
    users = np.ascontiguousarray(users)
    many = Scan(tiers, size, norms, 1).find(users, 30, filters)
    for threads in (1, 2):
        for count in (1, FEW):
            own = np.arange(count)
            few = Scan(tiers, size, norms, threads).find(users[own], 30, rows_of(filters, own))
            np.testing.assert_array_equal(np.sort(few, 1), np.sort(many[own], 1))
