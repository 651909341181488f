"""The ranking kernels against sorting every score, over tiles, threads and ties."""

import numpy as np
import pytest
import torch

from recsys.data.histories import Histories
from recsys.evaluation.ranking.compiled import CompiledRanking
from recsys.granularity import Granularities

SIZES = (3, 20)


@pytest.fixture(params=[1, 3], ids="{} threads".format)
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def histories(rows):
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    items = np.concatenate([np.array(row, np.int32) for row in rows])
    return Histories(np.arange(len(rows)), items.astype(np.int32), offsets)


@pytest.mark.parametrize("num_items", [1, 255, 256, 257, 1000])
def test_counts_and_lists_equal_sorting_all_scores(num_items, threads):
    """Whole numbers for coordinates: scores are exact, and many are equal."""
    rng = np.random.default_rng(num_items)
    items = torch.from_numpy(rng.integers(-2, 3, (num_items, 20)).astype(np.float32))
    users = torch.from_numpy(rng.integers(-2, 3, (11, 20)).astype(np.float32))
    seen = histories([rng.integers(0, num_items, rng.integers(0, 9)) for _ in range(11)])
    targets = histories([rng.integers(0, num_items, 1) for _ in range(11)])
    ranking = CompiledRanking(items, Granularities(sizes=SIZES), 1 << 20)
    counts, keys = ranking.count_ranks(users, targets, seen), ranking.best(users, seen, 7)
    lists = 0xFFFFFFFF - (keys & 0xFFFFFFFF)
    for g, size in enumerate(SIZES):
        scores = (users[:, :size] @ items[:, :size].T).numpy()
        for user in range(11):
            hidden = seen.items[seen.offsets[user] : seen.offsets[user + 1]]
            shown = np.setdiff1d(np.arange(num_items), hidden)
            own = scores[user, targets.items[user]]
            assert counts[g, user] == (scores[user, shown] >= own).sum()
            best = shown[np.lexsort((shown, -scores[user, shown]))][:7]
            filled = keys[g, user] >> 32 > -(1 << 31)
            assert filled.sum() == len(best)
            assert lists[g, user, : len(best)].tolist() == best.tolist()
