"""Models cut down to some of the catalogue's items: what an allow list leaves to be ranked.

Histories still name items of the whole catalogue; scores are of the n items that are left.

Shape legend: B users of a batch, N items of the catalogue, n that are left, D coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from torch import Tensor

from recsys.arrays import Int64
from recsys.data.histories import Histories
from recsys.devices import to_indices
from recsys.granularity import Granularities
from recsys.model_protocols import (
    FlatModel,
    RepeatModel,
    ScoreModel,
    SharedModel,
    VectorModel,
    interests_of,
)


@dataclass(frozen=True)
class VectorsOfSome:
    """A VectorModel."""

    model: VectorModel
    items: Int64
    """`[n]` ascending indices into the catalogue."""

    @property
    def granularities(self) -> Granularities:
        """Those of the model."""
        return self.model.granularities

    @property
    def num_interests(self) -> int:
        """That of the model."""
        return interests_of(self.model)

    def item_vectors(self) -> Tensor:
        """`[n, D]`."""
        vectors = self.model.item_vectors()
        return vectors[to_indices(self.items, vectors.device)]

    def user_vectors(self, histories: Histories) -> Tensor:
        """As of the model."""
        return self.model.user_vectors(histories)

    def score_of_repeats(self, sizes: tuple[int, ...]) -> Tensor | None:
        """As of the model."""
        return self.model.score_of_repeats(sizes) if isinstance(self.model, RepeatModel) else None


@dataclass(frozen=True)
class FlatVectorsOfSome(VectorsOfSome):
    """A VectorModel whose vectors are not to be cut."""

    flat: bool = True


@dataclass(frozen=True)
class ScoresOfSome:
    """A ScoreModel."""

    model: ScoreModel
    items: Int64
    """`[n]` ascending indices into the catalogue."""

    def scores(self, histories: Histories) -> Tensor:
        """`[B, n]`."""
        scores = self.model.scores(histories)
        return scores[:, to_indices(self.items, scores.device)]


@dataclass(frozen=True)
class SharedScoresOfSome:
    """A SharedModel."""

    model: SharedModel
    items: Int64
    """`[n]` ascending indices into the catalogue."""

    def scores(self, histories: Histories) -> Tensor:
        """`[B, n]`."""
        raise NotImplementedError("shared scores are ranked apart")

    def shared_scores(self) -> Tensor:
        """`[n]`."""
        scores = self.model.shared_scores()
        return scores[to_indices(self.items, scores.device)]

    def own_scores(self, histories: Histories) -> sp.csr_matrix:
        """`[B, n]`."""
        own: sp.csr_matrix = self.model.own_scores(histories).tocsc()[:, self.items].tocsr()
        return own


def model_of_some(model: VectorModel | ScoreModel, items: Int64) -> VectorModel | ScoreModel:
    """The model of the catalogue's `items [n]` alone, of the kind it is."""
    if isinstance(model, FlatModel) and isinstance(model, VectorModel):
        return FlatVectorsOfSome(model, items)
    if isinstance(model, VectorModel):
        return VectorsOfSome(model, items)
    if isinstance(model, SharedModel):
        return SharedScoresOfSome(model, items)
    return ScoresOfSome(model, items)


def histories_of_some(histories: Histories, items: Int64, num_items: int) -> Histories:
    """Histories with the items that are left alone, by their place among `items [n]`."""
    places = np.full(num_items, -1, np.int32)
    places[items] = np.arange(len(items), dtype=np.int32)
    found = places[histories.items]
    kept = found >= 0
    before = np.concatenate([[0], np.cumsum(kept)])
    times = None if histories.timestamps is None else histories.timestamps[kept]
    offsets = before[histories.offsets]
    return Histories(histories.users, found[kept], offsets, times, histories.asked_at)
