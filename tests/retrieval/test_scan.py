"""The scan: kernels with and without matrix tiles, samples, threads, filters; one answer."""

import numpy as np
import pytest

from recsys.retrieval.amx import have_tiles
from recsys.retrieval.codecs import encode
from recsys.retrieval.filters import make_filters
from recsys.retrieval.scan import Scan
from recsys.retrieval.tiers import Tier, Tiers, TierSpec
from recsys.retrieval.tile_scan import sample_of
from recsys.retrieval.tiles import depth_of, pack_users
from tests.retrieval.bundles import vectors

needs_tiles = pytest.mark.skipif(not have_tiles(), reason="this processor has no int8 tiles")


def tiers_of(items, codec="int8"):
    spec = TierSpec(0, items.shape[1], codec, "ram")
    return Tiers((Tier(spec, encode(items, codec)),))


def found_by(tiers, size, norms, users, keep, filters, *, tiled, threads=1):
    scan = Scan(tiers, size, norms, threads)
    scan.tiled = tiled
    return np.sort(scan.find(np.ascontiguousarray(users[:, :size]), keep, filters), axis=1)


@needs_tiles
@pytest.mark.parametrize("codec", ["int8", "int8-coordinate"])
@pytest.mark.parametrize("size", [4, 8, 12, 16, 32, 48, 64, 100])
@pytest.mark.parametrize("cosine", [False, True])
def test_tiles_find_what_the_other_kernel_finds(codec, size, cosine):
    rng = np.random.default_rng(size)
    num_items = int(rng.integers(1, 400))
    items, users = vectors(num_items, 100, 3), vectors(37, 100, 4)
    tiers = tiers_of(items, codec)
    stored = tiers.decode(slice(None), 0, size)
    norms = np.linalg.norm(stored, axis=1).clip(1e-12).astype(np.float32) if cosine else None
    seen = (rng.integers(0, num_items, 37 * 3), np.arange(38) * 3)
    for filters in (
        make_filters(37, num_items),
        make_filters(37, num_items, seen=seen, blocked=rng.integers(0, num_items, 5)),
    ):
        given = (tiers, size, norms, users, 20, filters)
        np.testing.assert_array_equal(found_by(*given, tiled=True), found_by(*given, tiled=False))


@needs_tiles
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("num_users", [1, 5, 16, 17, 60])
def test_samples_and_threads_do_not_change_what_is_found(threads, num_users):
    num_items, keep = 5000, 100
    assert sample_of(num_items, keep)[0] > 1
    tiers, users = tiers_of(vectors(num_items, 32, 1)), vectors(num_users, 32, 2)
    # Users to whom all but a few items of the sample are shut: their floors are far too high.
    shut = np.setdiff1d(np.arange(num_items), np.arange(0, num_items, 37))
    for filters in (make_filters(num_users, num_items),
                    make_filters(num_users, num_items, blocked=shut)):  # fmt: skip
        given = (tiers, 32, None, users, keep, filters)
        np.testing.assert_array_equal(
            found_by(*given, tiled=True, threads=threads), found_by(*given, tiled=False)
        )


@needs_tiles
def test_items_in_the_worst_order_for_the_sample_are_still_found():
    """The best items stand between those of the sample, which are all alike and bad."""
    keep, num_items = 64, 4096
    every, _ = sample_of(num_items, keep)
    items = vectors(num_items, 16, 5)
    items[::every] = -np.abs(items[::every])
    users = np.abs(vectors(20, 16, 6))
    given = (tiers_of(items), 16, None, users, keep, make_filters(20, num_items))
    np.testing.assert_array_equal(found_by(*given, tiled=True), found_by(*given, tiled=False))


def test_a_scan_finds_the_best_stored_scores():
    tiers, users = tiers_of(vectors(3000, 32, 1)), vectors(25, 32, 2)
    scores = users @ tiers.decode(slice(None), 0, 32).T
    found = Scan(tiers, 32, None, 2).find(users, 50, make_filters(25, 3000))
    for row in range(25):
        best = np.sort(scores[row])[::-1]
        # User vectors are rounded to 16 bits: items at the edge may change places.
        assert scores[row, found[row]].min() >= best[49] - 1e-3 * np.abs(best[0])
        assert len(set(found[row].tolist())) == 50


def test_users_are_packed_as_tiles_read_them():
    rng = np.random.default_rng(0)
    users = rng.integers(-32639, 32640, (19, 96)).astype(np.int16)
    packed, left = pack_users(users)
    depth = depth_of(96)
    tiles = packed.reshape(2, 96 // depth, depth // 4, 16, 4).astype(np.int64)
    upper = tiles.transpose(0, 3, 1, 2, 4).reshape(32, 96)[:19] * 256
    assert np.abs(users - upper).max() <= 128
    np.testing.assert_allclose(left, np.linalg.norm(users - upper, axis=1), rtol=1e-6)
    assert [depth_of(size) for size in (64, 128, 32, 96, 100, 8, 6)] == [64, 64, 32, 32, 4, 8, 0]


@pytest.mark.parametrize("machine", ["arm64", "aarch64", "AMD64"])
def test_machines_of_another_kind_have_no_matrix_tiles_and_are_not_asked(machine, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.delattr("ctypes.CDLL")
    have_tiles.cache_clear()
    try:
        assert have_tiles() is False
    finally:
        have_tiles.cache_clear()
