"""Calibrated lists: the categories of a list in the shares that they have in the user's history.

Steck, Calibrated Recommendations, RecSys 2018: greedily the largest
`(1 - strength) * sum of relevance - strength * KL(history || list)`, where the list's shares are
mixed with a little of the history's (eq. 7).

Shape legend: B users, K candidates, k places, G categories.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from recsys.arrays import Float32, Float64, Int64
from recsys.rankers.lists.base import Known, Ranked, blocks, category_shares, relevance
from recsys.rankers.lists.greedy import filled
from recsys.rankers.lists.steps import Step

MIXED = 0.01
"""Share of the history's distribution in the list's, so that the divergence is finite."""


def divergence(tastes: Float64 | Float32, shares: Float64 | Float32) -> Float64:
    """KL of the user's shares from the list's, over the last axis: `[..., G] -> [...]`."""
    wanted = tastes.astype(np.float64)
    mixed = (1 - MIXED) * shares + MIXED * wanted
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(wanted > 0, wanted * np.log(wanted / mixed), 0.0)
    found: Float64 = terms.sum(-1)
    return found


class CalibrateConfig(Step):
    """Options of calibrated lists."""

    name: Literal["calibrate"] = "calibrate"
    strength: float = Field(default=0.5, ge=0, le=1)
    """0: the order of scores; 1: shares alone."""

    def choose(self, ranked: Ranked, known: Known, k: int) -> Ranked:
        """See `Step.choose`; needs categories of items, and tastes of users."""
        known.require("calibrate", "categories", "tastes")
        assert known.categories is not None and known.tastes is not None
        shares = category_shares(known.categories)
        places = np.empty((len(ranked.items), k), np.int64)
        for rows in blocks(len(places), 40 * ranked.items.shape[1] * shares.shape[1]):
            some = ranked.rows(rows)
            own = shares[np.maximum(some.items, 0)]
            good = relevance(some.scores)
            choosing = _Calibrated(good, own, known.tastes[rows], self.strength)
            places[rows] = filled(some, k, choosing)
        return ranked.take(places)


class _Calibrated:
    """Gains of the objective; `summed` are the shares of the list so far, times its length."""

    def __init__(self, good: Float64, own: Float32, tastes: Float32, strength: float) -> None:
        self.good, self.own, self.tastes, self.strength = good, own, tastes, strength
        self.summed = np.zeros(tastes.shape)

    def gains(self, place: int) -> Float64:
        after = (self.summed[:, None] + self.own) / (place + 1)
        missed = divergence(np.broadcast_to(self.tastes[:, None], after.shape), after)
        return (1 - self.strength) * self.good - self.strength * missed

    def took(self, chosen: Int64) -> None:
        self.summed += self.own[np.arange(len(chosen)), chosen]
