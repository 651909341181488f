"""What every baseline recommends, and its figures, against dense numpy: one user, one item a time.

The data hold repeats, popular items above others, and items that training has not seen.
"""

import numpy as np
import pytest

from recsys.baselines import BASELINES, fit_baseline
from recsys.baselines.als import AlsConfig, BprConfig
from recsys.baselines.content_knn import ContentKNNConfig
from recsys.baselines.ease import EaseConfig
from recsys.baselines.gf_cf import GfCfConfig
from recsys.baselines.item_knn import ItemKNNConfig
from recsys.baselines.popularity import PopularityConfig, RecentPopularityConfig
from recsys.baselines.sequential_rules import SequentialRulesConfig
from recsys.baselines.slim import SlimConfig
from recsys.data.dataset import Dataset
from recsys.data.features.loading import load_features
from recsys.data.features.manifest import FeatureOrigin
from recsys.data.features.writing import write_categories
from recsys.data.splitting import Split, make_split
from recsys.evaluation.evaluate import evaluate
from recsys.evaluation.held_out import fit_histories, held_out
from recsys.evaluation.protocol import PROTOCOLS
from recsys.evaluation.recommend import recommend
from recsys.granularity import Granularities
from tests.baselines.test_slim import slim_weights
from tests.evaluation.ranking.naive import metrics_of, random_dataset, rank_of

ONE = Granularities(sizes=(6,))
SETTINGS = {
    "popularity": PopularityConfig(),
    "recent_popularity": RecentPopularityConfig(share=0.2),
    "item_knn": ItemKNNConfig(neighbours=6, shrinkage=3),
    "sequential_rules": SequentialRulesConfig(reach=3, last=3, shrinkage=2),
    "ease": EaseConfig(l2=4),
    "slim": SlimConfig(l1=1, l2=3, tolerance=1e-7),
    "gf_cf": GfCfConfig(coordinates=5, ideal=0.4),
    "als": AlsConfig(granularities=ONE, iterations=3),
    "bpr": BprConfig(granularities=ONE, iterations=3),
    "content_knn": ContentKNNConfig(features=("kind",), last=3, decay=0.5),
}
KINDS = 3


def kind_of(item: int) -> int:
    return item % KINDS


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Dataset:
    dataset = random_dataset(
        tmp_path_factory.mktemp("data") / "data", 7, 60, 40, split="global-time"
    )
    count = dataset.num_items
    kinds = np.array([kind_of(item) for item in range(count)], np.int32)
    names, origin = ["a", "b", "c"], FeatureOrigin(source="made by hand")
    write_categories(dataset.folder, "kind", kinds, np.arange(count + 1), names, origin)
    return dataset


def training(column, split: Split) -> list[list[int]]:
    return [column[lo:hi].tolist() for lo, hi in zip(split.start, split.train_end, strict=True)]


