"""Protocols for the kinds of models that the evaluator ranks.

Shape legend: B users, K interests of a user, N items, D coordinates, G granularities.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import scipy.sparse as sp
from torch import Tensor

from recsys.data.histories import Histories
from recsys.granularity import Granularities


@runtime_checkable
class VectorModel(Protocol):
    """A model whose scores are dot products of nested vectors."""

    @property
    def granularities(self) -> Granularities:
        """The prefixes the vectors were made for."""
        ...

    def item_vectors(self) -> Tensor:
        """`[N, D]`, in the order of item indices."""
        ...

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]`, one per row of `histories` (each at least one interaction long);
        `[B, K, D]` of an `InterestModel` of K interests.
        """
        ...


@runtime_checkable
class InterestModel(Protocol):
    """A VectorModel that may give each user several vectors; a score is the best of theirs, at
    every granularity by itself.
    """

    @property
    def num_interests(self) -> int:
        """K; 1: `user_vectors` gives `[B, D]`."""
        ...


def interests_of(model: object) -> int:
    """How many vectors a model gives of each user; 1 of one that does not say."""
    return model.num_interests if isinstance(model, InterestModel) else 1


@runtime_checkable
class RepeatModel(Protocol):
    """A VectorModel that may add a bias to the scores of items the user has had."""

    def score_of_repeats(self, sizes: tuple[int, ...]) -> Tensor | None:
        """`[G]` what is added to these scores (to cosines, where prefixes are normalized) when
        prefixes of `sizes` are scored; None: nothing.
        """
        ...


@runtime_checkable
class ScoreModel(Protocol):
    """A model that scores the catalogue directly; it has no granularities."""

    def scores(self, histories: Histories) -> Tensor:
        """`[B, N]`, higher is better; -inf: never to be recommended."""
        ...


@runtime_checkable
class FlatModel(Protocol):
    """A VectorModel whose vectors must not be truncated; its figures have no granularity."""

    @property
    def flat(self) -> bool:
        """Always true."""
        ...


@runtime_checkable
class TimedModel(Protocol):
    """A model that says what it reads of time."""

    @property
    def reads_time(self) -> str:
        """`none`, `history` (when each interaction was) or `request` (also that of the request)."""
        ...


def time_read(model: object) -> str:
    """What a model reads of time; `none` of one that does not say."""
    return model.reads_time if isinstance(model, TimedModel) else "none"


@runtime_checkable
class SharedModel(Protocol):
    """A ScoreModel whose scores are the same for all users, except for a few items of each user."""

    def shared_scores(self) -> Tensor:
        """`[N]`."""
        ...

    def own_scores(self, histories: Histories) -> sp.csr_matrix:
        """`[B, N]` float32: what is stored stands in the place of the shared score."""
        ...
