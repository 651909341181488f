"""Recommending from a run: what cannot be ranked is refused in words."""

import numpy as np
import pytest
import torch

from recsys.data.histories import Histories
from recsys.errors import ConfigError, DataError
from recsys.evaluation.recommend import recommend
from recsys.granularity import Granularities
from recsys.models import SASRec, SASRecConfig

N = 12


def model():
    torch.manual_seed(0)
    config = SASRecConfig(granularities=Granularities(sizes=(4, 8)), history_length=5)
    return SASRec(config, N).eval()


def histories(items, offsets):
    return Histories(np.arange(len(offsets) - 1), np.array(items, np.int32), np.array(offsets))


WRONG = {
    "an empty history": ([1, 2], [0, 2, 2], "row 1 is empty, 1 in all"),
    "empty histories alone": ([], [0, 0, 0], "row 0 is empty, 2 in all"),
    "an unknown item": ([1, N], [0, 1, 2], r"hold 12; allowed indices: 0\.\.11"),
    "an item below": ([1, -1], [0, 1, 2], r"hold -1; allowed indices: 0\.\.11"),
    "offsets beyond": ([1, 2], [0, 1, 3], "the offsets of the histories"),
}


@pytest.mark.parametrize("name", WRONG)
def test_histories_that_cannot_be_ranked_are_refused(name):
    items, offsets, told = WRONG[name]
    with pytest.raises(DataError, match=told):
        recommend(model(), histories(items, offsets), N, k=3, filter_seen=True)


def test_a_list_has_a_length():
    given = histories([1, 2, 3], [0, 1, 3])
    for wrong in (0, -1, 2.0, True, "3"):
        with pytest.raises(ConfigError, match="k is"):
            recommend(model(), given, N, k=wrong, filter_seen=True)
    lists = recommend(model(), given, N, k=N + 2, filter_seen=True)
    assert lists.shape == (2, N + 2) and (lists[0, N - 1 :] == -1).all() and lists[1, 0] >= 0
