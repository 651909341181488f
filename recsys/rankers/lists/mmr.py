"""MMR: each place goes to the item that is good and unlike those before it.

Carbonell and Goldstein, The Use of MMR, Diversity-Based Reranking, SIGIR 1998.

Shape legend: B users, K candidates, k places, D coordinates.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from recsys.arrays import Float32, Float64, Int64
from recsys.rankers.lists.base import Known, Ranked, blocks, relevance, unit_vectors
from recsys.rankers.lists.greedy import filled
from recsys.rankers.lists.steps import Step


class MmrConfig(Step):
    """Options of MMR."""

    name: Literal["mmr"] = "mmr"
    diversity: float = Field(default=0.3, ge=0, le=1)
    """0: the order of scores; 1: each item as unlike those before it as can be."""

    def choose(self, ranked: Ranked, known: Known, k: int) -> Ranked:
        """See `Step.choose`; needs vectors of items."""
        known.require("mmr", "vectors")
        assert known.vectors is not None
        places = np.empty((len(ranked.items), k), np.int64)
        for rows in blocks(len(places), 4 * ranked.items.shape[1] * known.vectors.shape[1]):
            some = ranked.rows(rows)
            vectors = unit_vectors(known.vectors, some.items)
            places[rows] = filled(some, k, _Mmr(relevance(some.scores), vectors, self.diversity))
        return ranked.take(places)


class _Mmr:
    """`(1 - diversity) relevance - diversity * cosine with the likest item of the list`."""

    def __init__(self, good: Float64, vectors: Float32, diversity: float) -> None:
        self.good, self.vectors, self.diversity = good, vectors, diversity
        self.likest: Float64 | None = None

    def gains(self, place: int) -> Float64:
        del place
        worth: Float64 = (1 - self.diversity) * self.good
        return worth if self.likest is None else worth - self.diversity * self.likest

    def took(self, chosen: Int64) -> None:
        last = self.vectors[np.arange(len(chosen)), chosen]
        alike = np.matmul(self.vectors, last[:, :, None])[:, :, 0].astype(np.float64)
        self.likest = alike if self.likest is None else np.maximum(self.likest, alike)
