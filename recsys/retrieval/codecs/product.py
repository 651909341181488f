"""Product quantization codecs with 256 or 16 centroids for each part.

Jégou, Douze and Schmid, Product Quantization for Nearest Neighbor Search, TPAMI 2011. 16 centroids
are what can be looked up in a register: André, Kermarrec and Le Scouarnec, Cache Locality is not
Enough: High-Performance Nearest Neighbor Search with Product Quantization Fast Scan, VLDB 2015.

Shape legend: N rows, d coordinates, M parts of d / M coordinates, C centroids of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from recsys.arrays import Arrays, Float32
from recsys.errors import DataError

_SAMPLE = 65_536  # rows the centroids are learned from

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
    """M codes for each row; the error depends on the data, so it is measured, not bounded."""

    num_parts: int | None = None
    """M; None: a quarter of the coordinates, 2 bits each."""
    bits: Literal[4, 8] = 8
    """Of a code. Two of 4 bits share a byte, the even part in the lower half; where M is odd, the
    last upper half is 0."""

    @property
    def name(self) -> str:
        """`pq`, `pqM` or `pqMx4`."""
        parts = "pq" if self.num_parts is None else f"pq{self.num_parts}"
        return parts if self.bits == 8 else f"{parts}x{self.bits}"

    def parts_of(self, dim: int) -> int:
        """M for `dim` coordinates.

        Raises:
            DataError: it does not divide them.
        """
        parts = max(1, dim // 4) if self.num_parts is None else self.num_parts
        if parts < 1 or dim % parts:
            raise DataError(
                f"{self.name} cuts {dim} coordinates into {parts} equal parts, which cannot be; "
                f"choose M of pqM or pqMx4 among the divisors of {dim}"
            )
        return parts

    def fit(self, vectors: Float32) -> Arrays:
        """Codebooks `[M, C, d / M]`."""
        # faiss is loaded when it is needed: most users of the other codecs never do.
        from recsys.retrieval.codecs.codebooks import train_codebooks

        parts = self.parts_of(vectors.shape[1])
        if len(vectors) < 1 << self.bits:
            raise DataError(
                f"{self.name} learns {1 << self.bits} centroids; {len(vectors)} rows are too few; "
                "choose int8 or int4"
            )
        every = -(-len(vectors) // _SAMPLE)
        sample = np.ascontiguousarray(vectors[::every], dtype=np.float32)
        unit = _unit_of(sample)
        return {"codebooks": train_codebooks(sample / unit, parts, self.bits) * unit}

    def encode(self, vectors: Float32, shared: Arrays) -> Arrays:
        """Codes `[N, M]`, of 4 bits `[N, (M + 1) // 2]`.

        Raises:
            DataError: a row is farther from the centroids than float32 can square.
            ValueError: the codebooks are of other parts.
        """
        from recsys.retrieval.codecs.codebooks import assign_codes

        self._check_codebooks(shared["codebooks"].shape, vectors.shape[1])
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

    def _check_codebooks(self, shape: tuple[int, ...], dim: int) -> None:
        parts = self.parts_of(dim)
        if shape != (wanted := (parts, 1 << self.bits, dim // parts)):
            raise ValueError(f"codebooks of shape {shape}, {wanted} is expected")

    def decode(self, rows: Arrays, shared: Arrays, dim: int) -> Float32:
        codes, codebooks = rows["codes"], shared["codebooks"]
        if self.bits == 4:
            halves = np.stack([codes & 15, codes >> 4], axis=2)
            codes = halves.reshape(len(codes), -1)[:, : len(codebooks)]
        parts = codebooks[np.arange(codebooks.shape[0]), codes]
        return np.ascontiguousarray(parts.reshape(len(codes), dim), dtype=np.float32)

    def bytes_per_row(self, dim: int) -> int:
        return (self.parts_of(dim) * self.bits + 7) // 8

    def error_bound(self, vectors: Float32) -> Float32 | None:
        return None
