"""Integer codecs: int8 by row, int8 by coordinate, int4, int2, binary.

All are symmetric around zero, so a dot product with codes needs one multiplication by the scale and
no correction. Rounding to the nearest level is off by half a step at most; `_HALF` adds what
float32 may do to the division and the product. A step is not a subnormal number, so where a row's
largest coordinate is below 2^-119 (int4: 2^-123, int2: 2^-125) it is off by up to 2^-127, half the
least step.

Shape legend: N rows, d coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.arrays import Arrays, Float32
from recsys.retrieval.codecs.base import blocks_of

_HALF = np.float32(0.5 + 1e-4)
_TINY = np.float32(np.finfo(np.float32).tiny)
_LARGEST = np.float32(np.finfo(np.float32).max)
_SORTED = 8192  # rows of float64 to hold at once


def _steps(peaks: Float32, levels: int) -> Float32:
    """Step so that `peaks` are the last of `levels`.

    Never subnormal, so dividing by it is safe; and the last level is a finite number.
    """
    most = _LARGEST / np.float32(levels)
    if float(most) * levels > float(_LARGEST):  # it was rounded up
        most = np.nextafter(most, np.float32(0))
    steps: Float32 = np.clip(peaks / np.float32(levels), _TINY, most)
    return steps


def _codes(vectors: Float32, steps: Float32, levels: int) -> npt.NDArray[np.int8]:
    codes: npt.NDArray[np.int8] = np.clip(np.rint(vectors / steps), -levels, levels).astype(np.int8)
    return codes


@dataclass(frozen=True)
class Int8:
    """255 levels scaled to each row's largest coordinate; error at most 1/254 of it."""

    name: str = "int8"

    def fit(self, vectors: Float32) -> Arrays:
        return {}

    def encode(self, vectors: Float32, shared: Arrays) -> Arrays:
        steps = _steps(np.abs(vectors).max(axis=1), 127)
        return {"codes": _codes(vectors, steps[:, None], 127), "scales": steps}

    def decode(self, rows: Arrays, shared: Arrays, dim: int) -> Float32:
        return rows["codes"].astype(np.float32) * rows["scales"][:, None]

    def bytes_per_row(self, dim: int) -> int:
        return dim + 4

    def error_bound(self, vectors: Float32) -> Float32:
        return _steps(np.abs(vectors).max(axis=1, keepdims=True), 127) * _HALF


@dataclass(frozen=True)
class Int8Coordinate:
    """255 levels scaled to each coordinate's largest value; error at most 1/254 of it.

    No scale per row; better than `int8` where coordinates differ more in size than rows do.
    """

    name: str = "int8-coordinate"

    def fit(self, vectors: Float32) -> Arrays:
        peaks = [np.abs(vectors[rows]).max(axis=0) for rows in blocks_of(len(vectors))]
        return {"scales": _steps(np.max(peaks, axis=0).astype(np.float32), 127)}

    def encode(self, vectors: Float32, shared: Arrays) -> Arrays:
        return {"codes": _codes(vectors, shared["scales"], 127)}

    def decode(self, rows: Arrays, shared: Arrays, dim: int) -> Float32:
        return rows["codes"].astype(np.float32) * shared["scales"]

    def bytes_per_row(self, dim: int) -> int:
        return dim

    def error_bound(self, vectors: Float32) -> Float32:
        return _steps(np.abs(vectors).max(axis=0, keepdims=True), 127) * _HALF


@dataclass(frozen=True)
class Int4:
    """15 levels scaled to each row's largest coordinate; error at most 1/14 of it.

    Two coordinates a byte: the even one in the lower half, each with 8 added.
    """

    name: str = "int4"

    def fit(self, vectors: Float32) -> Arrays:
        return {}

    def encode(self, vectors: Float32, shared: Arrays) -> Arrays:
        steps = _steps(np.abs(vectors).max(axis=1), 7)
        nibbles = (_codes(vectors, steps[:, None], 7) + 8).astype(np.uint8)
        if nibbles.shape[1] % 2:
            nibbles = np.pad(nibbles, ((0, 0), (0, 1)), constant_values=8)
        return {"codes": nibbles[:, ::2] | (nibbles[:, 1::2] << 4), "scales": steps}

    def decode(self, rows: Arrays, shared: Arrays, dim: int) -> Float32:
        packed = rows["codes"]
        values = np.empty((len(packed), 2 * packed.shape[1]), np.float32)
        values[:, ::2], values[:, 1::2] = packed & 15, packed >> 4
        values -= 8
        return values[:, :dim] * rows["scales"][:, None]

    def bytes_per_row(self, dim: int) -> int:
        return (dim + 1) // 2 + 4

    def error_bound(self, vectors: Float32) -> Float32:
        return _steps(np.abs(vectors).max(axis=1, keepdims=True), 7) * _HALF


