"""Which features a ranker reads."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from recsys.config import StrictModel


class PairsConfig(StrictModel):
    """Items that go together, counted in the known histories."""

    reach: int = Field(default=10, ge=1)
    """Steps ahead that count as what came next; a pair `s` steps apart weighs `1 / s`."""
    last: int = Field(default=10, ge=1)
    """Items of the history, from the most recent, that a candidate is compared with."""
    kept: int = Field(default=300, ge=1)
    """Pairs kept for each item, those with the highest counts."""


class FeaturesConfig(StrictModel):
    """The groups of features. Columns of items and users are named; nothing is taken unasked."""

    scores: bool = True
    """At every granularity: the score, its distance from the best one, and the place by it."""
    slices: bool = True
    """Products of user and item vector over the coordinates between neighbouring granularities."""
    popularity: bool = True
    """Interactions of the item before the moment; where times are known also when it was first and
    last taken."""
    windows: tuple[float, ...] = (1.0, 7.0, 30.0)
    """Days before the moment in which interactions are counted as well, where times are known."""
    rules: PairsConfig | None = PairsConfig()
    """How often the candidate came soon after the last items of the history. None: not counted."""
    neighbours: PairsConfig | None = PairsConfig(last=20)
    """Cosine of the users of the candidate and of the last items; `reach` plays no part in it."""
    history: bool = True
    """Length and popularity of the history; with times, the time since the last interaction."""
    item_numbers: tuple[str, ...] = ()
    """Features of the data set, as `recsys columns` makes them: the number, and its distance from
    the history's mean."""
    item_categories: tuple[str, ...] = ()
    """The categories of the item, and how much of the history shares them. Where items have
    several, each stands in a column of its own; networks average the vectors of all."""
    most_categories: int = Field(default=6, ge=1)
    """Columns of an item's categories at most; further ones count in the history's share alone."""
    item_vectors: tuple[str, ...] = ()
    """Cosines of the item's vector with the mean of the last items' and with the last item's."""
    user_numbers: tuple[str, ...] = ()
    """Columns of the data set's users table, as numbers."""
    user_categories: tuple[str, ...] = ()
    """The same as categories."""
    context: tuple[Literal["hour", "weekday"], ...] = ()
    """Hour and weekday (UTC) of the moment, where it is known."""
    recent: int = Field(default=50, ge=1)
    """Items of the history that are compared with an item's numbers, categories and vectors."""

    @field_validator("windows")
    @classmethod
    def _windows_are_lengths_of_time(cls, given: tuple[float, ...]) -> tuple[float, ...]:
        if any(days <= 0 for days in given) or len(set(given)) < len(given):
            raise ValueError("different numbers of days above 0 are expected, as [1, 7, 30]")
        return given
