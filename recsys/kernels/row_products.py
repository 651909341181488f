"""Dot products of users with the rows they kept, straight from how a tier stores them, compiled.

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
from numba.extending import intrinsic

from recsys.kernels.compiling import kernel
from recsys.kernels.threads import in_parts
from recsys.retrieval.codecs.base import Encoded, Float32

LANES = 16
_AHEAD, _LINE = 4, 64  # rows asked for before they are read; bytes
_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
_BYTES = ir.IntType(8).as_pointer()
_WHOLES, _FLOATS = ir.VectorType(_I32, LANES), ir.VectorType(_F32, LANES)
_TO_FLOAT_EXPONENT = float(2**112)
"""float32 counts exponents from 127, float16 from 15."""


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
    stored = _view(vectors)
    if stored is None or (last - first) % LANES:
        return False
    if "scales" in vectors.shared:
        users = users * vectors.shared["scales"][first:last]
    scales = np.asarray(vectors.rows.get("scales", np.empty(0, np.float32)))
    given = (stored, vectors.dim, first, np.ascontiguousarray(users), items, scales, sums)
    in_parts(_add, len(items), threads, *given)
    return True


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
    given = (whole.reshape(-1), whole.shape[1], 0, own, places, nothing, sums)
    in_parts(_add, len(places), threads, *given)


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


def _view(vectors: Encoded) -> npt.NDArray[Any] | None:
    """The rows as one flat array whose type tells `dot` how to read it."""
    kinds = {"fp32": ("values", np.float32), "fp16": ("values", np.uint16)}
    kinds |= {"bf16": ("values", np.int16)}
    kinds |= dict.fromkeys(("int8", "int8-coordinate"), ("codes", np.int8))
    if vectors.codec.name not in kinds:
        return None
    name, kind = kinds[vectors.codec.name]
    flat: npt.NDArray[Any] = np.asarray(vectors.rows[name]).reshape(-1).view(kind)
    return flat


def _typed(_context, stored, _start, users, _user, _turns):
    """Sum of products of `16 * _turns` coordinates at `stored[_start]` and `users[_user]`."""
    signature = types.float32(stored, types.int64, users, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        rows, queries = (
            context.make_array(signature.args[i])(context, builder, values[i]).data for i in (0, 2)
        )
        return _write_dot(
            builder, signature.args[0].dtype, rows, values[1], queries, values[3], values[4]
        )

    return signature, generate


dot: Any = intrinsic(_typed)


def _write_dot(
    builder: Any, kind: Any, rows: Any, start: Any, users: Any, user: Any, turns: Any
) -> Any:
    before = builder.block
    body, after = builder.append_basic_block("body"), builder.append_basic_block("after")
    builder.branch(body)
    builder.position_at_end(body)
    turn, total = builder.phi(_I64), builder.phi(_FLOATS)
    offset = builder.mul(turn, ir.Constant(_I64, LANES))
    stored = _load(builder, rows, builder.add(start, offset), _ELEMENTS[kind][0])
    query = _load(builder, users, builder.add(user, offset), _F32)
    products = builder.fmul(_ELEMENTS[kind][1](builder, stored), query)
    following = builder.add(turn, ir.Constant(_I64, 1))
    added = builder.fadd(total, products)
    for slot, first, last in (
        (turn, ir.Constant(_I64, 0), following),
        (total, ir.Constant(_FLOATS, [0.0] * LANES), added),
    ):
        slot.add_incoming(first, before)
        slot.add_incoming(last, body)
    builder.cbranch(builder.icmp_signed("<", following, turns), body, after)
    builder.position_at_end(after)
    width = LANES
    while width > 1:
        width //= 2
        order = ir.Constant(_WHOLES, [(i + width) % LANES for i in range(LANES)])
        nothing = ir.Constant(_FLOATS, ir.Undefined)
        added = builder.fadd(added, builder.shuffle_vector(added, nothing, order))
    return builder.extract_element(added, ir.Constant(_I32, 0))


def _load(builder: Any, data: Any, place: Any, element: Any) -> Any:
    kind = ir.VectorType(element, LANES).as_pointer()
    where = builder.bitcast(builder.gep(data, [place]), kind)
    return builder.load(where, align=1)


def _same(value: int) -> Any:
    return ir.Constant(_WHOLES, [value] * LANES)


def _as_it_is(_: Any, value: Any) -> Any:
    return value


def _from_half(builder: Any, bits: Any) -> Any:
    """Moves exponent and fraction into place; the product mends the exponent, subnormals too."""
    wide = builder.zext(bits, _WHOLES)
    size = builder.shl(builder.and_(wide, _same(0x7FFF)), _same(13))
    scale = ir.Constant(_FLOATS, [_TO_FLOAT_EXPONENT] * LANES)
    value = builder.fmul(builder.bitcast(size, _FLOATS), scale)
    sign = builder.shl(builder.and_(wide, _same(0x8000)), _same(16))
    return builder.bitcast(builder.or_(builder.bitcast(value, _WHOLES), sign), _FLOATS)


def _from_bf16(builder: Any, bits: Any) -> Any:
    return builder.bitcast(builder.shl(builder.zext(bits, _WHOLES), _same(16)), _FLOATS)


_ELEMENTS: dict[Any, Any] = {
    types.float32: (_F32, _as_it_is),
    types.uint16: (ir.IntType(16), _from_half),
    types.int16: (ir.IntType(16), _from_bf16),
    types.int8: (ir.IntType(8), lambda builder, value: builder.sitofp(value, _FLOATS)),
}
"""How 16 elements are loaded and made float32, by the type of the array."""


def _type_fetch(_context, stored, _place):
    """Asks for the bytes around `stored[_place]`, which will be read soon."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        where = builder.bitcast(builder.gep(data, [values[1]]), _BYTES)
        name, kinds = "llvm.prefetch.p0", [_BYTES, _I32, _I32, _I32]
        function = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(ir.VoidType(), kinds), name
        )
        builder.call(function, [where, *(ir.Constant(_I32, value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(stored, types.int64), generate


fetch: Any = intrinsic(_type_fetch)


@kernel
def _add(rows, stored, dim, first, users, items, scales, sums):
    """See `add_products`; `stored` flat, rows `dim` apart."""
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
