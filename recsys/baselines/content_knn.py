"""Content-kNN: items whose content is like that of the user's last items.

It needs no other users, so items nobody has had are recommended like any others: what a model of
cold items must beat.

Shape legend: B users of the batch, N items, F coordinates of all features side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor

from recsys.arrays import Float32
from recsys.baselines.base import BaselineConfig
from recsys.data.features.loading import CategoricalFeature, ItemFeatures, VectorFeature
from recsys.data.histories import Histories, jagged_positions
from recsys.errors import DataError
from recsys.granularity import Granularities


class ContentKNNConfig(BaselineConfig):
    """Settings of neighbours by content."""

    name: Literal["content_knn"] = "content_knn"
    order_free: ClassVar[bool] = False
    features: tuple[str, ...] = Field(default=("text",), min_length=1)
    """Vectors and categories of the data set; all weigh the same."""
    last: int = Field(default=10, ge=1)
    """Most recent items that the profile is made of."""
    decay: float = Field(default=1.0, gt=0, le=1)
    """Weight of an item over that of the one after it."""
    centre: bool = False
    """Take the mean of all items from vectors."""

    @property
    def item_features(self) -> tuple[str, ...]:
        """As `features`."""
        return self.features

    def fit(
        self, histories: Histories, num_items: int, features: ItemFeatures | None = None
    ) -> ContentKNN:
        """Puts the features side by side, and reads no histories.

        Raises:
            DataError: a feature is a number, which has no direction.
        """
        assert features is not None  # `fit_baseline`
        parts = []
        for name in self.features:
            if name in features.vectors:
                parts.append(_vectors(features.vectors[name], centre=self.centre))
            elif name in features.categories:
                parts.append(_categories(features.categories[name]))
            else:
                raise DataError(
                    f"content_knn compares vectors and categories; {name!r} is a number"
                )
        content = np.concatenate(parts, axis=1) / len(parts) ** 0.5
        return ContentKNN(torch.from_numpy(content), self.last, self.decay)


@dataclass(frozen=True)
class ContentKNN:
    """Score of an item: its cosine with the weighted mean of the recent items' content."""

    content: Tensor
    """`[N, F]`, each feature of length 1 or, where absent, 0."""
    last: int
    decay: float

    @property
    def granularities(self) -> Granularities:
        """All coordinates: features stand side by side, so a prefix is a part of them."""
        return Granularities(sizes=(self.content.shape[1],))

    @property
    def flat(self) -> bool:
        """Not to be cut."""
        return True

    def item_vectors(self) -> Tensor:
        """`[N, F]`."""
        return self.content

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, F]` profiles of length 1, or 0 where the recent items have no content."""
        recent = histories.last(self.last)
        rows = np.repeat(np.arange(len(recent)), recent.lengths)
        from_end = recent.offsets[rows + 1] - 1 - np.arange(len(rows))
        weights = (self.decay**from_end).astype(np.float32)
        pick = sp.csr_matrix(
            (weights, recent.items, recent.offsets), shape=(len(recent), len(self.content))
        )
        profiles = torch.from_numpy(pick @ self.content.numpy())
        return torch.nn.functional.normalize(profiles, dim=1)

    def scores(self, histories: Histories) -> Tensor:
        """`[B, N]`."""
        return self.user_vectors(histories) @ self.content.T


def _vectors(feature: VectorFeature, *, centre: bool) -> Float32:
    rows, present = np.array(feature.vectors, np.float32), np.asarray(feature.present)
    if centre and present.any():
        rows -= rows[present].mean(axis=0)
    return _unit(np.where(present[:, None], rows, 0.0))


def _categories(feature: CategoricalFeature) -> Float32:
    """Rare categories weigh more: log(N / items that have it)."""
    num_items, num = len(feature.offsets) - 1, len(feature.names)
    positions, offsets = jagged_positions(feature.offsets[:-1], feature.offsets[1:])
    values = np.asarray(feature.values)[positions]
    rarity = np.log(num_items / np.bincount(values, minlength=num).clip(1)).astype(np.float32)
    matrix = sp.csr_matrix((rarity[values], values, offsets), shape=(num_items, num))
    return _unit(matrix.toarray())


def _unit(rows: Float32) -> Float32:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Float32 = (rows / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
    return unit
