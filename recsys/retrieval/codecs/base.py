"""The codec protocol, and encoded vectors.

numpy alone: whoever serves a bundle needs no torch.

Shape legend: N rows, d coordinates of the slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from recsys.arrays import Arrays, Float32
from recsys.errors import DataError

BLOCK = 65_536
"""Rows to work on at once."""


class Codec(Protocol):
    """A way to store `[N, d]` float32; stateless, learned values are stored as arrays."""

    @property
    def name(self) -> str:
        """As users write it: `int8`, `pq16`."""
        ...

    def fit(self, vectors: Float32) -> Arrays:
        """Parameters shared by all rows (scales per coordinate, codebooks); may be empty.

        Args:
            vectors: may be mapped from disk and larger than memory.

        Raises:
            DataError: the vectors cannot be stored like this.
        """
        ...

    def encode(self, vectors: Float32, shared: Arrays) -> Arrays:
        """Arrays with one entry per row: `[N, ...]`; block by block gives the same as at once.

        Raises:
            DataError: a value does not fit.
        """
        ...

    def decode(self, rows: Arrays, shared: Arrays, dim: int) -> Float32:
        """`[n, dim]` of any selection of rows."""
        ...

    def bytes_per_row(self, dim: int) -> int:
        """Bytes one row takes; what is shared by all rows is not counted."""
        ...

    def error_bound(self, vectors: Float32) -> Float32 | None:
        """Worst case of |x - decode(encode(x))|, broadcastable to `[N, d]`; None: none is known."""
        ...


@dataclass(frozen=True)
class Encoded:
    """Encoded vectors: the arrays of a codec."""

    codec: Codec
    dim: int
    """d."""
    rows: Arrays
    """Arrays `[N, ...]`; they may be mapped from disk."""
    shared: Arrays

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in (*self.rows.values(), *self.shared.values()))

    def decode(self, index: Any = slice(None)) -> Float32:
        """`[n, d]` float32 of the rows `index` (a slice, or an array of row numbers)."""
        chosen = {name: array[index] for name, array in self.rows.items()}
        return self.codec.decode(chosen, self.shared, self.dim)


def encode_with(codec: Codec, vectors: npt.NDArray[Any]) -> Encoded:
    """Fits the codec and encodes with it.

    Args:
        codec: as `codecs.find_codec` gives it.
        vectors: `[N, d]`, finite.

    Raises:
        DataError: they are not a finite matrix, or the codec cannot store them.
    """
    vectors = check_matrix(vectors)
    shared = codec.fit(vectors)
    return Encoded(codec, vectors.shape[1], codec.encode(vectors, shared), shared)


def check_matrix(vectors: npt.NDArray[Any], what: str = "vectors") -> Float32:
    """`[N, d]` as contiguous float32.

    Raises:
        DataError: no rows, no coordinates, not two dimensions, or values that are not finite.
    """
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise DataError(f"the {what} have shape {vectors.shape}; [rows, coordinates] is expected")
    with np.errstate(over="ignore"):  # told below
        result = np.ascontiguousarray(vectors, dtype=np.float32)
    if not np.isfinite(result).all():
        row = int(np.flatnonzero(~np.isfinite(result).all(axis=1))[0])
        raise DataError(
            f"row {row} of the {what} is not finite in float32; leave it out or correct it"
        )
    return result


def error_of(encoded: Encoded, vectors: Float32) -> dict[str, float]:
    """What the codec lost of these very vectors.

    Returns:
        `max_abs`: the largest |x - x'| of any coordinate; `relative`: the root of
        sum ||x - x'||^2 / sum ||x||^2 (0 where all vectors are 0).
    """
    lost = largest = total = 0.0
    for rows in blocks_of(len(vectors)):
        block = vectors[rows]
        difference = (encoded.decode(rows) - block).astype(np.float64)
        largest = max(largest, float(np.abs(difference).max()))
        lost += float(np.square(difference).sum())
        total += float(np.square(block.astype(np.float64)).sum())
    return {"max_abs": largest, "relative": float(np.sqrt(lost / total)) if total else 0.0}


def blocks_of(num_rows: int, size: int | None = None) -> Iterator[slice]:
    """The rows in pieces of `size` (None: `BLOCK`), which fit in memory whatever their number."""
    size = size or BLOCK
    for lo in range(0, num_rows, size):
        yield slice(lo, min(lo + size, num_rows))