def naive_scores(name, model, data: Dataset, split: Split, histories: list[list[int]]):
    """`[B, N]` in float64, from the definitions."""
    rows, num_items = training(data.items, split), data.num_items
    x = np.zeros((len(rows), num_items))
    for user, items in enumerate(rows):
        x[user, items] = 1
    h = np.zeros((len(histories), num_items))
    for row, items in enumerate(histories):
        h[row, items] = 1
    if name in ("popularity", "recent_popularity"):
        counts = np.array([sum(items.count(i) for items in rows) for i in range(num_items)])
        recent = np.zeros(num_items)
        if name == "recent_popularity":
            times = [
                data.timestamps[lo:hi] for lo, hi in zip(split.start, split.train_end, strict=True)
            ]
            since = np.quantile(np.concatenate(times), 0.8, method="higher")
            for items, when in zip(rows, times, strict=True):
                for item, time in zip(items, when, strict=True):
                    recent[item] += time >= since
        return np.tile(recent + counts / 1e6, (len(histories), 1))
    if name == "item_knn":
        counts = x.sum(0)
        weights = np.zeros((num_items, num_items))
        for i in range(num_items):
            near = {
                j: (x[:, i] @ x[:, j]) / (np.sqrt(counts[i] * counts[j]) + 3)
                for j in range(num_items)
                if j != i and x[:, i] @ x[:, j]
            }
            for j in sorted(near, key=lambda j: (-np.float32(near[j]), j))[:6]:
                weights[i, j] = near[j]
        return h @ weights
    if name == "sequential_rules":
        counts = np.zeros((num_items, num_items))
        for items in rows:
            for place, first in enumerate(items):
                for step, second in enumerate(items[place + 1 : place + 4], 1):
                    counts[first, second] += 1 / step
        shares = counts / (counts.sum(1, keepdims=True) + 2)
        had = np.bincount(np.concatenate(rows).astype(int), minlength=num_items)
        scores = np.tile(had / had.max() * 1e-6, (len(histories), 1))
        for row, items in enumerate(histories):
            for back, item in enumerate(reversed(items[-3:]), 1):
                scores[row] += shares[item] / back
        return scores
    if name == "ease":
        inverse = np.linalg.inv(x.T @ x + 4 * np.eye(num_items))
        weights = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0)
        return h @ weights
    if name == "slim":
        return h @ slim_weights(x, l1=1, l2=3)
    if name == "gf_cf":
        x = x[x.any(axis=1)]
        popular = np.maximum(x.sum(0), 1)
        s = x / np.sqrt(x.sum(1, keepdims=True)) / np.sqrt(popular)
        v = np.linalg.svd(s)[2][:5]
        low_pass = (v / np.sqrt(popular)).T @ (v * np.sqrt(popular))
        return h @ (s.T @ s + 0.4 * low_pass)
    if name == "als":
        items = model.item_vectors().double().numpy()
        users = []
        for row in h:
            weighted = items * np.where(row > 0, 10.0, 1.0)[:, None]
            left = weighted.T @ items + 0.01 * np.eye(6)
            users.append(np.linalg.solve(left, weighted.T @ row))
        return np.array(users) @ items.T
    if name == "bpr":
        return model.users.astype(float)[: len(data.offsets) - 1] @ model.items.astype(float).T
    counts = np.array([sum(kind_of(i) == k for i in range(num_items)) for k in range(KINDS)])
    assert (counts > 0).all()
    scores = np.zeros((len(histories), num_items))
    for row, items in enumerate(histories):
        profile = np.zeros(KINDS)
        for age, item in enumerate(reversed(items[-3:])):
            profile[kind_of(item)] += 0.5**age
        profile /= np.linalg.norm(profile)
        scores[row] = [profile[kind_of(item)] for item in range(num_items)]
    return scores


@pytest.mark.parametrize("filter_seen", [True, False])
@pytest.mark.parametrize("name", BASELINES.names())
def test_lists_and_figures_are_those_of_dense_numpy(name, filter_seen, data):
    split = make_split(data)
    features = load_features(data.folder, ["kind"]) if name == "content_knn" else None
    model = fit_baseline(
        SETTINGS[name], fit_histories(data, split, "train"), data.num_items, features
    )
    held = held_out(data, split, "test")
    histories = held.histories(data, np.arange(len(held.users)))
    past = [data.items[lo:hi].tolist() for lo, hi in zip(held.start, held.end, strict=True)]
    scores = naive_scores(name, model, data, split, past)
    scores = scores[held.users] if name == "bpr" else scores
    scores = np.round(scores, 9 if "popularity" in name else 4)  # ours are float32
    found = recommend(model, histories, data.num_items, k=data.num_items, filter_seen=filter_seen)
    for row, listed in enumerate(found):
        hidden = set(past[row]) if filter_seen else set()
        listed = listed[listed >= 0]
        assert sorted(listed) == sorted(set(range(data.num_items)) - hidden)
        assert (np.diff(scores[row, listed]) <= 1.1e-4).all()
    if name in ("popularity", "recent_popularity", "content_knn"):  # no rounding decides of ties
        protocol = PROTOCOLS["global-time"].model_copy(update={"filter_seen": filter_seen})
        table = evaluate(model, data, split, protocol=protocol, part="test", ks=(1, 5))
        ranks = [
            [rank_of(scores[row], t, set(past[row]) if filter_seen else set()) for t in targets]
            for row, targets in enumerate(np.split(held.targets, held.offsets[1:-1]))
        ]
        for metric in ("recall", "ndcg", "mrr", "hit", "map"):
            expected = np.mean([metrics_of(of_user, 5)[metric] for of_user in ranks])
            assert table.value(metric, 5) == pytest.approx(expected)