@dataclass(frozen=True)
class Int2:
    """Four levels: -1.5, -0.5, 0.5 and 1.5 times the least-squares step of each row.

    Four coordinates a byte, the first one in the lowest bits: 0 stands for the lowest level. With
    so few levels a step that reaches the row's largest coordinate would be far too long. A
    coordinate is off by half a step, or by what it has above the last level.
    """

    name: str = "int2"

    def fit(self, vectors: Float32) -> Arrays:
        return {}

    def encode(self, vectors: Float32, shared: Arrays) -> Arrays:
        steps = _least_squares_steps(vectors)
        codes = np.where(np.abs(vectors) > steps[:, None], np.uint8(1), np.uint8(0))
        codes = np.where(vectors < 0, 1 - codes, 2 + codes).astype(np.uint8)
        codes = np.pad(codes, ((0, 0), (0, -codes.shape[1] % 4)))
        packed = codes[:, ::4].copy()
        for place in (1, 2, 3):
            packed |= codes[:, place::4] << (2 * place)
        return {"codes": packed, "scales": steps}

    def decode(self, rows: Arrays, shared: Arrays, dim: int) -> Float32:
        packed = rows["codes"]
        values = np.empty((len(packed), 4 * packed.shape[1]), np.float32)
        for place in range(4):
            values[:, place::4] = (packed >> (2 * place)) & 3
        values -= np.float32(1.5)
        return values[:, :dim] * rows["scales"][:, None]

    def bytes_per_row(self, dim: int) -> int:
        return (dim + 3) // 4 + 4

    def error_bound(self, vectors: Float32) -> Float32:
        steps = _least_squares_steps(vectors)[:, None]
        above = np.abs(vectors).max(axis=1, keepdims=True) - np.float32(1.5) * steps
        above += np.float32(1e-6) * np.abs(above) + np.float32(1e-4) * steps
        bound: Float32 = np.maximum(steps * _HALF, above)
        return bound


def _least_squares_steps(vectors: Float32) -> Float32:
    """`[N]` steps of `Int2`: the best there are, not found by descent.

    If the n largest coordinates take the outer levels, the best step is their sum of sizes times
    1.5 and the others' times 0.5 over the sum of the levels' squares, and the squares it explains
    are those sums squared over the same: n from 1 to d are compared. (All at 0.5 is all at 1.5 of
    a shorter step.)
    """
    dim = vectors.shape[1]
    outer = np.arange(1, dim + 1)
    weights = 0.25 * dim + 2 * outer
    steps = np.empty(len(vectors), np.float32)
    for rows in blocks_of(len(vectors), _SORTED):
        sizes = np.sort(np.abs(vectors[rows]), axis=1)[:, ::-1].cumsum(axis=1, dtype=np.float64)
        levels = 0.5 * sizes[:, -1:] + sizes
        best = (levels * levels / weights).argmax(axis=1)
        found = levels[np.arange(len(best)), best] / weights[best]
        steps[rows] = np.clip(found, _TINY, float(_LARGEST) / 1.5000001)
    return steps


@dataclass(frozen=True)
class Binary:
    """The sign of each coordinate times the row's mean absolute value, the least-squares choice.

    Rastegari et al., XNOR-Net, ECCV 2016, section 3.1. A coordinate is off by the larger of that
    mean and what the row's largest coordinate has above it.
    """

    name: str = "binary"

    def fit(self, vectors: Float32) -> Arrays:
        return {}

    def encode(self, vectors: Float32, shared: Arrays) -> Arrays:
        return {"codes": np.packbits(vectors >= 0, axis=1), "scales": self._scales(vectors)}

    def _scales(self, vectors: Float32) -> Float32:
        means: Float32 = np.abs(vectors).mean(axis=1, dtype=np.float64).astype(np.float32)
        return means

    def decode(self, rows: Arrays, shared: Arrays, dim: int) -> Float32:
        signs = np.unpackbits(rows["codes"], axis=1, count=dim).astype(np.float32)
        signs *= 2
        signs -= 1
        signs *= rows["scales"][:, None]
        return signs

    def bytes_per_row(self, dim: int) -> int:
        return (dim + 7) // 8 + 4

    def error_bound(self, vectors: Float32) -> Float32:
        scales = self._scales(vectors)[:, None]
        peaks = np.abs(vectors).max(axis=1, keepdims=True)
        bound: Float32 = np.maximum(scales, peaks - scales) * np.float32(1 + 1e-6)
        return bound
