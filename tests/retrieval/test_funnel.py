"""The funnel against naive loops: exactness, filters, ties, batches, every codec."""

import itertools
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import ConfigError, DataError, GranularityError
from recsys.retrieval.bundle.loading import load_bundle
from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.writing import BundleSource, write_bundle
from recsys.retrieval.codecs.registry import CODECS, encode
from recsys.retrieval.filters import make_filters
from recsys.retrieval.funnel import Funnel, Stage, parse_stages
from recsys.retrieval.tier_products import add_products
from tests.retrieval.bundles import vectors, write

N = 300
LAYOUTS = [
    "0:32:fp32:ram",
    "0:32:int8:ram",
    "0:8:int8:ram,8:16:fp16:ram,16:32:fp16:mmap",
    "0:32:int8-coordinate:mmap",
    "0:4:int4:ram,4:32:int8:mmap",
]


@pytest.fixture(scope="module", params=[False, True], ids=["dot", "cosine"])
def bundles(request, tmp_path_factory):
    place = tmp_path_factory.mktemp("funnel")
    return [
        load_bundle(write(place / str(i), tiers, num_items=N, normalize=request.param)[0])
        for i, tiers in enumerate(LAYOUTS)
    ]


def users_of(count, seed=9):
    return vectors(count, 32, seed)


def stored(bundle, size):
    return bundle.items.decode(slice(None), 0, size).astype(np.float64)


def naive_scores(bundle, users, size):
    """`[B, N]` truncated dot products, or those over the norms of the items' prefixes."""
    items = stored(bundle, size)
    norms = np.linalg.norm(items, axis=1) if bundle.normalize else 1.0
    return users[:, :size].astype(np.float64) @ items.T / norms


def naive_top(scores, k, hidden=()):
    """Best first, equals by index."""
    order = sorted((i for i in range(len(scores)) if i not in hidden), key=lambda i: -scores[i])
    return order[:k]


def assert_same_ranking(found, scores, wanted_scores):
    """The scores are the wanted ones, and the items' own: equal up to rounding, even in ties."""
    np.testing.assert_allclose(found.scores, wanted_scores, rtol=2e-5, atol=2e-5)
    own = np.take_along_axis(scores, found.items, axis=1)
    np.testing.assert_allclose(found.scores, own, rtol=2e-5, atol=2e-5)
    assert all(len(set(row)) == len(row) for row in found.items.tolist())


def test_one_stage_gives_the_best_truncated_dot_products(bundles):
    users = users_of(11)
    for bundle in bundles:
        for size in (4, 8, 16, 32):
            found = Funnel(bundle, [Stage(size, 10)], threads=1).search(users)
            scores = naive_scores(bundle, users, size)
            assert_same_ranking(found, scores, -np.sort(-scores)[:, :10])


def test_keep_all_equals_exact_search(bundles):
    users = users_of(6)
    for bundle in bundles:
        stages = [Stage(4, N), Stage(16, N), Stage(32, 20)]
        scores = naive_scores(bundle, users, 32)
        found = Funnel(bundle, stages, threads=1).search(users)
        assert_same_ranking(found, scores, -np.sort(-scores)[:, :20])


def test_every_stage_scores_what_the_stage_before_kept(bundles):
    users = users_of(5)
    for bundle in bundles:
        for depth in (2, 3):
            stages = [Stage(4, 60), Stage(8, 25), Stage(32, 12)][:depth]
            found = Funnel(bundle, stages, threads=1).search(users)
            kept = [range(N)] * len(users)
            for stage in stages:
                scores = naive_scores(bundle, users, stage.granularity)
                kept = [
                    sorted(items, key=lambda i: -row[i])[: stage.keep]
                    for items, row in zip(kept, scores, strict=True)
                ]
            assert found.items.tolist() == [list(row) for row in kept]


