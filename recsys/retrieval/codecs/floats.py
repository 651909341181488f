"""Floating-point codecs: fp32, fp16, bf16.

Shape legend: N rows, d coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.arrays import Arrays, Float32
from recsys.errors import DataError

_LARGEST_FP16 = 65_504.0
_LARGEST_BF16 = 3.3895313892515355e38


@dataclass(frozen=True)
class Fp32:
    """IEEE single: the float32 values themselves, without error."""

    name: str = "fp32"

    def fit(self, vectors: Float32) -> Arrays:
        return {}

    def encode(self, vectors: Float32, shared: Arrays) -> Arrays:
        return {"values": vectors}

    def decode(self, rows: Arrays, shared: Arrays, dim: int) -> Float32:
        return np.asarray(rows["values"])

    def bytes_per_row(self, dim: int) -> int:
        return 4 * dim

    def error_bound(self, vectors: Float32) -> Float32:
        return np.zeros((1, 1), np.float32)


@dataclass(frozen=True)
class Fp16:
    """IEEE half: 11 significant bits; error at most 2^-11 of the value, 2^-25 near zero."""

    name: str = "fp16"

    def fit(self, vectors: Float32) -> Arrays:
        return {}

    def encode(self, vectors: Float32, shared: Arrays) -> Arrays:
        _check_range(vectors, _LARGEST_FP16, self.name)
        return {"values": vectors.astype(np.float16)}

    def decode(self, rows: Arrays, shared: Arrays, dim: int) -> Float32:
        return rows["values"].astype(np.float32)

    def bytes_per_row(self, dim: int) -> int:
        return 2 * dim

    def error_bound(self, vectors: Float32) -> Float32:
        return np.maximum(np.abs(vectors) * np.float32(2**-11), np.float32(2**-25))


@dataclass(frozen=True)
class Bf16:
    """Upper half of float32, rounded to even; error at most 2^-8 of the value, 2^-134 near zero."""

    name: str = "bf16"

    def fit(self, vectors: Float32) -> Arrays:
        return {}

    def encode(self, vectors: Float32, shared: Arrays) -> Arrays:
        _check_range(vectors, _LARGEST_BF16, self.name)
        bits = vectors.view(np.uint32)
        rounded = bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))
        return {"values": (rounded >> 16).astype(np.uint16)}

    def decode(self, rows: Arrays, shared: Arrays, dim: int) -> Float32:
        return (rows["values"].astype(np.uint32) << 16).view(np.float32)

    def bytes_per_row(self, dim: int) -> int:
        return 2 * dim

    def error_bound(self, vectors: Float32) -> Float32:
        return np.maximum(np.abs(vectors) * np.float32(2**-8), np.float32(2**-134))


def _check_range(vectors: Float32, largest: float, name: str) -> None:
    peak = float(np.abs(vectors).max())
    if peak > largest:
        raise DataError(
            f"a coordinate of {peak:g} does not fit {name}, which ends at {largest:g}; "
            "scale the vectors down or store them as fp32"
        )
