"""Scores of int8 codes and running lists of the best, compiled: the first stage over whole tiers.

A chunk of codes is packed once for all users of a batch, 64 items side by side and two coordinates
behind each other, as pairs of int16: so four users and 64 items are scored by multiply-adds of
pairs into 32-bit sums, of which a machine with AVX-512 does 16 at once. User vectors are rounded
to int16 (2^-15 of their largest coordinate): the sums are exact from there on.

Scores are compared with the list's worst while they are in registers; what does not enter is never
written. Filters are looked at for what enters alone, so they cost nothing, and lists stay full.

Shape legend: B users, C items of a chunk, d coordinates (padded to pairs), L room of a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import Parameter, Signature
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from recsys.compiling import kernel
from recsys.retrieval.gather import dot
from recsys.retrieval.listing import enter

WIDE = 64
"""Items scored at once."""
TALL = 4
"""Users scored at once."""
_LANES = 16
_GROUPS = WIDE // _LANES
_I32, _I64, _I16, _F32 = ir.IntType(32), ir.IntType(64), ir.IntType(16), ir.FloatType()
_PAIRS = ir.VectorType(_I16, 2 * _LANES)
_PRODUCTS = ir.VectorType(_I32, 2 * _LANES)
_SUMS, _SCORES = ir.VectorType(_I32, _LANES), ir.VectorType(_F32, _LANES)
_ARRAYS = (
    *(types.int16[::1], types.int64, types.int16[::1], types.int64, types.int64),
    *(types.float32[::1], types.int64, types.float32[::1], types.int64, types.float32[::1]),
)


def _typed(_context: Any, *_arguments: Any) -> Any:
    """Scores of 64 items for 4 users; an int64 whose bit t says that user t has hits.

    Its arguments, in the order of `_ARRAYS`: codes as `pack` leaves them, and where those of the 64
    items begin; int16 user vectors, where user t = 0 begins, and the number of pairs (user t is
    `2 * pairs * t` behind); the items' factors, and where the 64 begin; what a score must exceed,
    and where user t = 0 stands; room for the scores, `[4 * 64]`.
    """
    signature = types.int64(*_ARRAYS)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = [
            context.make_array(kind)(context, builder, value).data
            if isinstance(kind, types.Array)
            else value
            for kind, value in zip(signature.args, values, strict=True)
        ]
        return _write_tile(builder, *data)

    return signature, generate


# numba reads the number of arguments from the signature.
_typed.__signature__ = Signature(  # type: ignore[attr-defined]
    [
        Parameter(name, Parameter.POSITIONAL_OR_KEYWORD)
        for name in ("context", *(f"argument{n}" for n in range(len(_ARRAYS))))
    ]
)
_score_tile: Any = intrinsic(_typed)


def _load(builder: Any, data: Any, place: Any, kind: Any, align: int) -> Any:
    return builder.load(builder.bitcast(builder.gep(data, [place]), kind.as_pointer()), align=align)


def _spread(builder: Any, value: Any, lanes: int) -> Any:
    kind = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_I32, 0))
    order = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), order)


def _half(builder: Any, products: Any, odd: int) -> Any:
    order = ir.Constant(_SUMS, [2 * i + odd for i in range(_LANES)])
    return builder.shuffle_vector(products, ir.Constant(_PRODUCTS, ir.Undefined), order)


def _write_tile(
    builder: Any, packed: Any, first: Any, users: Any, user: Any, pairs: Any, factors: Any,
    item: Any, floors: Any, row: Any, out: Any,
) -> Any:  # fmt: skip
    def number(value: int) -> Any:
        return ir.Constant(_I64, value)

    starts = [builder.add(user, builder.mul(number(2 * t), pairs)) for t in range(TALL)]
    zero = ir.Constant(_SUMS, [0] * _LANES)
    with _turns(builder, pairs, [zero] * (TALL * _GROUPS)) as (turn, sums):
        place = builder.add(first, builder.mul(turn, number(2 * WIDE)))
        codes = [
            builder.sext(
                _load(builder, packed, builder.add(place, number(2 * _LANES * g)), _PAIRS, 2),
                _PRODUCTS,
            )
            for g in range(_GROUPS)
        ]
        for t in range(TALL):
            at = builder.add(starts[t], builder.mul(turn, number(2)))
            both = _spread(builder, _load(builder, users, at, _I32, 2), _LANES)
            wide = builder.sext(builder.bitcast(both, _PAIRS), _PRODUCTS)
            for g in range(_GROUPS):
                # The multiply-add of pairs, in the form that LLVM knows by sight.
                products = builder.mul(codes[g], wide)
                pair = builder.add(_half(builder, products, 0), _half(builder, products, 1))
                sums[t * _GROUPS + g] = builder.add(sums[t * _GROUPS + g], pair)
    return _compare(builder, sums, factors, item, floors, row, out)


def _compare(
    builder: Any, sums: Any, factors: Any, item: Any, floors: Any, row: Any, out: Any
) -> Any:
    def number(value: int) -> Any:
        return ir.Constant(_I64, value)

    hits = number(0)
    weights = [
        _load(builder, factors, builder.add(item, number(_LANES * g)), _SCORES, 4)
        for g in range(_GROUPS)
    ]
    for t in range(TALL):
        floor = builder.load(builder.gep(floors, [builder.add(row, number(t))]))
        least = _spread(builder, floor, _LANES)
        found = None
        for g in range(_GROUPS):
            score = builder.fmul(builder.sitofp(sums[t * _GROUPS + g], _SCORES), weights[g])
            where = builder.gep(out, [number(t * WIDE + g * _LANES)])
            builder.store(score, builder.bitcast(where, _SCORES.as_pointer()), align=4)
            above = builder.fcmp_ordered(">", score, least)
            found = above if found is None else builder.or_(found, above)
        bits = builder.bitcast(found, ir.IntType(_LANES))
        some = builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(_LANES), 0))
        hits = builder.or_(hits, builder.shl(builder.zext(some, _I64), number(t)))
    return hits


@contextmanager
def _turns(builder: Any, count: Any, carried: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """A loop of `count >= 1` turns; the body replaces the values, which go on to the next turn."""
    before = builder.block
    body, after = builder.append_basic_block("body"), builder.append_basic_block("after")
    builder.branch(body)
    builder.position_at_end(body)
    turn = builder.phi(_I64)
    slots = [builder.phi(value.type) for value in carried]
    values = list(slots)
    yield turn, values
    following = builder.add(turn, ir.Constant(_I64, 1))
    starts = [ir.Constant(_I64, 0), *carried]
    for slot, start, end in zip([turn, *slots], starts, [following, *values], strict=True):
        slot.add_incoming(start, before)
        slot.add_incoming(end, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), body, after)
    builder.position_at_end(after)


@kernel
def pack(codes, dim, packed):
    """Int8 `codes [C, >= dim]` -> int16 `packed [C / 64 rounded up, pairs, 64, 2]`."""
    packed[:] = 0
    for item in range(codes.shape[0]):
        block, lane = item // WIDE, item % WIDE
        for pair in range(dim // 2):
            packed[block, pair, lane, 0] = codes[item, 2 * pair]
            packed[block, pair, lane, 1] = codes[item, 2 * pair + 1]
        if dim % 2:
            packed[block, dim // 2, lane, 0] = codes[item, dim - 1]


@kernel
def scan_codes(
    rows, base, num_items, packed, pairs, users, factors,
    hidden, seen, offsets, keep, scores, items, counts, floors,
):  # fmt: skip
    """Lets a chunk of packed codes enter the lists of the users `rows[0] .. rows[1] - 1`.

    Args:
        rows: of the batch; the first one a multiple of 4.
        base: the first item's index.
        num_items: C.
        packed: flat, as `pack` leaves it.
        pairs: of coordinates.
        users: flat int16 `[B rounded up to 4, 2 * pairs]`.
        factors: `[C rounded up to 64]` float32: of each item, what its sum is multiplied by.
        hidden: `[N]` uint8, 1 for items nobody shall get; or empty.
        seen: items of each row, ascending; or empty.
        offsets: `[B + 1]`: those of row b are `seen[offsets[b]:offsets[b + 1]]`.
        keep: how many each list holds in the end.
        scores: `[B, L]` float32, L > keep.
        items: `[B, L]` int64.
        counts: `[B]` int64: how many are in each list.
        floors: `[B rounded up to 4]` float32: what a score must exceed; inf behind B.
    """
    out = np.empty(TALL * WIDE, np.float32)
    for row in range(rows[0], rows[1], TALL):
        for item in range(0, num_items, WIDE):
            hits = _score_tile(
                packed, item * 2 * pairs, users, row * 2 * pairs, pairs, factors, item,
                floors, row, out,
            )  # fmt: skip
            if not hits:
                continue
            last = min(WIDE, num_items - item)
            for t in range(TALL):
                if not (hits >> t) & 1:
                    continue
                for lane in range(last):
                    if out[t * WIDE + lane] > floors[row + t]:
                        enter(
                            row + t, out[t * WIDE + lane], base + item + lane,
                            hidden, seen, offsets, keep, scores, items, counts, floors,
                        )  # fmt: skip


@kernel
def scan_scores(
    rows, base, near, slack, factors, norms, vectors, users,
    hidden, seen, offsets, keep, scores, items, counts, floors,
):  # fmt: skip
    """As `scan_codes`, from `near [B, C]`: products by a library, times `factors`, are near scores.

    A product of matrices rounds an item's score by its place in the chunk. So what may enter by
    `near` is scored again, by the sum that the stages take, and enters by that.

    Args:
        rows: of the batch.
        base: the first item's index.
        near: `[B, C]`.
        slack: `[B]` how far that may be from a score.
        factors: `[C]` float32: one over the norm, or 1.
        norms: `[C]` float32 that scores are divided by; or empty.
        vectors: flat float32 `[C, d]`, d a multiple of 16.
        users: flat float32 `[B, d]`.
        hidden: as for `scan_codes`, and so are all that follow.
        seen: likewise.
        offsets: likewise.
        keep: likewise.
        scores: likewise.
        items: likewise.
        counts: likewise.
        floors: likewise.
    """
    width = len(vectors) // near.shape[1]
    for row in range(rows[0], rows[1]):
        limit = floors[row] - slack[row]
        for item in range(near.shape[1]):
            if near[row, item] * factors[item] <= limit:
                continue
            score = dot(vectors, item * width, users, row * width, width // 16)
            if len(norms):
                score /= norms[item]
            if score > floors[row]:
                enter(
                    row, score, base + item,
                    hidden, seen, offsets, keep, scores, items, counts, floors,
                )  # fmt: skip
                limit = floors[row] - slack[row]