def test_what_was_had_may_be_found_again_with_what_is_added_to_its_score(bundles):
    users, rng = users_of(7), np.random.default_rng(3)
    had = [np.unique(rng.integers(0, N, 9)) for _ in users[:-1]] + [np.empty(0, np.int64)]
    seen = np.concatenate(had), np.cumsum([0, *map(len, had)])
    for bundle, gain in itertools.product(bundles, (-0.5, 0.0, 0.6)):
        repeats = {4: 2 * gain, 16: gain, 32: -gain}
        filters = make_filters(7, N, seen=seen, repeats=repeats, blocked=had[0][:2])
        funnel = Funnel(bundle, [Stage(8, 40), Stage(32, 12)], threads=1)
        found, scores = funnel.search(users, None, filters), []
        for size, added in ((8, 1.5 * gain), (32, -gain)):  # 8: half way from 4 to 16
            scores.append(naive_scores(bundle, users, size))
            lengths = np.linalg.norm(users[:, :size], axis=1) if bundle.normalize else np.ones(7)
            for row, items in enumerate(had):
                scores[-1][row, items] += added * lengths[row]
        for row, (short, long) in enumerate(zip(*scores, strict=True)):
            kept = naive_top(short, 40, hidden=set(had[0][:2].tolist()))
            wanted = sorted(kept, key=lambda item: -long[item])[:12]
            assert found.items[row].tolist() == wanted
            np.testing.assert_allclose(found.scores[row], long[wanted], rtol=2e-5, atol=2e-5)
        plain = replace(filters, repeats={})  # of a model without repeat bias: nothing is filtered
        free = make_filters(7, N, blocked=had[0][:2])
        found, wanted = (funnel.search(users, None, one) for one in (plain, free))
        np.testing.assert_array_equal(found.items, wanted.items)


@pytest.mark.parametrize("codec", [*CODECS, "pq4x4", "pq8x4"])
def test_every_codec_can_be_the_first_stage_and_the_last(tmp_path, codec):
    bundle = load_bundle(write(tmp_path / "a", f"0:8:{codec}:ram,8:32:{codec}:mmap")[0])
    users = users_of(4)
    found = Funnel(bundle, [Stage(8, N), Stage(32, 10)], threads=1).search(users)
    scores = naive_scores(bundle, users, 32)
    np.testing.assert_allclose(found.scores, -np.sort(-scores)[:, :10], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("codec", ["fp32", "fp16", "bf16", "int8", "int8-coordinate", "int4"])
def test_products_from_stored_rows_are_those_of_decoded_rows(codec):
    rng = np.random.default_rng(4)
    # Large, small and subnormal values, both signs, zeros.
    rows = (rng.standard_normal((50, 48)) * 10.0 ** rng.integers(-8, 4, (50, 48))).astype(
        np.float32
    )
    rows[3], rows[4, ::2] = 0, 0
    encoded, users = encode(rows, codec), vectors(6, 48, 1)
    items = rng.integers(-1, 50, (6, 20))
    for first, last in ((0, 48), (16, 32), (32, 48), (0, 40)):
        sums = np.ones((6, 20), np.float32)
        own = np.ascontiguousarray(users[:, first:last])
        done = add_products(encoded, first, last, own, items, sums)
        assert done == (codec != "int4" and last != 40)
        decoded = encoded.decode()[:, first:last].astype(np.float64)
        wanted = 1 + (decoded[items] * own[:, None].astype(np.float64)).sum(-1)
        sizes = 1 + np.abs(decoded[items] * own[:, None]).sum(-1)
        wanted = np.where(items < 0, 1, wanted) if done else np.ones((6, 20))
        assert (np.abs(sums - wanted) <= 1e-6 * sizes).all()


def test_a_batch_gives_what_its_users_get_one_by_one_on_any_number_of_threads(bundles):
    users = users_of(13)
    for bundle in bundles:
        stages = [Stage(8, 40), Stage(32, 10)]
        whole = Funnel(bundle, stages, threads=1).search(users)
        threaded = Funnel(bundle, stages, threads=3).search(users)
        np.testing.assert_array_equal(threaded.items, whole.items)
        for row in (0, 5, 12):
            one = Funnel(bundle, stages, threads=1).search(users[row : row + 1])
            np.testing.assert_array_equal(one.items[0], whole.items[row])


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_filters_leave_k_items_wherever_k_are_left(bundles, data):
    bundle = data.draw(st.sampled_from(bundles))
    items = st.lists(st.integers(0, N - 1), max_size=400)
    seen = [np.array(data.draw(items), np.int64) for _ in range(3)]
    allowed = data.draw(st.none() | st.lists(st.integers(0, N - 1), min_size=1, max_size=40))
    blocked = data.draw(st.none() | items)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in seen])])
    filters = make_filters(
        3,
        N,
        seen=(np.concatenate(seen), offsets),
        allowed=None if allowed is None else np.array(allowed),
        blocked=None if blocked is None else np.array(blocked, np.int64),
    )
    users = users_of(3)
    found = Funnel(bundle, [Stage(8, 12), Stage(16, 12)], threads=1).search(users, None, filters)
    first, second = (naive_scores(bundle, users, size) for size in (8, 16))
    left = filters.num_left(N)
    for row in range(3):
        hidden = set(seen[row].tolist()) | set(blocked or [])
        if allowed is not None:
            hidden |= set(range(N)) - set(allowed)
        assert left[row] == N - len(hidden)
        kept = naive_top(first[row], 12, hidden)
        wanted = sorted(kept, key=lambda i: -second[row][i])
        wanted += [-1] * (12 - len(wanted))
        assert found.items[row].tolist() == wanted
        assert np.isneginf(found.scores[row][found.items[row] < 0]).all()


