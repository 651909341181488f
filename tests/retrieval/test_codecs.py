"""Codecs: what comes back, how far off it may be, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recsys.errors import ConfigError, DataError
from recsys.retrieval.codecs.registry import CODECS, encode, error_of, find_codec

BOUNDED = [name for name in CODECS if name != "pq"]


def matrices(largest=1e4):
    # Subnormals included: a row of them must not become NaN by a division.
    values = st.floats(-largest, largest, width=32)
    shapes = st.tuples(st.integers(1, 9), st.integers(1, 19))
    return shapes.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=values))


def gaussian(rows=600, dim=32, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, dim)) * np.linspace(3, 0.1, dim)).astype(np.float32)


@pytest.mark.parametrize("name", BOUNDED)
@given(vectors=matrices())
@settings(max_examples=150, deadline=None)
def test_no_coordinate_comes_back_further_off_than_its_codec_states(name, vectors):
    encoded = encode(vectors, name)
    lost = np.abs(encoded.decode().astype(np.float64) - vectors)
    assert (lost <= encoded.codec.error_bound(vectors)).all()


def bounds_of_the_table(name, vectors):
    """As the table in `codecs` says."""
    size = np.abs(vectors.astype(np.float64))
    row, column = size.max(1, keepdims=True), size.max(0, keepdims=True)
    mean = size.mean(1, keepdims=True)
    step = encode(vectors, "int2").rows["scales"][:, None].astype(np.float64)
    relative, least = {
        "fp32": (0, 0),
        "fp16": (size * 2**-11, 2**-25),
        "bf16": (size * 2**-8, 2**-134),
        "int8": (row / 254, 2**-127),
        "int8-coordinate": (column / 254, 2**-127),
        "int4": (row / 14, 2**-127),
        "int2": (np.maximum(step / 2, row - 1.5 * step), 2**-127),
        "binary": (np.maximum(mean, row - mean), 2**-149),
    }[name]
    return (relative + least) * (1 + 1e-4)


@pytest.mark.parametrize("name", BOUNDED)
@given(data=st.data(), exponent=st.sampled_from([-149, -140, -125, -120, -20, 15, 127]))
@settings(max_examples=100, deadline=None)
def test_the_bounds_of_the_table_hold_from_the_least_number_to_the_largest(name, data, exponent):
    largest = 2.0 ** min(exponent, 15 if name == "fp16" else 127)
    vectors = data.draw(matrices(largest))
    lost = np.abs(encode(vectors, name).decode().astype(np.float64) - vectors)
    assert (lost <= bounds_of_the_table(name, vectors)).all()


@pytest.mark.parametrize("name", [name for name in BOUNDED if name not in ("fp16", "bf16")])
def test_the_largest_float_comes_back_finite(name):
    largest = np.finfo(np.float32).max
    vectors = np.array([[largest, -largest, 1], [largest / 3, 0, -2]], np.float32)
    encoded = encode(vectors, name)
    lost = np.abs(encoded.decode().astype(np.float64) - vectors)
    assert (lost <= encoded.codec.error_bound(vectors)).all()


@pytest.mark.parametrize("name", ["pq1", "pq8", "pq8x4"])
@pytest.mark.parametrize("factor", [1e-40, 2.0**-80, 2.0**66, 1e37])
def test_product_quantization_takes_vectors_of_any_size(name, factor):
    encoded = encode((gaussian() * np.float32(factor)).astype(np.float32), name)
    same = encode(gaussian(), name).rows["codes"] == encoded.rows["codes"]
    assert same.mean() > 0.99 and np.isfinite(encoded.decode()).all()


def test_a_row_that_no_centroid_can_be_near_is_refused():
    codec = find_codec("pq1")
    shared = codec.fit(gaussian())
    with pytest.raises(DataError, match="too far from the centroids of pq1"):
        codec.encode(np.full((1, 32), 1e20, np.float32), shared)


@pytest.mark.parametrize("name", [name for name in BOUNDED if name != "fp32"])
def test_the_stated_error_is_nearly_reached_so_it_says_something(name):
    vectors = gaussian()
    lost = np.abs(encode(vectors, name).decode() - vectors)
    assert (lost / find_codec(name).error_bound(vectors)).max() > 0.9


@pytest.mark.parametrize("name", [*CODECS, "pq16", "pq16x4", "pq3x4", "sparse5"])
def test_bytes_per_row_are_those_of_the_arrays(name):
    vectors = gaussian(dim=48)
    encoded = encode(vectors, name)
    assert sum(a.nbytes for a in encoded.rows.values()) == 600 * encoded.codec.bytes_per_row(48)
    assert encoded.nbytes >= 600 * encoded.codec.bytes_per_row(48)


@pytest.mark.parametrize("name", [*CODECS, "pq8x4", "sparse5"])
def test_any_selection_of_rows_decodes_to_the_same_rows(name):
    encoded = encode(gaussian(), name)
    whole, rows = encoded.decode(), np.array([599, 0, 7, 7])
    assert whole.dtype == np.float32 and whole.shape == (600, 32)
    np.testing.assert_array_equal(encoded.decode(rows), whole[rows])
    np.testing.assert_array_equal(encoded.decode(slice(10, 20)), whole[10:20])


@pytest.mark.parametrize("name", BOUNDED)
def test_encoding_what_was_decoded_changes_it_no_more(name):
    once = encode(gaussian(dim=33), name).decode()
    np.testing.assert_allclose(encode(once, name).decode(), once, rtol=1e-6)


def test_levels_worked_by_hand():
    vectors = np.array([[127, -63.5, 1.4, 0], [7, -3, 0.4, -7]], np.float32)
    assert encode(vectors, "int8").rows["codes"][0].tolist() == [127, -64, 1, 0]
    assert encode(vectors, "int4").decode()[1].tolist() == [7, -3, 0, -7]
    assert encode(vectors, "int4").rows["codes"][1].tolist() == [15 | 5 << 4, 8 | 1 << 4]
    # 7 and 7 at the outer levels, 3 and 0.4 at the inner ones: (1.5 * 14 + 0.5 * 3.4) / 5 a step.
    assert encode(vectors, "int2").rows["scales"][1] == pytest.approx(22.7 / 5)
    assert encode(vectors, "int2").rows["codes"][1].tolist() == [3 | 1 << 2 | 2 << 4 | 0 << 6]
    assert encode(vectors, "binary").decode()[1].tolist() == pytest.approx(
        [4.35, -4.35, 4.35, -4.35]
    )
    assert encode(vectors, "int8-coordinate").rows["codes"][:, 0].tolist() == [127, 7]
    assert encode(np.array([[1 + 2**-8, 1 + 3 * 2**-8]], np.float32), "bf16").decode().tolist() == [
        [1, 1 + 2**-6]  # ties go to the even neighbour
    ]


def test_binary_takes_the_least_squares_scale():
    vectors = gaussian(20)
    encoded = encode(vectors, "binary")
    best = np.square(encoded.decode() - vectors).sum(1)
    for factor in (0.99, 1.01):
        assert (np.square(encoded.decode() * factor - vectors).sum(1) > best).all()


@given(vectors=matrices())
@settings(max_examples=60, deadline=None)
def test_int2_takes_the_step_and_levels_that_lose_the_least_squares(vectors):
    rows = vectors.astype(np.float64)
    lost = np.square(encode(vectors, "int2").decode() - rows).sum(1)
    peaks = np.abs(rows).max(1)
    for share in np.linspace(0.01, 2.01, 101):  # of the peak; the best step is 2 of it at most
        steps = np.maximum(share * peaks, 2.0**-126)[:, None]
        levels = steps * np.array([-1.5, -0.5, 0.5, 1.5])
        nearest = np.abs(rows[:, :, None] - levels[:, None, :]).min(2)
        assert (lost <= np.square(nearest).sum(1) * (1 + 1e-4) + 2.0**-240).all()


@pytest.mark.parametrize("name", ["pq", "pq4x4", "pq3x4", "int2", "sparse5"])
def test_block_by_block_gives_the_codes_of_all_rows_at_once(name):
    vectors, codec = gaussian(dim=12), find_codec(name)
    shared = codec.fit(vectors)
    whole = codec.encode(vectors, shared)
    for rows in (slice(0, 1), slice(1, 250), slice(250, 600)):
        for key, array in codec.encode(vectors[rows], shared).items():
            np.testing.assert_array_equal(array, whole[key][rows])


def test_two_parts_of_four_bits_share_a_byte_the_even_one_in_the_lower_half():
    vectors = gaussian(dim=12)
    encoded = encode(vectors, "pq3x4")
    codes, books = encoded.rows["codes"], encoded.shared["codebooks"]
    assert codes.shape == (600, 2) and books.shape == (3, 16, 4) and not (codes[:, 1] >> 4).any()
    halves = (codes[:, 0] & 15, codes[:, 0] >> 4, codes[:, 1] & 15)
    for part, (chosen, centroids) in enumerate(zip(halves, books, strict=True)):
        own = vectors[:, 4 * part : 4 * part + 4]
        distances = np.square(own[:, None] - centroids).sum(-1)
        np.testing.assert_allclose(distances[np.arange(600), chosen], distances.min(1), atol=1e-4)
        np.testing.assert_array_equal(
            encoded.decode()[:, 4 * part : 4 * part + 4], centroids[chosen]
        )


def test_product_quantization_loses_nothing_of_vectors_that_are_all_the_same():
    same = np.tile(gaussian(1, 8), (300, 1))
    np.testing.assert_allclose(encode(same, "pq2").decode(), same, rtol=1e-5)


@given(vectors=matrices(), kept=st.integers(1, 19))
@settings(max_examples=100, deadline=None)
def test_sparse_rows_come_back_as_their_largest_coordinates_in_fp16(vectors, kept):
    kept = min(kept, vectors.shape[1])
    encoded = encode(vectors, f"sparse{kept}")
    wanted = np.zeros_like(vectors)
    for row, values in zip(wanted, vectors, strict=True):
        for place in sorted(range(len(values)), key=lambda j: (-abs(values[j]), j))[:kept]:
            row[place] = np.float16(values[place])
    np.testing.assert_array_equal(encoded.decode(), wanted)
    assert (np.diff(encoded.rows["places"].astype(int), axis=1) > 0).all()
    lost = np.abs(encoded.decode().astype(np.float64) - vectors)
    assert (lost <= encoded.codec.error_bound(vectors)).all()


def test_product_quantization_gives_each_part_its_nearest_centroid():
    vectors = gaussian(dim=8)
    encoded = encode(vectors, "pq2")
    for part, centroids in enumerate(encoded.shared["codebooks"]):
        own = vectors[:, None, 4 * part : 4 * part + 4]
        distances = np.square(own - centroids).sum(-1)
        chosen = distances[np.arange(600), encoded.rows["codes"][:, part]]
        np.testing.assert_allclose(chosen, distances.min(1), atol=1e-4)


def test_more_bytes_lose_less():
    vectors = gaussian(4000)
    lost = [
        error_of(encode(vectors, name), vectors)["relative"]
        for name in ("fp32", "fp16", "bf16", "int8", "int4", "pq", "int2", "binary")
    ]
    assert lost[0] == 0 and lost == sorted(set(lost))
    by_parts = [error_of(encode(vectors, f"pq{m}"), vectors)["relative"] for m in (16, 8, 4)]
    assert by_parts == sorted(by_parts)
    halves = [error_of(encode(vectors, f"pq{m}x4"), vectors)["relative"] for m in (32, 16, 8)]
    assert halves == sorted(halves)


def test_the_same_vectors_give_the_same_codes():
    first, second = (encode(gaussian(), "pq").rows["codes"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("vectors", "name", "message"),
    [
        (np.full((2, 2), np.nan), "int8", "row 0 .* not finite"),
        (np.zeros((2, 0)), "int8", "shape"),
        (np.zeros(3), "fp32", "shape"),
        (np.full((1, 1), 7e4), "fp16", "does not fit fp16"),
        (np.full((1, 1), np.finfo(np.float32).max), "bf16", "does not fit bf16"),
        (np.zeros((100, 8)), "pq", "too few"),
        (np.zeros((300, 8)), "pq3", "divisors of 8"),
        (np.zeros((300, 8)), "pq3x4", "divisors of 8"),
        (np.zeros((9, 8)), "sparse9", "keeps 9 of 8 coordinates"),
        (np.full((1, 2), 7e4), "sparse1", "does not fit fp16"),
        (np.zeros((15, 8)), "pq4x4", "16 centroids; 15 rows are too few"),
    ],
)
def test_what_a_codec_cannot_store_is_refused(vectors, name, message):
    with pytest.raises(DataError, match=message):
        encode(vectors, name)


def test_an_unknown_codec_is_refused_by_name():
    with pytest.raises(ConfigError, match="'int7' is not among fp32"):
        find_codec("int7")
