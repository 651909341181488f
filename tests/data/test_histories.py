"""Histories: what is made of them leaves them as they were."""

import numpy as np
import pytest

from recsys.data.histories import Histories

ITEMS = [5, 3, 5, 1, 9, 2, 4]
"""Of two users: 5 3 5 1 and 9 2 4."""


@pytest.fixture
def histories() -> Histories:
    return Histories(np.arange(2), np.array(ITEMS, np.int32), np.array([0, 4, 7]), np.arange(7))


def test_a_binary_matrix_counts_repetitions_once_and_leaves_the_histories_as_they_were(histories):
    first, second = histories.to_csr(10), histories.to_csr(10)
    expected = np.zeros((2, 10))
    expected[0, [1, 3, 5]] = expected[1, [2, 4, 9]] = 1
    np.testing.assert_array_equal(first.toarray(), expected)
    np.testing.assert_array_equal(second.toarray(), expected)
    assert histories.items.tolist() == ITEMS
    assert histories.offsets.tolist() == [0, 4, 7]


def test_whoever_changes_the_matrix_does_not_change_the_histories(histories):
    matrix = histories.to_csr(10)
    for part in (matrix.data, matrix.indices, matrix.indptr):
        part[:] = 0
    assert histories.items.tolist() == ITEMS
    assert histories.offsets.tolist() == [0, 4, 7]


CUTS = [
    lambda histories: histories,
    lambda histories: histories.last(2),
    lambda histories: histories.rows(np.array([1])),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", ["users", "items", "offsets", "timestamps"])
def test_a_write_into_histories_raises(histories, cut, name):
    array = getattr(cut(histories), name)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        array.sort()


def test_the_arrays_that_histories_were_made_of_still_belong_to_their_owner():
    items = np.array(ITEMS, np.int32)
    Histories(np.arange(2), items, np.array([0, 4, 7]))
    items.sort()
    assert items.tolist() == sorted(ITEMS)
