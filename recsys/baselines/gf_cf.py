"""GF-CF: a linear and an ideal low-pass filter on the graph of users and items, in closed form.

Shen et al., How Powerful is Graph Convolution for Recommendation?, CIKM 2021. With `S = Du^-1/2 R
Di^-1/2` and V its leading right singular vectors, the scores of a history x are
`x (S^T S + alpha Di^-1/2 V V^T Di^1/2)`. The first term has full rank, so there are no vectors of
it; the model `spectral` keeps its leading coordinates.

Shape legend: B users of the batch, U users fitted, N items, D coordinates.
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
from recsys.baselines.base import BaselineConfig, Choices
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.layers.spectrum import leading, normalized


class GfCfConfig(BaselineConfig):
    """Settings of the two filters."""

    name: Literal["gf_cf"] = "gf_cf"
    coordinates: int = Field(default=256, ge=1)
    """D, of the ideal low-pass filter; no more than there are users or items."""
    ideal: float = Field(default=0.3, ge=0)
    """Weight of the ideal low-pass filter, alpha in the paper."""
    seed: int = 0

    choices: ClassVar[Choices] = {"ideal": (0, 0.1, 0.2, 0.3, 0.5, 1)}

    def fit(
        self, histories: Histories, num_items: int, features: ItemFeatures | None = None
    ) -> GfCf:
        """Normalizes the interactions and takes their leading singular vectors."""
        had = histories.rows(np.flatnonzero(histories.lengths)).to_csr(num_items)
        degrees = np.maximum(np.bincount(had.indices, minlength=num_items), 1).astype(np.float32)
        matrix = normalized(had, 0.5, 0.5)
        dim = min(self.coordinates, *matrix.shape)
        vectors, _ = leading(matrix, dim, seed=self.seed)
        root = np.sqrt(degrees)[:, None].astype(np.float32)
        return GfCf(matrix, vectors / root, vectors * root * self.ideal)


@dataclass(frozen=True)
class GfCf:
    """Scores of both filters."""

    matrix: sp.csr_matrix
    """`[U, N]` the normalized interactions."""
    read: Float32
    """`[N, D]`: a history's sum of these is its spectrum ..."""
    written: Float32
    """`[N, D]` ... and products with these its scores."""

    def scores(self, histories: Histories) -> Tensor:
        """`[B, N]`."""
        had = histories.to_csr(self.matrix.shape[1])
        linear = (had @ self.matrix.T) @ self.matrix
        return torch.from_numpy(linear.toarray() + (had @ self.read) @ self.written.T)
