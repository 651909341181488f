"""Checks of arguments of a search: indices, offsets, vectors, counts.

Shape legend: B rows, T entries of all rows, N items, D coordinates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.arrays import Float32, Int64
from recsys.errors import ConfigError, DataError

_LOOK_UP = "`recsys.serving.catalogue.Catalogue(bundle).indices(ids)` looks external ids up"
_REMEDIES = {
    "U": _LOOK_UP,
    "O": _LOOK_UP,
    "b": "a mask becomes indices by `np.flatnonzero(mask)`",
    "f": "give whole numbers of an integer type",
}


def checked_indices(values: Any, num: int, what: str, *, least: int = 0) -> Int64:
    """`[T]` whole numbers in `least..num - 1`.

    Args:
        values: an array or list of integers; nothing else is taken for one (no mask, no text, no
            whole floats).
        num: how many there are.
        what: of the things, in words: `allowed items`.
        least: the smallest; -1 where it stands for nothing.

    Raises:
        DataError: they are of another type or shape, or one is out of range.
    """
    array = _integers(values, what)
    if len(array) and not least <= array.min() <= array.max() < num:
        wrong = int(array.min() if array.min() < least else array.max())
        raise DataError(f"the {what} hold {wrong}; allowed indices: {least}..{num - 1}")
    return array.astype(np.int64)


def checked_jagged(
    items: Any, offsets: Any, num_items: int, what: str, num_rows: int | None = None
) -> tuple[Int64, Int64]:
    """Item indices `[T]` and offsets `[B + 1]`: row b has `items[offsets[b]:offsets[b + 1]]`.

    Args:
        items: of all rows.
        offsets: where each begins.
        num_items: N.
        what: of the things, in words: `histories`.
        num_rows: B; None: as many as there are.

    Raises:
        DataError: they are of another type or shape, do not fit, or an item is out of range.
    """
    edges = _integers(offsets, f"offsets of the {what}")
    indices = checked_indices(items, num_items, f"items of the {what}")
    if num_rows is not None and len(edges) != num_rows + 1:
        raise DataError(
            f"the {what} have {len(edges)} offsets, so they describe {len(edges) - 1} rows; "
            f"{num_rows} users need {num_rows + 1}"
        )
    ends = len(edges) and edges[0] == 0 and edges[-1] == len(indices)
    if not ends or (edges[1:] < edges[:-1]).any():
        raise DataError(
            f"the offsets of the {what} must begin with 0, never fall and end with the "
            f"{len(indices)} items there are; found {_shown(edges)}"
        )
    return indices, edges.astype(np.int64)


def checked_vectors(vectors: Any, dim: int, what: str) -> Float32:
    """`[B, dim]` float32, the first coordinates of `[B, D]`.

    Raises:
        DataError: no numbers, another shape, or a value that is not finite in float32.
    """
    array = _array(vectors, what)
    if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape[1] < dim:
        raise DataError(
            f"the {what} are {array.dtype} of shape {array.shape}; floating-point numbers of shape "
            f"[users, at least {dim}] are expected"
        )
    with np.errstate(over="ignore"):
        prefixes = np.ascontiguousarray(array[:, :dim], np.float32)
    if not np.isfinite(prefixes).all():
        finite = np.isfinite(prefixes).all(axis=1)
        raise DataError(
            f"the {what} hold NaN or infinite values in row {int(finite.argmin())}, and in "
            f"{int((~finite).sum())} rows in all; leave them out"
        )
    return prefixes


def checked_count(value: Any, what: str, *, least: int = 1) -> int:
    """A whole number of at least `least`.

    Raises:
        ConfigError: it is none.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool | np.bool_)
    if not whole or value < least:
        raise ConfigError(f"{what} is {value!r}; a whole number of {least} or more is expected")
    return int(value)


def checked_threads(threads: int | None) -> int | None:
    """`threads`, if they can be: None is all cores.

    Raises:
        ConfigError: they cannot.
    """
    return None if threads is None else checked_count(threads, "threads")


def _integers(values: Any, what: str) -> npt.NDArray[np.integer]:
    array = _array(values, what)
    if array.ndim != 1:
        raise DataError(f"the {what} have the shape {array.shape}; one dimension is expected")
    if not len(array):
        return np.empty(0, np.int64)
    if array.dtype.kind not in "iu":
        remedy = _REMEDIES.get(array.dtype.kind, "give whole numbers of an integer type")
        raise DataError(
            f"the {what} are {array.dtype} ({_shown(array)}); indices (whole numbers) are "
            f"expected: {remedy}"
        )
    return array


def _array(values: Any, what: str) -> npt.NDArray[Any]:
    if values is None:
        raise DataError(f"the {what} are None; an array is expected")
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the {what} are not an array ({error}); all rows of one length are expected"
        ) from error


def _shown(array: npt.NDArray[Any]) -> str:
    """The first values, and whether there are more."""
    text = ", ".join(repr(value) for value in array[:4].tolist())
    return f"[{text}{', ...' if len(array) > 4 else ''}]"
