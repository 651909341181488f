"""DPP: the list that spans the largest volume of good vectors, found greedily.

Chen, Zhang and Zhou, Fast Greedy MAP Inference for Determinantal Point Process, NeurIPS 2018. The
kernel of two items is `quality_i * cosine(i, j) * quality_j`.

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

_LEAST = 1e-10


class DppConfig(Step):
    """Options of the DPP."""

    name: Literal["dpp"] = "dpp"
    diversity: float = Field(default=0.3, ge=0, lt=1)
    """0: the order of scores; near 1: volume alone. Quality is `exp(a * relevance)`, with
    `a = (1 - diversity) / (2 * diversity)` as in the paper (section 4)."""

    def choose(self, ranked: Ranked, known: Known, k: int) -> Ranked:
        """See `Step.choose`; needs vectors of items. The rank of the vectors may end a volume:
        places that are left go to the best scores.
        """
        known.require("dpp", "vectors")
        if self.diversity == 0:
            return Ranked(ranked.items[:, :k], ranked.scores[:, :k])
        assert known.vectors is not None
        places = np.empty((len(ranked.items), k), np.int64)
        width = ranked.items.shape[1]
        for rows in blocks(len(places), width * (4 * known.vectors.shape[1] + 8 * k)):
            some = ranked.rows(rows)
            vectors = unit_vectors(known.vectors, some.items)
            weight = (1 - self.diversity) / (2 * self.diversity)
            choosing = _Dpp(weight * relevance(some.scores), vectors, k)
            places[rows] = filled(some, k, choosing)
        return ranked.take(places)


class _Dpp:
    """The gain of an item is the logarithm of what it adds to the volume (algorithm 1)."""

    def __init__(self, log_quality: Float64, vectors: Float32, k: int) -> None:
        self.log_quality, self.vectors = log_quality, vectors
        # Of unit vectors: quality multiplies a determinant from outside.
        self.left = (vectors * vectors).sum(-1).astype(np.float64)
        self.rows = np.zeros((*log_quality.shape, k))
        self.place = 0

    def gains(self, place: int) -> Float64:
        self.place = place
        spanned = self.left <= _LEAST
        volume = np.log(np.maximum(self.left, _LEAST)) + 2 * self.log_quality
        # What lies in the span of the list adds no volume: after all others, by quality.
        return np.where(spanned, -1e6 + self.log_quality, volume)

    def took(self, chosen: Int64) -> None:
        users = np.arange(len(chosen))
        last = self.vectors[users, chosen]
        alike = np.matmul(self.vectors, last[:, :, None])[:, :, 0].astype(np.float64)
        before = self.rows[:, :, : self.place]
        shared = np.matmul(before, before[users, chosen][:, :, None])[:, :, 0]
        length = np.sqrt(np.maximum(self.left[users, chosen], _LEAST))[:, None]
        new = np.where(self.left[users, chosen][:, None] > _LEAST, (alike - shared) / length, 0.0)
        self.rows[:, :, self.place] = new
        self.left = np.maximum(self.left - new * new, 0.0)
