"""Exploration: some places go to candidates that are drawn, rarely shown ones more often.

Shape legend: B users, K candidates, k places, N items.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from recsys.arrays import Float64
from recsys.errors import ConfigError
from recsys.rankers.lists.base import Known, Ranked
from recsys.rankers.lists.steps import Step


class ExploreConfig(Step):
    """Options of exploration."""

    name: Literal["explore"] = "explore"
    places: tuple[int, ...] = Field(default=(10,), min_length=1)
    """Places of a list, from 1, that are drawn."""
    rareness: float = Field(default=0.5, ge=0)
    """A candidate is drawn in proportion to `(popularity + 1) ** -rareness`; 0: all alike."""
    seed: int = Field(default=0, ge=0)
    """Draws follow from it: give another one for each day, say."""

    @field_validator("places")
    @classmethod
    def _are_places(cls, places: tuple[int, ...]) -> tuple[int, ...]:
        if min(places) < 1 or len(set(places)) != len(places):
            raise ValueError(f"places {places}: each from 1, and once")
        return tuple(sorted(places))

    def choose(self, ranked: Ranked, known: Known, k: int) -> Ranked:
        """See `Step.choose`; needs popularity, unless rareness is 0. What is drawn comes from
        behind the k best; the others move down.
        """
        drawn = [place - 1 for place in self.places if place <= k]
        if self.places[-1] > k:
            raise ConfigError(f"explore: place {self.places[-1]} is behind the {k} of a list")
        kept = k - len(drawn)
        pool = ranked.items[:, kept:]
        keys = np.random.default_rng(self.seed).gumbel(size=pool.shape)
        keys = np.where(pool >= 0, keys + self._weights(pool, known), -np.inf)
        # The largest of log-weights with Gumbel noise are a draw without replacement.
        found = np.argsort(-keys, axis=1, kind="stable")[:, : len(drawn)] + kept
        places = np.empty((len(pool), k), np.int64)
        others = [place for place in range(k) if place not in drawn]
        places[:, others] = np.arange(kept)
        places[:, drawn] = found
        return ranked.take(places)

    def _weights(self, pool: np.ndarray, known: Known) -> Float64:
        """`[B, K - k]` logarithms of the chances."""
        if not self.rareness:
            return np.zeros(pool.shape)
        known.require("explore", "popularity")
        assert known.popularity is not None
        found: Float64 = -self.rareness * np.log1p(known.popularity[np.maximum(pool, 0)])
        return found
