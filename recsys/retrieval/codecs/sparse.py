"""The sparse codec: the largest coordinates of each row and their places.

For vectors of which most coordinates are 0, as a table `sparse` trains them; of others it leaves
out the smaller ones.

Shape legend: N rows, d coordinates, K kept of each row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.arrays import Arrays, Float32
from recsys.errors import DataError
from recsys.retrieval.codecs.floats import Fp16

_MOST_PLACES = 1 << 16
_ENTRY_BYTES = 4
_HALF = Fp16()


@dataclass(frozen=True)
class Sparse:
    """K coordinates of each row in fp16, each with its place; the others come back as 0."""

    kept: int
    """K."""

    @property
    def name(self) -> str:
        """`sparseK`."""
        return f"sparse{self.kept}"

    def fit(self, vectors: Float32) -> Arrays:
        return {}

    def encode(self, vectors: Float32, shared: Arrays) -> Arrays:
        """Values `[N, K]` float16 and places `[N, K]` uint16, ascending in each row."""
        self._check(vectors.shape[1])
        places = np.sort(self._places(vectors), axis=1)
        values = np.take_along_axis(vectors, places, axis=1)
        return {**_HALF.encode(values, shared), "places": places.astype(np.uint16)}

    def decode(self, rows: Arrays, shared: Arrays, dim: int) -> Float32:
        vectors = np.zeros((len(rows["values"]), dim), np.float32)
        np.put_along_axis(vectors, rows["places"].astype(np.int64), rows["values"], axis=1)
        return vectors

    def bytes_per_row(self, dim: int) -> int:
        self._check(dim)
        return _ENTRY_BYTES * self.kept

    def error_bound(self, vectors: Float32) -> Float32:
        """That of fp16 for what is kept, and the whole of what is not."""
        bound: Float32 = np.abs(vectors)
        places = self._places(vectors)
        values = np.take_along_axis(vectors, places, axis=1)
        np.put_along_axis(bound, places, _HALF.error_bound(values), axis=1)
        return bound

    def _places(self, vectors: Float32) -> np.ndarray:
        """`[N, K]` of the largest, of equals the first ones."""
        return np.argsort(-np.abs(vectors), axis=1, kind="stable")[:, : self.kept]

    def _check(self, dim: int) -> None:
        if not self.kept <= dim <= _MOST_PLACES:
            raise DataError(
                f"{self.name} keeps {self.kept} of {dim} coordinates, which cannot be: choose K of "
                f"sparseK up to {dim}, of at most {_MOST_PLACES:,} coordinates"
            )
