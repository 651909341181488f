"""Diversity of categories: each place goes to an item that is good and of other categories.

Cen et al., Controllable Multi-Interest Framework for Recommendation (ComiRec), KDD 2020, section
3.4: greedily the largest `score + strength * (number of items in the list of other categories)`.

Departures from the paper: scores are brought to the range from 0 to 1 first, so that one strength
means the same to every user; an item may be of several categories, and two items differ if they
have none in common. An item of which no category is known differs from none: else it would be worth
more than all others.

Shape legend: B users, K candidates, k places, N items, G categories, T categories of all items, or
of all candidates of a block of users.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from recsys.arrays import Bool, Float32, Float64, Int64
from recsys.data.features.columns import category_lists
from recsys.data.histories import jagged_positions
from recsys.errors import ConfigError
from recsys.rankers.lists.base import Known, Ranked, blocks, relevance
from recsys.rankers.lists.greedy import filled
from recsys.rankers.lists.steps import Step

_EACH = 5
_BYTES = 80
"""For each category of a candidate, and each candidate, about."""


class CategoriesConfig(Step):
    """Options of the diversity of categories."""

    name: Literal["categories"] = "categories"
    strength: float = Field(default=0.05, ge=0)
    """What an earlier item of another category adds, where the best score is 1 and the worst of the
    candidates 0. 0: the order of scores."""

    def choose(self, ranked: Ranked, known: Known, k: int) -> Ranked:
        """See `Step.choose`; needs categories of items."""
        known.require("categories", "categories")
        assert known.categories is not None
        return _chosen(ranked, ItemCategories.of_flags(known.categories), self.strength, k)


def _chosen(ranked: Ranked, categories: ItemCategories, strength: float, k: int) -> Ranked:
    """Lists of k; what it takes grows with the categories that the candidates have, and not with
    how many there are of them in all.
    """
    places = np.empty((len(ranked.items), k), np.int64)
    own = np.diff(categories.offsets)[ranked.items.clip(0)].sum()
    each = _BYTES * (ranked.items.shape[1] + own // max(1, len(places)))
    for rows in blocks(len(places), int(each)):
        some = ranked.rows(rows)
        places[rows] = filled(some, k, _Differing(some, categories, strength))
    return ranked.take(places)


class _Differing:
    """`differ` counts, for each candidate, the items of the list that share no category with it;
    items without any do not count.
    """

    def __init__(self, ranked: Ranked, categories: ItemCategories, strength: float) -> None:
        self.good, self.strength = relevance(ranked.scores), strength
        self.differ = np.zeros(self.good.shape)
        items, offsets = ranked.items.ravel(), categories.offsets
        lo = offsets[items.clip(0)]
        hi = np.where(items < 0, lo, offsets[items.clip(0) + 1])
        positions, self.edges = jagged_positions(lo, hi)  # [T], [B K + 1]
        self.known: Bool = (hi > lo).reshape(self.good.shape)
        users = np.repeat(np.arange(len(items)) // self.good.shape[1], hi - lo)
        keys = users * (int(categories.codes.max(initial=0)) + 1) + categories.codes[positions]
        names, self.numbers = np.unique(keys, return_inverse=True)  # of a user's categories
        self.taken = np.zeros(len(names), bool)

    def gains(self, place: int) -> Float64:
        del place
        worth: Float64 = self.good + self.strength * self.differ
        return worth

    def took(self, chosen: Int64) -> None:
        rows, candidates = np.arange(len(chosen)), self.good.shape[1]
        at = rows * candidates + chosen
        self.taken[:] = False
        self.taken[self.numbers[jagged_positions(self.edges[at], self.edges[at + 1])[0]]] = True
        shared = np.concatenate([[0], np.cumsum(self.taken[self.numbers])])[self.edges]
        apart = (shared[1:] == shared[:-1]).reshape(self.good.shape)
        self.differ = self.differ + (apart & self.known & self.known[rows, chosen, None])


@dataclass(frozen=True)
class ItemCategories:
    """Which categories each item has, one after another."""

    codes: Int64
    """`[T]` from 0 on."""
    offsets: Int64
    """`[N + 1]`: those of item n are `codes[offsets[n]:offsets[n + 1]]`."""

    @staticmethod
    def of(column: pl.Series, separator: str = "|") -> ItemCategories:
        """Of a column of items: lists, or values, of which text is cut at the separator.

        Raises:
            DataError: it holds lists of lists.
        """
        values = category_lists(column, separator)
        frame = pl.DataFrame({"item": np.arange(len(values)), "value": values}).explode("value")
        frame = frame.with_columns(pl.col("value").str.strip_chars())
        frame = frame.drop_nulls().filter(pl.col("value") != "").unique().sort("item", "value")
        codes = frame["value"].rank("dense").to_numpy().astype(np.int64) - 1
        counts = np.bincount(frame["item"].to_numpy(), minlength=len(values))
        return ItemCategories(codes, np.concatenate([[0], np.cumsum(counts)]))

    @staticmethod
    def of_flags(flags: Bool) -> ItemCategories:
        """Of `[N, G]`, which categories each item has."""
        counts = flags.sum(axis=1)
        return ItemCategories(flags.nonzero()[1], np.concatenate([[0], np.cumsum(counts)]))


def candidates_for(k: int, num_items: int) -> int:
    """How many candidates a list of k is chosen from."""
    return max(k, min(_EACH * k, num_items))


@contextmanager
def more_candidates(k: int, count: int) -> Iterator[None]:
    """Tells why so many candidates were asked for, where they cannot be had."""
    try:
        yield
    except ConfigError as error:
        if count == k:
            raise
        raise ConfigError(
            f"for diversity lists of {k} are chosen from {count} candidates, and {error}"
        ) from error


def diversified(
    items: Int64, scores: Float32, categories: ItemCategories, strength: float, k: int
) -> tuple[Int64, Float32]:
    """Lists `[B, k]` of the step, from candidates `[B, K]`, best first, -1 behind their end."""
    chosen = _chosen(Ranked(items, scores), categories, strength, k)
    return chosen.items, chosen.scores
