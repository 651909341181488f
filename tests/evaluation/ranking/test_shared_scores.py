"""Scores that users share but for a few items: ranks and lists equal those of dense scores."""

from dataclasses import dataclass

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recsys.data.histories import Histories
from recsys.errors import RunError
from recsys.evaluation.metrics import MISS
from recsys.evaluation.ranking.dispatch import rank_batch
from recsys.evaluation.ranking.make_scorer import make_scorer
from recsys.evaluation.recommend import recommend
from tests.evaluation.ranking.naive import rank_of, top_items

ITEMS = 12


@dataclass
class Shared:
    """A SharedModel whose own scores are those of a table, NaN where there is none."""

    common: np.ndarray
    own: np.ndarray

    def scores(self, histories: Histories) -> Tensor:
        own = self.own[histories.users]
        return torch.from_numpy(np.where(np.isnan(own), self.common, own))

    def shared_scores(self) -> Tensor:
        return torch.from_numpy(self.common)

    def own_scores(self, histories: Histories) -> sp.csr_matrix:
        own = self.own[histories.users]
        rows, columns = (~np.isnan(own)).nonzero()
        return sp.csr_matrix((own[rows, columns], (rows, columns)), shape=own.shape)


def jagged(lists):
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in lists])])
    items = np.array([item for one in lists for item in one], np.int32)
    return Histories(np.arange(len(lists)), items, offsets)


@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([None, 1, 5, 40]))
def test_ranks_and_lists_equal_those_of_dense_scores(seed, filter_seen, k):
    random = np.random.default_rng(seed)
    common = random.integers(-2, 3, ITEMS).astype(np.float32)
    own = random.integers(-2, 4, (6, ITEMS)).astype(np.float32)
    own[random.random(own.shape) < 0.6] = np.nan
    common[random.random(ITEMS) < 0.1] = own[random.random(own.shape) < 0.05] = -np.inf
    histories = jagged([random.integers(0, ITEMS, n).tolist() for n in random.integers(1, 6, 6)])
    targets = jagged(
        [random.choice(ITEMS, 1 if k is None else 3, False).tolist() for _ in range(6)]
    )
    model = Shared(common, own)
    hidden = histories if filter_seen else histories.last(0)
    ranks, lists = rank_batch(
        make_scorer(model, ITEMS, budget_bytes=1 << 20), histories, targets, hidden, k
    )
    dense = model.scores(histories).numpy()
    for row in range(6):
        seen = set(hidden.items[hidden.offsets[row] : hidden.offsets[row + 1]].tolist())
        if lists is not None:
            listed = lists[0, row]
            assert listed[listed >= 0].tolist() == top_items(dense[row], seen, k)
        for place in range(targets.offsets[row], targets.offsets[row + 1]):
            expected = rank_of(dense[row], targets.items[place], seen)
            lost = expected > (ITEMS if k is None else k)
            assert ranks[0, place] == (MISS if lost else expected)


def test_lists_hold_whatever_can_be_recommended():
    model = Shared(np.zeros(ITEMS, np.float32), np.full((1, ITEMS), np.nan, np.float32))
    found = recommend(model, jagged([[0, 3]]), ITEMS, k=ITEMS, filter_seen=True)
    assert found.tolist() == [[1, 2, 4, 5, 6, 7, 8, 9, 10, 11, -1, -1]]


def test_nan_and_another_catalogue_are_refused():
    broken = Shared(np.full(ITEMS, np.nan, np.float32), np.zeros((1, ITEMS), np.float32))
    with pytest.raises(RunError, match="NaN"):
        recommend(broken, jagged([[0]]), ITEMS, k=3, filter_seen=True)
    small = Shared(np.zeros(ITEMS, np.float32), np.full((1, ITEMS), np.nan, np.float32))
    with pytest.raises(RunError, match="the model scores 12 items, the data set has 13"):
        recommend(small, jagged([[0]]), ITEMS + 1, k=3, filter_seen=True)
