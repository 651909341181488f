"""What a user has had may be scored by more than its vectors: ranks and lists as by hand."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data.histories import Histories
from recsys.data.splitting import make_split
from recsys.errors import DataError
from recsys.evaluation.evaluate import rank_held_out
from recsys.evaluation.metrics import MISS
from recsys.evaluation.ranking import make_scorer as scoring
from recsys.evaluation.recommend import recommend
from tests.evaluation.ranking.naive import (
    FixedVectors,
    dense_scores,
    integer_vectors,
    random_dataset,
    rank_of,
    top_items,
)


@pytest.fixture(params=[True, False], ids=["compiled", "torch"], autouse=True)
def way(request, monkeypatch):
    monkeypatch.setattr(scoring, "can_compile", lambda items: request.param)


@dataclass
class Repeating(FixedVectors):
    added: tuple[float, ...] = ()

    def score_of_repeats(self, sizes):
        return torch.tensor([self.added[self.granularities.sizes.index(size)] for size in sizes])


def repeating(num_users, num_items, added, **options):
    plain = integer_vectors(num_users, num_items, **options)
    return Repeating(plain.users, plain.items, plain.granularities, added)


def scores_of(model, g, user, history):
    scores = dense_scores(model, model.granularities.sizes[g])[user].copy()
    scores[list(set(history))] += model.added[g]
    return scores


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([(-3.0, 2.0, 0.0), (4.0, 5.0, -9.0)]), st.booleans())
def test_ranks_and_lists_equal_a_naive_loop(tmp_path_factory, seed, added, filter_seen):
    folder = tmp_path_factory.mktemp("data") / "d"
    dataset = random_dataset(folder, seed, 12, 30, split="leave-last-out")
    split = make_split(dataset)
    model = repeating(dataset.num_users, dataset.num_items, added, seed=seed)
    options = {"part": "test", "filter_seen": filter_seen, "ks": (5,)}
    try:
        counted = rank_held_out(model, dataset, split, **options)
    except DataError:  # nobody drew a history of three
        return
    listed = rank_held_out(model, dataset, split, lists=True, **options)
    held = counted.held_out
    for row, user in enumerate(held.users):
        history = dataset.items[held.start[row] : held.end[row]].tolist()
        hidden = set(history) if filter_seen else set()
        for g in range(3):
            scores = scores_of(model, g, user, history)
            wanted = rank_of(scores, held.targets[row], hidden)
            assert counted.ranks[g, row] == (MISS if np.isinf(wanted) else wanted)
            assert listed.ranks[g, row] == (wanted if wanted <= 5 else MISS)


@pytest.mark.parametrize("k", [1, 7, 60])
@pytest.mark.parametrize("added", [-3.0, 3.0])
def test_what_is_recommended_is_the_best_of_the_biased_scores(k, added):
    model = repeating(5, 40, (0.0, 0.0, added))
    random = np.random.default_rng(0)
    offsets = np.array([0, 1, 9, 20, 22, 40])
    histories = Histories(np.arange(5), random.integers(0, 40, 40).astype(np.int32), offsets)
    lists = recommend(model, histories, 40, k=k, filter_seen=False)
    for row in range(5):
        history = histories.items[offsets[row] : offsets[row + 1]].tolist()
        expected = top_items(scores_of(model, 2, row, history), set(), k)
        assert lists[row].tolist() == expected + [-1] * (k - len(expected))


def test_where_prefixes_are_normalized_it_is_added_to_cosines(tmp_path):
    dataset = random_dataset(tmp_path / "data", split="leave-last-out")
    split = make_split(dataset)
    model = repeating(dataset.num_users, dataset.num_items, (0.1, -0.2, 0.3), normalize=True)
    torch.manual_seed(0)
    model = replace(model, users=torch.randn(30, 7), items=torch.randn(23, 7))
    found = rank_held_out(model, dataset, split, part="test", filter_seen=False)
    held = found.held_out
    for row, user in enumerate(held.users):
        history = dataset.items[held.start[row] : held.end[row]].tolist()
        for g in range(3):
            scores = scores_of(model, g, user, history)
            assert found.ranks[g, row] == rank_of(scores, held.targets[row], set())
