"""First vectors of items, against a dense decomposition."""

import numpy as np
import pytest

from recsys.data.histories import Histories
from recsys.layers import spectrum
from recsys.layers.spectrum import neighbours_of_order, start_rows

USERS, ITEMS = 40, 25


def some_rows(seed=0):
    rng = np.random.default_rng(seed)
    rows = [rng.choice(ITEMS - 2, size=rng.integers(0, 9), replace=False) for _ in range(USERS)]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return Histories(np.arange(USERS), np.concatenate(rows).astype(np.int32), offsets)


def near(rows, window):
    counts = np.zeros((ITEMS, ITEMS))
    for user in range(USERS):
        row = rows.items[rows.offsets[user] : rows.offsets[user + 1]]
        for i, one in enumerate(row):
            for j, other in enumerate(row):
                if i != j and one != other and abs(i - j) <= window:
                    counts[one, other] += 1 / abs(i - j)
    return counts


@pytest.mark.parametrize("window", [1, 3])
def test_neighbours_are_counted_by_distance(window):
    rows = some_rows()
    rows.items.flags.writeable = True
    rows.items[rows.offsets[4] : rows.offsets[5]] = 3  # repeats of one item
    found = neighbours_of_order(rows, ITEMS, window).toarray()
    np.testing.assert_allclose(found, near(rows, window), rtol=1e-6)


def test_rows_are_the_weighed_directions_of_length_one():
    rows = some_rows()
    items, vectors = start_rows(rows, ITEMS, 6, seed=3, window=2)
    counts = near(rows, 2)
    known = np.flatnonzero(counts.sum(1))
    np.testing.assert_array_equal(items, known)
    counts = counts[np.ix_(known, known)]
    values, right = np.linalg.eigh(counts / np.sqrt(np.outer(counts.sum(0), counts.sum(0))))
    wanted = right[:, ::-1][:, :6] * np.maximum(values[::-1][:6], 0)
    wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
    signs = np.sign((vectors * wanted).sum(0))  # a direction has no sign
    np.testing.assert_allclose(vectors, wanted * signs, atol=2e-3)


def test_what_nobody_had_is_left_out():
    items, _ = start_rows(some_rows(), ITEMS, 4, seed=0)
    assert ITEMS - 1 not in items and ITEMS - 2 not in items


def test_directions_are_those_of_positive_weight_that_memory_holds(monkeypatch):
    rows = some_rows()
    counts = near(rows, 5)
    known = np.flatnonzero(counts.sum(1))
    counts = counts[np.ix_(known, known)]
    values = np.linalg.eigvalsh(counts / np.sqrt(np.outer(counts.sum(0), counts.sum(0))))
    _, vectors = start_rows(rows, ITEMS, 256, seed=0)
    assert vectors.shape[1] == (values > 1e-6).sum() > 5
    assert (np.abs(vectors).max(axis=0) > 0).all()  # the others stay as they were
    monkeypatch.setattr(spectrum, "START_BYTES", 4 * ITEMS * (spectrum._MORE + 5))
    assert start_rows(rows, ITEMS, 256, seed=0)[1].shape[1] == 5
    # By one alone, all that is connected is alike.
    monkeypatch.setattr(spectrum, "START_BYTES", 4 * ITEMS * (spectrum._MORE + 1))
    items, vectors = start_rows(rows, ITEMS, 256, seed=0)
    assert items.shape == (0,) and vectors.shape == (0, 0)


@pytest.mark.parametrize("dim", [1, 8])
def test_no_rows_give_no_vectors(dim):
    nobody = Histories(np.arange(3), np.empty(0, np.int32), np.zeros(4, np.int64))
    items, vectors = start_rows(nobody, ITEMS, dim, seed=0)
    assert not len(items) and not len(vectors)


@pytest.mark.parametrize(
    "histories", [[[0]], [[0, 0, 0]], [[0], [1], [2]], [[0, 1], [1, 0]], [[0, 1, 2]], [[], [1, 1]]]
)
def test_what_tells_nothing_of_items_gives_no_vectors(histories):
    offsets = np.cumsum([0, *map(len, histories)])
    flat = np.array([item for row in histories for item in row], np.int32)
    rows = Histories(np.arange(len(histories)), flat, offsets)
    items, vectors = start_rows(rows, int(flat.max()) + 1, 8, seed=0)
    assert not len(items) and not len(vectors)


@pytest.mark.parametrize(
    ("histories", "dim", "told"),
    [
        ([[0, 1, 2]], 1, "one coordinate"),
        ([[0], [1, 1], []], 8, "no two items stand beside each other in the 3 histories"),
        ([[0, 1, 2]], 8, "do so alike"),
    ],
)
def test_why_there_are_no_vectors_is_told(histories, dim, told):
    flat = np.array([item for row in histories for item in row], np.int32)
    rows = Histories(np.arange(len(histories)), flat, np.cumsum([0, *map(len, histories)]))
    assert not len(start_rows(rows, 3, dim, seed=0)[0])
    assert told in spectrum.why_none(rows, 3, dim)


def test_fewer_directions_than_coordinates_are_told(monkeypatch):
    assert spectrum.told_fewer(8, 8, ITEMS) is None
    assert "5 of 8 coordinates begin" in spectrum.told_fewer(5, 8, ITEMS)
    assert spectrum.told_fewer(5, 8, ITEMS).endswith("the training rows have no more")
    monkeypatch.setattr(spectrum, "START_BYTES", 4 * ITEMS * (spectrum._MORE + 5))
    assert "more of 25 items take more than 0 MiB" in spectrum.told_fewer(5, 8, ITEMS)


def test_a_catalogue_without_room_is_told(monkeypatch):
    monkeypatch.setattr(spectrum, "START_BYTES", 4 * ITEMS * (spectrum._MORE + 1))
    assert "two directions of 25 items take more" in spectrum.why_none(some_rows(), ITEMS, 8)


def test_with_many_pairs_neighbours_are_nearer(monkeypatch):
    rows = some_rows()
    for pairs, window in ((2 * len(rows.items), 2), (len(rows.items) // 2, 1)):
        wanted = start_rows(rows, ITEMS, 4, seed=0, window=window)
        monkeypatch.setattr(spectrum, "START_PAIRS", pairs)
        found = start_rows(rows, ITEMS, 4, seed=0)
        monkeypatch.undo()
        np.testing.assert_array_equal(found[0], wanted[0])
        np.testing.assert_allclose(found[1], wanted[1])


def test_a_basis_of_columns_that_depend_on_each_other():
    rng = np.random.default_rng(0)
    columns = rng.standard_normal((500, 6)).astype(np.float32)
    columns[:, 4] = 3 * columns[:, 1]  # nothing new
    columns[:, 5] *= 1e-3
    basis = spectrum._orthonormal(columns)
    lengths = np.linalg.norm(basis, axis=0)
    np.testing.assert_allclose(np.sort(lengths), [0, 1, 1, 1, 1, 1], atol=1e-5)
    back = basis @ (basis.T @ columns)
    np.testing.assert_allclose(back, columns, atol=1e-4)
