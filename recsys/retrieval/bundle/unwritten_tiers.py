"""Tiers in memory that were never written, for measuring before an export.

Shape legend: N items, D coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.arrays import Float32
from recsys.errors import GranularityError
from recsys.retrieval.bundle.tiers import Tiers, TierSpec, encode_tiers
from recsys.retrieval.codecs.base import blocks_of


class InMemory:
    """Items to be searched, encoded by the codecs of the tiers."""

    def __init__(
        self,
        vectors: Float32,
        tiers: Sequence[TierSpec] | Tiers,
        sizes: Sequence[int],
        *,
        normalize: bool,
    ) -> None:
        """Encodes `[N, D]`, unless that was done; `sizes` are the granularities to be stages."""
        self.items = tiers if isinstance(tiers, Tiers) else encode_tiers(vectors, tiers)
        self.sizes = tuple(size for size in sizes if size <= self.items.dim)
        self._norms = self._norms_of_stored() if normalize else {}

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.items)

    def check_size(self, size: int) -> int:
        """`size`, if it can be a stage.

        Raises:
            GranularityError: it cannot.
        """
        if size not in self.sizes:
            raise GranularityError(f"granularity {size} is not among {self.sizes}")
        return size

    def norms(self, size: int) -> Float32 | None:
        """`[N]` norms of the stored prefixes; None where scores are dot products."""
        return self._norms.get(self.check_size(size))

    def _norms_of_stored(self) -> dict[int, Float32]:
        squares = np.zeros(len(self.items), np.float64)
        norms, edge = {}, 0
        for size in self.sizes:
            for rows in blocks_of(len(self.items)):
                part = self.items.decode(rows, edge, size)
                squares[rows] += np.square(part, dtype=np.float64).sum(axis=1)
            norms[size], edge = np.sqrt(squares).clip(1e-12).astype(np.float32), size
        return norms
