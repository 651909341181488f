"""Evaluation as one would write it on paper: dense scores, one user and one item at a time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recsys.data.dataset import Dataset, SplitRule, write_dataset
from recsys.data.histories import Histories
from recsys.granularity import Granularities
from recsys.layers.jagged import to_indices
from recsys.prefixes import truncate


@dataclass
class FixedVectors:
    """A VectorModel whose user vectors do not look at the history."""

    users: Tensor
    items: Tensor
    granularities: Granularities

    def item_vectors(self) -> Tensor:
        return self.items

    def user_vectors(self, histories: Histories) -> Tensor:
        return self.users[to_indices(histories.users)]


@dataclass
class FixedScores:
    """A ScoreModel with a table of scores."""

    table: Tensor

    def scores(self, histories: Histories) -> Tensor:
        return self.table[to_indices(histories.users)]


def random_dataset(
    folder, seed: int = 0, num_users: int = 30, num_items: int = 23, *, split: str
) -> Dataset:
    """Random histories with repetitions, some too short to be measured."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 15, num_users)
    users = np.repeat(np.arange(num_users), lengths)
    items = random.zipf(1.3, len(users)) % num_items
    times = np.concatenate([np.sort(random.integers(0, 1000, n)) for n in lengths])
    frame = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": times})
    rule = SplitRule(name=split)
    return write_dataset(folder, frame, name="random", split=rule, order="given")


def integer_vectors(num_users: int, num_items: int, sizes=(2, 4, 7), seed=0, **options):
    """Small whole numbers: sums are exact in any order, and there are many ties."""
    random = np.random.default_rng(seed)
    users, items = (
        torch.from_numpy(random.integers(-2, 3, (n, sizes[-1])).astype(np.float32))
        for n in (num_users, num_items)
    )
    return FixedVectors(users, items, Granularities(sizes=sizes, **options))


def dense_scores(model: FixedVectors, size: int) -> np.ndarray:
    normalize = model.granularities.normalize
    users = truncate(model.users, size, normalize=normalize)
    return (users @ truncate(model.items, size, normalize=normalize).T).numpy()


def rank_of(scores: Sequence[float], target: int, hidden: set[int]) -> float:
    """The last place the target can have among the items that are not hidden."""
    if target in hidden or scores[target] == -math.inf:
        return math.inf
    return sum(scores[item] >= scores[target] for item in range(len(scores)) if item not in hidden)


def metrics_of(ranks: list[float], k: int) -> dict[str, float]:
    """The five metrics of one user, straight from their definitions."""
    found = sorted(rank for rank in ranks if rank <= k)
    best = sum(1 / math.log2(place + 1) for place in range(1, min(k, len(ranks)) + 1))
    precisions = [(place + 1) / rank for place, rank in enumerate(found)]
    return {
        "recall": len(found) / len(ranks),
        "hit": float(bool(found)),
        "ndcg": sum(1 / math.log2(rank + 1) for rank in found) / best,
        "mrr": 1 / found[0] if found else 0.0,
        "map": sum(precisions) / min(k, len(ranks)),
    }


def top_items(scores: Sequence[float], hidden: set[int], k: int) -> list[int]:
    """The first k items by score, equal ones by index; nothing that may not be recommended."""
    allowed = [
        item for item in range(len(scores)) if item not in hidden and scores[item] > -math.inf
    ]
    return sorted(allowed, key=lambda item: (-scores[item], item))[:k]
