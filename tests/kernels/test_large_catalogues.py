"""Catalogues whose flat offsets do not fit into 32 bits, as sparse files read at their ends."""

import numpy as np
import pytest

from recsys.kernels.logsumexp import pack_columns
from recsys.kernels.ranking import pair_scores
from recsys.kernels.row_products import add_decoded
from recsys.retrieval.codecs.base import Encoded
from recsys.retrieval.codecs.registry import CODECS
from recsys.retrieval.tier_products import add_products

DIM = 64
ROWS = 2**31 // DIM + 64


@pytest.fixture
def tall(tmp_path):
    """`make(dtype)`: `[ROWS, DIM]`, zeros but for the last 40 rows; takes no room on disk."""

    def make(dtype):
        path = tmp_path / np.dtype(dtype).name
        mapped = np.memmap(path, dtype, "w+", shape=(ROWS, DIM))
        numbers = np.random.default_rng(0).integers(-9, 10, size=(40, DIM))
        mapped[-40:] = numbers.astype(dtype)
        return np.asarray(mapped), numbers.astype(np.float32)

    yield make
    for path in tmp_path.iterdir():
        path.unlink()


def test_training_reads_the_last_items(tall):
    items, last = tall(np.float32)
    panels = np.empty(32 * DIM, np.float32)
    pack_columns(panels, items.reshape(-1), ROWS, DIM, ROWS - 32, 32)
    np.testing.assert_array_equal(panels.reshape(DIM, 32), last[-32:].T)


def test_ranking_scores_the_last_items(tall):
    items, last = tall(np.float32)
    users = np.ones((1, DIM), np.float32)
    chosen = np.arange(ROWS - 40, ROWS, dtype=np.int32)
    factors, found = np.ones(ROWS, np.float32), np.zeros(40, np.float32)
    edges = np.array([0, DIM])
    rows = np.zeros(40, np.int64)
    pair_scores(users.ravel(), items.reshape(-1), factors, ROWS, rows, chosen, edges, found)
    np.testing.assert_array_equal(found, last.sum(1))


def test_a_search_scores_the_last_items_of_whole_numbers_and_of_floats(tall):
    users = np.random.default_rng(1).integers(-9, 10, size=(2, DIM)).astype(np.float32)
    places = np.tile(np.arange(ROWS - 40, ROWS), (2, 1))
    items, last = tall(np.float32)
    sums = np.zeros(places.shape, np.float32)
    add_decoded(items, users, places, sums)
    np.testing.assert_array_equal(sums, users @ last.T)
    codes, last = tall(np.int8)
    stored = Encoded(
        CODECS["int8-coordinate"], DIM, {"codes": codes}, {"scales": np.ones(DIM, np.float32)}
    )
    sums = np.zeros(places.shape, np.float32)
    assert add_products(stored, 0, DIM, users, places, sums)
    np.testing.assert_array_equal(sums, users @ last.T)
