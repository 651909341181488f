"""Several interests of a user in one vector (fixed-dimensional encodings): what that would find.

Dhulipala et al., MUVERA, NeurIPS 2024, encode two sets of vectors so that the dot product of two
vectors is near the sum, over the query's vectors, of the best match in the document. Here an item
is one vector and what counts is the best of the query's K vectors, so nothing is gained that K
questions to the same store do not give exactly, for fewer numbers. These tests hold that reason
(docs/order-free-models.md): no such encoding is built.

Shape legend: U users, K interests, N items, D coordinates, B buckets of a partition, R partitions.
"""

import numpy as np
import pytest

U, K, N, D, TOP = 200, 4, 3000, 32, 10
CLUSTERS = 60


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def drawn():
    """Items around centres on the sphere, and users near some of the centres."""
    rng = np.random.default_rng(0)
    centres = unit(rng.normal(size=(CLUSTERS, D)))
    noise = 0.7 / D**0.5
    items = unit(centres[rng.integers(CLUSTERS, size=N)] + noise * rng.normal(size=(N, D)))
    own = np.stack([rng.permutation(CLUSTERS)[:K] for _ in range(U)])
    users = unit(centres[own] + noise * rng.normal(size=(U, K, D)))
    return users, items, best((users @ items.T).max(1))


def best(scores):
    return np.argsort(-scores, axis=1)[:, :TOP]


def found(scores, wanted, first=TOP):
    """Share of the best by the best interest that are among the first of these scores."""
    lists = np.argpartition(-scores, first - 1, axis=1)[:, :first]
    pairs = zip(lists, wanted, strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / TOP for a, b in pairs]))


def partitions(bits, repeats):
    """`[R, bits, D]` directions of SimHash."""
    return np.random.default_rng(1).normal(size=(repeats, bits, D))


def buckets(vectors, directions):
    """`[...]` the bucket of each vector."""
    return ((vectors @ directions.T) > 0) @ (1 << np.arange(len(directions)))


def encoded_scores(users, items, bits, repeats, fill):
    """`[U, N]` dot products of encodings of R 2^bits D coordinates: an item stands in the block of
    its bucket; a query's block is the sum of its vectors there (`sum`, as in the paper) or the
    vector that is nearest to the bucket (`nearest`).
    """
    total = np.zeros((len(users), len(items)))
    for directions in partitions(bits, repeats):
        blocks = np.zeros((len(users), 1 << bits, D))
        if fill == "sum":
            rows = np.repeat(np.arange(len(users)), K)
            np.add.at(blocks, (rows, buckets(users, directions).ravel()), users.reshape(-1, D))
        else:
            signs = 2.0 * ((np.arange(1 << bits)[:, None] >> np.arange(bits)) & 1) - 1
            nearest = (users @ (signs @ directions).T).argmax(1)  # [U, B]
            blocks = np.take_along_axis(users, nearest[:, :, None], 1)
        place = buckets(items, directions)
        total += np.einsum("und,nd->un", blocks[:, place], items)
    return total


SHAPES = [
    (bits, repeats) for bits in (1, 2, 3, 5) for repeats in (1, 4) if repeats << bits <= 8 * K
]


@pytest.mark.parametrize("fill", ["sum", "nearest"])
def test_encodings_of_eight_times_the_numbers_miss_a_quarter_of_the_list(drawn, fill):
    """K questions take K D multiply-adds an item and store D numbers of it, and miss nothing."""
    users, items, wanted = drawn
    assert found((users @ items.T).max(1), wanted) == 1.0
    for bits, repeats in SHAPES:
        share = found(encoded_scores(users, items, bits, repeats, fill), wanted)
        numbers = repeats << bits  # times D, of an item and of a question
        assert share < (0.55 if numbers <= K else 0.75), (bits, repeats)


@pytest.mark.parametrize("fill", ["sum", "nearest"])
def test_nor_are_they_good_candidates_for_a_second_stage(drawn, fill):
    users, items, wanted = drawn
    for bits, repeats in SHAPES:
        scores = encoded_scores(users, items, bits, repeats, fill)
        assert found(scores, wanted, first=10 * TOP) < 0.8, (bits, repeats)


def test_the_mean_of_the_interests_misses_most(drawn):
    users, items, wanted = drawn
    assert found(users.mean(1) @ items.T, wanted) < 0.25


def test_a_partition_without_a_cut_is_the_exact_sum(drawn):
    """The encoding itself is right: with one bucket the dot product is the sum over interests."""
    users, items, _ = drawn
    scores = encoded_scores(users, items, 0, 1, "sum")
    np.testing.assert_allclose(scores, np.einsum("ukd,nd->un", users, items))