def test_equal_scores_are_listed_by_item_index(tmp_path):
    items = np.tile(vectors(3, 8), (100, 1))
    source = BundleSource(items, pl.Series(range(300)), (4, 8))
    for tiers in ("0:4:int8:ram,4:8:int8:ram", "0:8:fp32:ram"):
        folder = write_bundle(tmp_path / tiers[:9], source, parse_tiers(tiers, 8))
        users = vectors(2, 8, 1)
        found = Funnel(load_bundle(folder), [Stage(4, 50), Stage(8, 20)], threads=1).search(users)
        for row, user in enumerate(users):
            best = int(np.argmax(user[:4] @ items[:3, :4].T))
            assert found.items[row].tolist() == list(range(best, 300, 3))[:20]


def test_a_long_catalogue_of_rising_scores_fills_and_shrinks_the_lists(tmp_path):
    # The worst case for running lists: every item enters.
    items = np.linspace(0.001, 1, 20_000, dtype=np.float32)[:, None] * np.ones(4, np.float32)
    source = BundleSource(items, pl.Series(range(20_000)), (4,))
    for codec in ("fp32", "int8"):
        folder = write_bundle(tmp_path / codec, source, parse_tiers(f"0:4:{codec}:ram", 4))
        found = Funnel(load_bundle(folder), [Stage(4, 7)], threads=1).search(
            np.ones((2, 4), np.float32)
        )
        assert found.items.tolist() == [list(range(19_999, 19_992, -1))] * 2


def test_users_of_any_length_rank_alike_where_items_are_normalized(bundles):
    users = users_of(4)
    for bundle in bundles:
        funnel = Funnel(bundle, [Stage(8, 30), Stage(32, 10)], threads=1)
        np.testing.assert_array_equal(funnel.search(users).items, funnel.search(users * 1e-4).items)


def test_wide_prefixes_do_not_overflow(tmp_path):
    items = np.full((70, 1024), 3, np.float32) * np.linspace(0.5, 1, 70, dtype=np.float32)[:, None]
    source = BundleSource(items, pl.Series(range(70)), (1024,))
    bundle = load_bundle(write_bundle(tmp_path / "a", source, parse_tiers("0:1024:int8:ram", 1024)))
    found = Funnel(bundle, [Stage(1024, 3)], threads=1).search(np.full((1, 1024), 5, np.float32))
    assert found.items[0].tolist() == [69, 68, 67]
    np.testing.assert_allclose(found.scores[0, 0], 15 * 1024, rtol=1e-5)


