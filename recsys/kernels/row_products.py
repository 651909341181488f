"""Dot products of users with chosen rows, read in their stored form.

No row is decoded into memory or gathered: 16 coordinates are loaded, made float32 in registers and
multiplied. A sum's bits depend on its user and its row alone, not on the batch, nor on where in a
list of candidates the row stands: rows that are alike are scored alike.

Shape legend: B users, n items kept, D coordinates of a user, N rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types

from recsys.arrays import Float32
from recsys.kernels.compiling import kernel
from recsys.kernels.lanes import LANES, Lanes, Stored, piece
from recsys.kernels.threads import in_parts

_AHEAD, _LINE = 4, 64  # rows requested before they are read; bytes
_NEIGHBOURS = 4096  # least rows of a thread
_TO_FLOAT_EXPONENT = float(2**112)
"""float32 counts exponents from 127, float16 from 15."""


def add_stored(
    stored: npt.NDArray[Any],
    dim: int,
    first: int,
    users: Float32,
    items: npt.NDArray[Any],
    scales: Float32,
    sums: Float32,
    threads: int = 1,
) -> None:
    """Adds products of users with stored rows to `sums [B, n]`.

    Args:
        stored: flat `[N * dim]` float32, int8, uint16 (the bits of float16) or int16 (of bfloat16).
        dim: coordinates of a row.
        first: the first coordinate that counts.
        users: `[B, d]` contiguous, d a multiple of 16.
        items: `[B, n]` int64; those of -1 are left as they are.
        scales: `[N]` by which products are multiplied; or empty.
        sums: changed in place.
        threads: each takes users of its own.
    """
    in_parts(_add, len(items), threads, stored, dim, first, users, items, scales, sums)


def add_neighbours(
    stored: npt.NDArray[Any],
    dim: int,
    first: int,
    users: Float32,
    start: int,
    scales: Float32,
    sums: Float32,
    threads: int = 1,
) -> None:
    """As `add_stored`, for the rows `start .. start + n - 1` of all users; the same bits.

    Args:
        stored: as there.
        dim: likewise.
        first: likewise.
        users: likewise.
        start: the first row.
        scales: `[N]` by which products are multiplied; or empty.
        sums: `[B, n]`, changed in place.
        threads: each takes rows of its own.
    """
    arguments = (stored, dim, first, users, start, scales, sums)
    in_parts(_add_neighbours, sums.shape[1], threads, *arguments, unit=_NEIGHBOURS)


def add_decoded(
    rows: Float32,
    users: Float32,
    places: npt.NDArray[Any],
    sums: Float32,
    threads: int = 1,
) -> None:
    """The same for rows `[R, d]` that were decoded, of any number of coordinates.

    Args:
        rows: float32.
        users: `[B, d]`.
        places: `[B, n]` int64, which row each is; those of -1 are left as they are.
        sums: `[B, n]`, changed in place.
        threads: each takes users of its own.
    """
    whole, own = padded(rows), padded(users)
    nothing = np.empty(0, np.float32)
    add_stored(whole.reshape(-1), whole.shape[1], 0, own, places, nothing, sums, threads)


def scores_of(
    sums: Float32, items: npt.NDArray[Any], norms: Float32 | None, threads: int = 1
) -> Float32:
    """`[B, n]` sums over the items' norms; -inf for items of -1.

    Args:
        sums: `[B, n]`.
        items: `[B, n]` int64.
        norms: `[N]`, may be mapped; None: nothing is divided by.
        threads: each takes rows of its own.
    """
    scores = np.empty_like(sums)
    given = np.empty(0, np.float32) if norms is None else np.asarray(norms)
    in_parts(_divide, len(items), threads, sums, items, given, scores)
    return scores


def padded(rows: Float32) -> Float32:
    """`[n, d]` contiguous, with zeros up to a multiple of 16 coordinates: sums stay as they are."""
    missing = -rows.shape[1] % LANES
    if missing:
        rows = np.pad(rows, ((0, 0), (0, missing)))
    return np.ascontiguousarray(rows, np.float32)


@piece(types.float32, "sisii")
def dot(lanes: Lanes, stored: Stored, start: Any, users: Stored, user: Any, turns: Any) -> Any:
    """Sum of products of `16 * turns` coordinates at `stored[start]` and `users[user]`."""
    with lanes.steps(turns, [lanes.same(0.0)]) as loop:
        offset = lanes.builder.mul(loop.turn, lanes.index(LANES))
        row = _load(lanes, stored, lanes.builder.add(start, offset))
        query = _load(lanes, users, lanes.builder.add(user, offset))
        loop.carried[0] = lanes.add(loop.carried[0], lanes.mul(row, query))
    return lanes.fold(loop.carried[0], lanes.add)


def _load(lanes: Lanes, stored: Stored, place: Any) -> Any:
    """16 elements, as float32; those of a file may stand at any byte."""
    element, convert = _ELEMENTS[stored.kind]
    return convert(lanes, lanes.load(stored.data, place, element, align=1))


def _as_it_is(_: Lanes, value: Any) -> Any:
    return value


def _from_half(lanes: Lanes, halves: Any) -> Any:
    """Moves exponent and fraction into place; the product mends the exponent, subnormals too."""
    builder, wide = lanes.builder, lanes.widen(halves)
    size = builder.shl(builder.and_(wide, lanes.whole(0x7FFF)), lanes.whole(13))
    value = lanes.mul(lanes.of_bits(size), lanes.same(_TO_FLOAT_EXPONENT))
    sign = builder.shl(builder.and_(wide, lanes.whole(0x8000)), lanes.whole(16))
    return lanes.of_bits(builder.or_(lanes.bits(value), sign))


def _from_bf16(lanes: Lanes, halves: Any) -> Any:
    return lanes.of_bits(lanes.builder.shl(lanes.widen(halves), lanes.whole(16)))


def _from_int8(lanes: Lanes, wholes: Any) -> Any:
    return lanes.as_floats(wholes)


_ELEMENTS: dict[Any, Any] = {
    types.float32: (ir.FloatType(), _as_it_is),
    types.uint16: (ir.IntType(16), _from_half),
    types.int16: (ir.IntType(16), _from_bf16),
    types.int8: (ir.IntType(8), _from_int8),
}
"""The LLVM type of 16 elements and how they are made float32, by the type of the array."""


@piece(types.void, "si")
def fetch(lanes: Lanes, stored: Stored, place: Any) -> None:
    """Asks for the bytes around `stored[place]`, which will be read soon."""
    lanes.fetch(stored.data, place)


@kernel
def _add(rows, stored, dim, first, users, items, scales, sums):
    """See `add_stored`; `stored` flat, rows `dim` apart."""
    width, count = users.shape[1], items.shape[1]
    flat, line = users.reshape(users.size), _LINE // stored.itemsize
    for row in range(rows[0], rows[1]):
        for place in range(count):
            # Rows are far apart, the processor cannot guess them.
            following = items[row, min(place + _AHEAD, count - 1)]
            for c in range(0, width if following >= 0 else 0, line):
                fetch(stored, following * dim + first + c)
            item = items[row, place]
            if item < 0:
                continue
            product = dot(stored, item * dim + first, flat, row * width, width // 16)
            sums[row, place] += product * scales[item] if len(scales) else product


@kernel
def _add_neighbours(places, stored, dim, first, users, start, scales, sums):
    """See `add_neighbours`: the sums `places[0] .. places[1] - 1` of each user."""
    width = users.shape[1]
    flat = users.reshape(users.size)
    for place in range(places[0], places[1]):
        item = start + place
        for row in range(len(users)):
            product = dot(stored, item * dim + first, flat, row * width, width // 16)
            sums[row, place] += product * scales[item] if len(scales) else product


@kernel
def _divide(rows, sums, items, norms, scores):
    """See `scores_of`; norms are far apart, and asked for before they are read."""
    count = items.shape[1]
    for row in range(rows[0], rows[1]):
        for place in range(count):
            following = items[row, min(place + 4 * _AHEAD, count - 1)]
            if len(norms) and following >= 0:
                fetch(norms, following)
            item = items[row, place]
            if item < 0:
                scores[row, place] = -np.inf
            elif len(norms):
                scores[row, place] = sums[row, place] / norms[item]
            else:
                scores[row, place] = sums[row, place]
