"""Product quantization: each part of a vector is replaced by the nearest of 256 centroids.

Jégou, Douze and Schmid, Product Quantization for Nearest Neighbor Search, TPAMI 2011.

Shape legend: N rows, d coordinates, M parts of d / M coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.errors import DataError
from recsys.retrieval.encoding import Arrays, Float32

CENTROIDS = 256
_SAMPLE = CENTROIDS * 256  # rows the centroids are learned from; faiss would take no more

_ORDINARY = (1e-12, 1e12)
_FARTHEST = 1e16  # squares of it, added up, are finite in float32


def _unit_of(values: Float32) -> np.float32:
    """A power of two to divide by, which rounds nothing; 1 where squares are float32 anyway.

    Distances are squares: beyond 1e19 they would be infinite (faiss then ends the process), below
    1e-19 all of them 0.
    """
    peak = float(np.abs(values).max())
    if peak == 0 or _ORDINARY[0] <= peak <= _ORDINARY[1]:
        return np.float32(1)
    return np.float32(2.0 ** np.clip(np.floor(np.log2(peak)), -126, 127))


@dataclass(frozen=True)
class Product:
    """M bytes a row; what is lost depends on the data, so it is measured, not bounded."""

    num_parts: int | None = None
    """M; None: a quarter of the coordinates, 2 bits each."""

    @property
    def name(self) -> str:
        """`pq`, or `pqM`."""
        return "pq" if self.num_parts is None else f"pq{self.num_parts}"

    def parts_of(self, dim: int) -> int:
        """M for `dim` coordinates.

        Raises:
            DataError: it does not divide them.
        """
        parts = max(1, dim // 4) if self.num_parts is None else self.num_parts
        if parts < 1 or dim % parts:
            raise DataError(
                f"{self.name} cuts {dim} coordinates into {parts} equal parts, which cannot be; "
                f"choose pqM with M a divisor of {dim}"
            )
        return parts

    def fit(self, vectors: Float32) -> Arrays:
        """Codebooks `[M, 256, d / M]`."""
        # faiss is loaded when it is needed: most users of the other codecs never do.
        from recsys.retrieval.index import train_codebooks

        parts = self.parts_of(vectors.shape[1])
        if len(vectors) < CENTROIDS:
            raise DataError(
                f"{self.name} learns {CENTROIDS} centroids, {len(vectors)} rows are too few; "
                "choose int8 or int4"
            )
        every = -(-len(vectors) // _SAMPLE)
        sample = np.ascontiguousarray(vectors[::every], dtype=np.float32)
        unit = _unit_of(sample)
        return {"codebooks": train_codebooks(sample / unit, parts) * unit}

    def encode(self, vectors: Float32, shared: Arrays) -> Arrays:
        from recsys.retrieval.index import assign_codes

        unit = _unit_of(shared["codebooks"])
        scaled: Float32 = vectors / unit
        peak = float(np.abs(scaled).max())
        if peak > _FARTHEST:
            raise DataError(
                f"a coordinate of {peak * float(unit):g} is too far from the centroids of "
                f"{self.name}, whose largest is {float(np.abs(shared['codebooks']).max()):g}; "
                "leave that row out or store the vectors as fp32"
            )
        centroids = np.asarray(shared["codebooks"] / unit, dtype=np.float32)
        return {"codes": assign_codes(scaled, centroids)}

    def decode(self, rows: Arrays, shared: Arrays, dim: int) -> Float32:
        codes, codebooks = rows["codes"], shared["codebooks"]
        parts = codebooks[np.arange(codebooks.shape[0]), codes]
        return np.ascontiguousarray(parts.reshape(len(codes), dim), dtype=np.float32)

    def bytes_per_row(self, dim: int) -> int:
        return self.parts_of(dim)

    def error_bound(self, vectors: Float32) -> Float32 | None:
        return None
