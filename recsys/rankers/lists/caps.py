"""Caps: at most so many items of each category in a list.

Shape legend: B users, K candidates, k places, G categories.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from recsys.arrays import Bool, Float64, Int64
from recsys.errors import ConfigError
from recsys.rankers.lists.base import Known, Ranked, blocks
from recsys.rankers.lists.greedy import filled
from recsys.rankers.lists.steps import Step


class CapsConfig(Step):
    """Options of caps."""

    name: Literal["caps"] = "caps"
    most: int = Field(default=3, ge=1)
    """Items of any one category in a list."""
    categories: dict[str, int] = Field(default_factory=dict)
    """Other caps by the name of a category; 0: none of it."""

    def choose(self, ranked: Ranked, known: Known, k: int) -> Ranked:
        """See `Step.choose`; needs categories of items. An item of several counts in each. Where
        too few candidates fit, the list ends early (-1): a cap is kept.
        """
        known.require("caps", "categories")
        assert known.categories is not None
        caps = np.full(known.categories.shape[1], self.most)
        for name, most in self.categories.items():
            if name not in known.category_names:
                raise ConfigError(
                    f"caps: there is no category {name!r}; known: {', '.join(known.category_names)}"
                )
            caps[known.category_names.index(name)] = most
        places = np.empty((len(ranked.items), k), np.int64)
        for rows in blocks(len(places), 2 * ranked.items.shape[1] * len(caps)):
            some = ranked.rows(rows)
            own = known.categories[np.maximum(some.items, 0)]
            places[rows] = filled(some, k, _Capped(own, caps))
        return ranked.take(places)


class _Capped:
    """The order of the candidates, without those whose categories are full."""

    def __init__(self, own: Bool, caps: Int64) -> None:
        self.own, self.left = own, np.repeat(caps[None], len(own), axis=0)
        self.order = -np.arange(own.shape[1], dtype=np.float64)[None]

    def gains(self, place: int) -> Float64:
        del place
        full = (self.own & (self.left <= 0)[:, None]).any(-1)
        return np.where(full, -np.inf, self.order)

    def took(self, chosen: Int64) -> None:
        self.left = self.left - self.own[np.arange(len(chosen)), chosen]
