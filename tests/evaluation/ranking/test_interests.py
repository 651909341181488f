"""Users of several vectors: ranks, lists and scores beside plain loops over dense scores."""

import numpy as np
import pytest
import torch

from recsys.data.splitting import make_split
from recsys.evaluation.evaluate import RankingOptions, rank_held_out
from recsys.evaluation.held_out import held_out
from recsys.evaluation.metrics import MISS
from recsys.evaluation.precomputed import FixedVectors, freeze_users
from recsys.evaluation.ranking import make_scorer as scoring
from recsys.evaluation.recommend import Recommendations
from recsys.granularity import Granularities
from tests.evaluation.ranking.naive import random_dataset, rank_of, top_items

INTERESTS, SIZES = 3, (2, 4, 7)


@pytest.fixture(params=[False, True], ids=["dot", "cosine"])
def case(request, tmp_path):
    """A data set, and a model of three random vectors a user, of very different lengths."""
    data = random_dataset(tmp_path / "data", 5, 40, 60, split="leave-last-out")
    rng = np.random.default_rng(1)
    users = rng.normal(size=(data.num_users, INTERESTS, 7)) * rng.choice([0.1, 1, 9], (1, 3, 1))
    items = rng.normal(size=(data.num_items, 7))
    left, right = (torch.from_numpy(each.astype(np.float32)) for each in (users, items))
    granularities = Granularities(sizes=SIZES, normalize=request.param)
    return data, FixedVectors(right, left, granularities)


def scores_at(model, size):
    """`[U, N]` in float64."""
    users, items = (x[..., :size].double().numpy() for x in (model.users, model.items))
    if model.granularities.normalize:
        users = users / np.linalg.norm(users, axis=2, keepdims=True)
        items = items / np.linalg.norm(items, axis=1, keepdims=True)
    return np.einsum("ukd,nd->ukn", users, items).max(axis=1)


def had(histories, row):
    return set(histories.items[histories.offsets[row] : histories.offsets[row + 1]].tolist())


@pytest.mark.parametrize("budget", [1 << 26, 5_000], ids=["one block", "many blocks"])
@pytest.mark.parametrize("lists", [False, True], ids=["counted", "listed"])
def test_ranks_are_by_the_best_of_the_interests(case, budget, lists):
    data, model = case
    split = make_split(data)
    options = RankingOptions(budget_bytes=budget)
    found = rank_held_out(
        model, data, split, part="test", filter_seen=True, ks=(60,), lists=lists, options=options
    )
    held = held_out(data, split, "test")
    histories = held.histories(data, np.arange(len(held.users)))
    for g, size in enumerate(SIZES):
        scores = scores_at(model, size)
        for row, user in enumerate(held.users):
            wanted = rank_of(scores[user], int(held.targets[row]), had(histories, row))
            assert found.ranks[g, row] == (MISS if np.isinf(wanted) else wanted)


def test_lists_and_scores_are_those_of_dense_scores(case):
    data, model = case
    held = held_out(data, make_split(data), "test")
    histories = held.histories(data, np.arange(len(held.users)))
    allowed = np.arange(0, data.num_items, 2)
    dense = scores_at(model, 4)
    for some in (None, allowed):
        ready = Recommendations(
            model, data.num_items, granularities=Granularities(sizes=(4,)), allowed=some,
            budget_bytes=20_000,
        )  # fmt: skip
        found = ready.lists(histories, 5, filter_seen=True)
        for row, user in enumerate(held.users):
            hidden = had(histories, row)
            if some is not None:
                hidden |= set(range(data.num_items)) - set(allowed.tolist())
            assert found.items[row].tolist() == top_items(dense[user], hidden, 5)
            np.testing.assert_allclose(found.scores[row], dense[user, found.items[row]], rtol=1e-4)
    ready = Recommendations(model, data.num_items, granularities=Granularities(sizes=(4,)))
    rows = np.repeat(np.arange(len(held.users)), 2)
    items = np.tile([3, 11], len(held.users))
    np.testing.assert_allclose(
        ready.pair_scores(histories, rows, items), dense[held.users[rows], items], rtol=1e-4
    )


def test_frozen_users_rank_as_the_model_does(case):
    data, model = case
    held = held_out(data, make_split(data), "test")
    histories = held.histories(data, np.arange(len(held.users)))
    frozen = freeze_users(model, data, histories)
    assert frozen.shape == (data.num_users, INTERESTS, 7)
    known = torch.from_numpy(held.users.copy())
    assert torch.equal(frozen[known], model.users[known])


def test_blocks_of_scores_stay_within_the_budget(case, monkeypatch):
    """The users of a block are fewer, so that users by interests by items takes what was asked."""
    data, model = case
    monkeypatch.setattr(scoring, "MAX_USERS", 12)
    scorer = scoring.make_scorer(model, data.num_items, budget_bytes=1 << 26)
    assert scorer.compiled is None and scorer.num_users == 4 and scorer.width <= scoring.MAX_WIDTH
    small = scoring.make_scorer(model, data.num_items, budget_bytes=16 * 60)
    assert small.num_users * INTERESTS * small.width <= 60
