"""Sequential rules beside a loop that counts pairs one by one."""

import numpy as np
import pytest

from recsys.baselines import default_baselines
from recsys.baselines.sequential_rules import SequentialRulesConfig, sequential_rules_obstacle
from recsys.data.histories import Histories

N = 9


def histories(seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 8, 30)
    items = rng.integers(0, N, lengths.sum()).astype(np.int32)
    return Histories(np.arange(30), items, np.concatenate([[0], np.cumsum(lengths)]))


def naive(rows, reach, last, shrinkage, asked):
    counts = np.zeros((N, N))
    for b in range(len(rows)):
        items = rows.items[rows.offsets[b] : rows.offsets[b + 1]]
        for i, first in enumerate(items):
            for step in range(1, reach + 1):
                if i + step < len(items):
                    counts[first, items[i + step]] += 1 / step
    shares = counts / (counts.sum(axis=1, keepdims=True) + shrinkage)
    scores = np.zeros((len(asked), N))
    for b in range(len(asked)):
        items = asked.items[asked.offsets[b] : asked.offsets[b + 1]][::-1][:last]
        for back, item in enumerate(items, 1):
            scores[b] += shares[item] / back
    return scores


@pytest.mark.parametrize("reach, last", [(1, 1), (3, 1), (1, 4), (20, 20)])
def test_scores_are_those_of_a_loop(reach, last, monkeypatch):
    rows, asked = histories(), histories(1)
    config = SequentialRulesConfig(reach=reach, last=last, shrinkage=2.0)
    for at_once in (1, 10**6):  # counted in pieces, and at once
        monkeypatch.setattr("recsys.baselines.sequential_rules._PAIRS", at_once)
        found = config.fit(rows, N).scores(asked).numpy()
        np.testing.assert_allclose(found, naive(rows, reach, last, 2.0, asked), atol=2e-6)


def test_a_markov_chain_asks_the_last_item_alone_and_puts_popular_items_behind_it():
    rows = Histories(np.arange(3), np.array([0, 1, 0, 2, 3, 3], np.int32), np.array([0, 2, 4, 6]))
    model = SequentialRulesConfig(reach=1, last=1, shrinkage=0.0).fit(rows, 5)
    asked = Histories(np.arange(1), np.array([3, 0], np.int32), np.array([0, 2]))
    scores = model.scores(asked)[0]
    assert scores[:3].tolist() == pytest.approx([1e-6, 0.5, 0.5], abs=1e-6)
    assert scores[3] == scores[[0, 3, 4]].max() and scores[4] == 0


def test_it_stands_among_the_default_baselines_where_it_takes_no_minutes():
    few, many = np.array([1000]), np.array([10**8])
    assert "sequential_rules" in [config.name for config in default_baselines(100, few).configs]
    assert "sequential_rules" in default_baselines(100, many).left_out
    assert "ask for it: recsys baselines DATA sequential_rules" in sequential_rules_obstacle(many)
    assert SequentialRulesConfig().takes_minutes(100, np.array([10**7]))