def test_a_user_vector_of_zeros_gets_the_first_items(bundles):
    found = Funnel(bundles[1], [Stage(8, 20), Stage(32, 5)], threads=1).search(
        np.zeros((1, 32), np.float32)
    )
    assert found.items[0].tolist() == [0, 1, 2, 3, 4]


def test_multiply_adds_are_counted_stage_by_stage(bundles):
    funnel = Funnel(bundles[2], [Stage(8, 40), Stage(16, 20), Stage(32, 10)])
    # 300 items at 8; 40 of them once more in float32; 8 further coordinates; 16 further for 20.
    assert funnel.multiply_adds() == 300 * 8 + 40 * 8 + 40 * 8 + 20 * 16
    assert funnel.multiply_adds(found=1000) == 1000 + 40 * 8 + 40 * 8 + 20 * 16


def test_hot_and_cold_bytes_are_those_of_the_arrays(bundles):
    bundle = bundles[2]
    funnel = Funnel(bundle, [Stage(8, 40), Stage(32, 10)])
    norms = 4 * bundle.normalize  # all of them are read by every scan
    assert funnel.hot_bytes == N * (8 + 4 + 16 + norms)
    assert funnel.cold_bytes == N * (32 + norms)


@pytest.mark.parametrize(
    ("stages", "error", "message"),
    [
        ([], ConfigError, "needs at least one stage"),
        ([Stage(8, 10), Stage(16, 8), Stage(16, 5)], ConfigError, "must grow"),
        ([Stage(8, 10), Stage(16, 20)], ConfigError, "must not"),
        ([Stage(8, 0)], ConfigError, "1 or more"),
        ([Stage(12, 10)], GranularityError, "12 is not among"),
    ],
)
def test_stages_that_are_no_funnel_are_refused(bundles, stages, error, message):
    with pytest.raises(error, match=message):
        Funnel(bundles[0], stages)


def test_searches_that_cannot_be_are_refused(bundles):
    funnel = Funnel(bundles[0], [Stage(8, 20), Stage(32, 10)])
    with pytest.raises(ConfigError, match="11 items are requested"):
        funnel.search(users_of(1), 11)
    with pytest.raises(DataError, match="at least 32"):
        funnel.search(users_of(1)[:, :16])
    with pytest.raises(DataError, match="NaN"):
        funnel.search(np.full((1, 32), np.nan, np.float32))
    with pytest.raises(DataError, match="filters of 2 users and 300 items for a search of 1 users"):
        funnel.search(users_of(1), filters=make_filters(2, N))
    with pytest.raises(DataError, match=r"blocked items hold 300; .* 0\.\.299"):
        make_filters(1, N, blocked=np.array([300]))
    with pytest.raises(DataError, match="seen items have 3 offsets, so they describe 2 rows"):
        make_filters(1, N, seen=(np.array([1]), np.array([0, 1, 1])))


def test_stages_are_read_as_they_are_written():
    assert parse_stages("32:200,256", 10) == (Stage(32, 200), Stage(256, 10))
    assert parse_stages("256", 10) == (Stage(256, 10),)
    for text in ("32,256", "32:200:1,256", "a:2,256", ""):
        with pytest.raises(ConfigError, match="not of the form"):
            parse_stages(text, 10)


def test_the_first_stage_of_a_prefix_inside_a_tier_uses_that_prefix_alone(tmp_path):
    folder, made = write(tmp_path / "a", "0:32:int8:ram")
    other = replace(made, items=made.items * np.r_[np.ones(4), -np.ones(28)].astype(np.float32))
    second = write_bundle(tmp_path / "b", other, parse_tiers("0:32:int8:ram", 32))
    a, b = (Funnel(load_bundle(f), [Stage(4, 9)], threads=1) for f in (folder, second))
    np.testing.assert_array_equal(a.search(users_of(3)).items, b.search(users_of(3)).items)
