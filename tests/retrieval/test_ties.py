"""Rows that are alike: one score to the last bit wherever they stand, and the first ones win."""

import numpy as np
import pytest

from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.unwritten_tiers import InMemory
from recsys.retrieval.codecs.registry import CODECS
from recsys.retrieval.filters import make_filters
from recsys.retrieval.funnel import Funnel, Stage
from recsys.retrieval.scan import Scan
from tests.retrieval.bundles import vectors


def bundle_of(items, tiers, normalize=False):
    return InMemory(items, parse_tiers(tiers, items.shape[1]), (8, 11, 32), normalize=normalize)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("normalize", [False, True])
def test_items_all_alike_are_found_in_their_order(codec, normalize):
    items = np.tile(vectors(1), (2 * 2048 + 5, 1))
    for tiers in (f"0:32:{codec}:ram", f"0:8:{codec}:ram,8:32:{codec}:ram"):
        bundle = bundle_of(items, tiers, normalize)
        for stages in ([Stage(32, 60)], [Stage(8, 70), Stage(32, 60)]):
            found = Funnel(bundle, stages, threads=2).search(vectors(7, seed=3))
            assert (found.items == np.arange(60)).all()
            assert (found.scores == found.scores[:, :1]).all()


@pytest.mark.parametrize("codec", CODECS)
def test_equal_rows_among_others_have_equal_scores(codec):
    items = np.repeat(vectors(400, 11), 3, axis=0)[np.random.default_rng(0).permutation(1200)]
    bundle = InMemory(items, parse_tiers(f"0:11:{codec.replace('pq', 'pq1')}:ram", 11), (11,),
                      normalize=False)  # fmt: skip
    found = Funnel(bundle, [Stage(11, 1200)], threads=2).search(vectors(9, 11, seed=3))
    for row in range(9):
        scores = np.empty(1200, np.float32)
        scores[found.items[row]] = found.scores[row]
        _, same = np.unique(items, axis=0, return_inverse=True)
        for group in range(400):
            assert len(set(scores[same.ravel() == group].tolist())) == 1


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("normalize", [False, True])
def test_a_shorter_list_is_the_beginning_of_a_longer_one_to_the_last_bit(codec, normalize):
    rows = vectors(3000)
    # Neighbours that no sum in another order could tell apart for sure.
    rows[1::2] = np.nextafter(rows[::2], np.float32(9))
    bundle = bundle_of(rows, f"0:32:{codec}:ram", normalize)
    users = vectors(40, seed=3)
    whole = Funnel(bundle, [Stage(32, 500)], threads=2).search(users)
    for keep in (1, 10, 50):
        found = Funnel(bundle, [Stage(32, keep)], threads=2).search(users)
        np.testing.assert_array_equal(found.items, whole.items[:, :keep])
        np.testing.assert_array_equal(found.scores, whole.scores[:, :keep])
    for row in (0, 17):
        alone = Funnel(bundle, [Stage(32, 50)], threads=1).search(users[row : row + 1])
        np.testing.assert_array_equal(alone.items[0], whole.items[row, :50])
        np.testing.assert_array_equal(alone.scores[0], whole.scores[row, :50])


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e15])
def test_the_slack_of_a_scan_holds_what_another_order_of_sums_does(factor):
    items, users = vectors(2000) * np.float32(factor), vectors(50, seed=3)
    bundle = bundle_of(items, "0:32:fp32:ram")
    scan = Scan(bundle.items, 32, None, 1)
    exact = users.astype(np.float64) @ items.T.astype(np.float64)
    for order in (slice(None), slice(None, None, -1)):
        sums = np.zeros((50, 2000), np.float32)
        for c in np.arange(32)[order]:
            sums += users[:, c, None] * items[:, c]
        assert (np.abs(sums - exact).max(1) * 2 <= scan.slack_of(users)).all()
    found = scan.find(users, 100, make_filters(50, 2000))
    wanted = np.argsort(-exact, axis=1)[:, :100]
    assert np.mean([len(set(a) & set(b)) for a, b in zip(found, wanted, strict=True)]) > 99.9
