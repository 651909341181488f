"""Dot products of users with chosen rows of a tier, without decoding the tier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.arrays import Float32
from recsys.kernels.lanes import LANES
from recsys.kernels.row_products import add_stored
from recsys.retrieval.codecs.base import Encoded


def add_products(
    vectors: Encoded,
    first: int,
    last: int,
    users: Float32,
    items: npt.NDArray[Any],
    sums: Float32,
    threads: int = 1,
) -> bool:
    """Adds the products of the coordinates `first..last-1` of a tier to `sums [B, n]`.

    Args:
        vectors: the tier's.
        first: counted from the tier's first coordinate.
        last: likewise, not included.
        users: `[B, last - first]` contiguous.
        items: `[B, n]` int64; those of -1 are left as they are.
        sums: changed in place.
        threads: each takes users of its own.

    Returns:
        Whether it was done: there are no kernels for every codec, and only for multiples of 16.
    """
    stored = stored_of(vectors, first, last, users)
    if stored is None:
        return False
    add_stored(stored.rows, stored.dim, first, stored.users, items, stored.scales, sums, threads)
    return True


@dataclass(frozen=True)
class StoredRows:
    """Rows of a tier as kernels read them: a score is `scales[row]` times the product of `users`
    with the row.
    """

    rows: npt.NDArray[Any]
    """Flat `[N * dim]`, of the type that tells a kernel how to read them."""
    dim: int
    """Coordinates of a row."""
    users: Float32
    """`[B, d]` contiguous, times what all rows share."""
    scales: Float32
    """`[N]`; or empty."""


def stored_of(vectors: Encoded, first: int, last: int, users: Float32) -> StoredRows | None:
    """The coordinates `first..last-1` of a tier for users `[B, last - first]`; None: decode them.

    There are no kernels for every codec, and only for multiples of 16 coordinates.
    """
    rows = _view(vectors)
    if rows is None or (last - first) % LANES:
        return None
    if "scales" in vectors.shared:
        users = users * vectors.shared["scales"][first:last]
    scales = np.asarray(vectors.rows.get("scales", np.empty(0, np.float32)))
    return StoredRows(rows, vectors.dim, np.ascontiguousarray(users), scales)


def _view(vectors: Encoded) -> npt.NDArray[Any] | None:
    """The rows as one flat array whose type tells the kernel how to read it."""
    kinds = {"fp32": ("values", np.float32), "fp16": ("values", np.uint16)}
    kinds |= {"bf16": ("values", np.int16)}
    kinds |= dict.fromkeys(("int8", "int8-coordinate"), ("codes", np.int8))
    if vectors.codec.name not in kinds:
        return None
    name, kind = kinds[vectors.codec.name]
    flat: npt.NDArray[Any] = np.asarray(vectors.rows[name]).reshape(-1).view(kind)
    return flat
