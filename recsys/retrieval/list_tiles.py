"""Products of a group of users with 64 packed items, by matrix tiles; and which of them count.

Users are the rows of a tile, so few users cost little; items stand packed as its columns, so they
stream through: 16 items by up to 64 coordinates are 1 KiB in one piece.

Shape legend: K coordinates of one tile, a multiple of 4; n users of a group, up to 16.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from recsys.errors import InstallationError
from recsys.retrieval.amx import call, have_tiles, tile_numbers

GROUP = 16
"""Users of a group, and items of a block."""
TOGETHER = 4
"""Blocks that are scored at once."""
_LANES = 16
_ROW = 64  # bytes from one row of a tile to the next, of users and of packed items
_I8, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_BYTES = _I8.as_pointer()
_WHOLES, _FLOATS = ir.VectorType(_I32, _LANES), ir.VectorType(_F32, _LANES)
_USERS, _ITEMS = 6, 4  # tiles: 0..3 sums, 4 and 5 items, 6 users


@cache
def configurations(depth: int) -> npt.NDArray[np.uint8]:
    """Flat `[17 * 64]`: the tiles' shapes for n = 0..16 users of `depth` coordinates (K).

    Raises:
        InstallationError: there are no tiles.
    """
    if not have_tiles():  # to go on would end the process by an illegal instruction
        raise InstallationError("this processor has no int8 tiles; scan lists without them")
    found = np.zeros((GROUP + 1, 64), np.uint8)
    found[:, 0] = 1
    for users, config in enumerate(found):
        row_bytes, rows = config[16:32].view(np.uint16), config[48:56]
        row_bytes[:7], rows[:4] = 64, users
        rows[_ITEMS : _ITEMS + 2] = depth // 4
        row_bytes[_USERS], rows[_USERS] = depth, users
    return found.reshape(-1)


def _number(value: int) -> Any:
    return ir.Constant(_I64, value)


def _data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return context.make_array(kind)(context, builder, array).data


def _type_multiply(_context, codes, _first, _block, _steps, _depth, users, sums):
    """`sums [4, 16, 16]` int32, flat: of 4 blocks, of n users, of a block's 16 items.

    `_first`: where the blocks begin, `_block` bytes each, `_steps` pieces of `_depth` coordinates;
    `users`: flat `[steps, 16, 64]`.
    """
    number = types.int64
    kinds = (codes, number, number, number, number, users, sums)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays = {i: _data(context, builder, signature.args[i], values[i]) for i in (0, 5, 6)}
        _write_products(builder, arrays, *values[1:5])
        return context.get_dummy_value()

    return types.void(*kinds), generate


multiply: Any = intrinsic(_type_multiply)


def _write_products(
    builder: Any, arrays: dict[int, Any], first: Any, block: Any, steps: Any, depth: Any
) -> None:
    def move(name: str, tile: int, array: Any, place: Any) -> None:
        where = builder.bitcast(builder.gep(array, [place]), _BYTES)
        call(builder, name, [_I8, _BYTES, _I64], [*tile_numbers(tile), where, _number(_ROW)])

    for tile in range(TOGETHER):
        call(builder, "tilezero", [_I8], tile_numbers(tile))
    before = builder.block
    body, after = builder.append_basic_block("body"), builder.append_basic_block("after")
    builder.branch(body)
    builder.position_at_end(body)
    step = builder.phi(_I64)
    move("tileloadd64", _USERS, arrays[5], builder.mul(step, _number(GROUP * _ROW)))
    piece = builder.add(first, builder.mul(step, builder.mul(depth, _number(GROUP))))
    for tile in range(TOGETHER):
        items = _ITEMS + tile % 2
        move("tileloadd64", items, arrays[0], builder.add(piece, builder.mul(block, _number(tile))))
        call(builder, "tdpbssd", [_I8] * 3, tile_numbers(tile, _USERS, items))
    following = builder.add(step, _number(1))
    step.add_incoming(_number(0), before)
    step.add_incoming(following, body)
    builder.cbranch(builder.icmp_signed("<", following, steps), body, after)
    builder.position_at_end(after)
    for tile in range(TOGETHER):
        move("tilestored64", tile, arrays[6], _number(GROUP * _LANES * tile))


def _type_above(_context, sums, _user, factors, _item, _limit):
    """Bits of the 64 items at `factors[_item]` whose score for one of the users exceeds a limit."""
    number = types.int64

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays = [_data(context, builder, signature.args[i], values[i]) for i in (0, 2)]
        return _write_above(builder, arrays[0], arrays[1], values[1], values[3], values[4])

    return number(sums, number, factors, number, types.float32), generate


above: Any = intrinsic(_type_above)


def _write_above(builder: Any, sums: Any, factors: Any, user: Any, item: Any, limit: Any) -> Any:
    def vector(array: Any, place: Any, kind: Any) -> Any:
        where = builder.gep(array, [place])
        return builder.load(builder.bitcast(where, kind.as_pointer()), align=4)

    nothing, zeros = ir.Constant(_FLOATS, ir.Undefined), ir.Constant(_WHOLES, [0] * _LANES)
    single = builder.insert_element(nothing, limit, ir.Constant(_I32, 0))
    limits, hits = builder.shuffle_vector(single, nothing, zeros), _number(0)
    row = builder.mul(user, _number(_LANES))
    for block in range(TOGETHER):
        own = vector(sums, builder.add(row, _number(GROUP * _LANES * block)), _WHOLES)
        weights = vector(factors, builder.add(item, _number(_LANES * block)), _FLOATS)
        scores = builder.fmul(builder.sitofp(own, _FLOATS), weights)
        bits = builder.bitcast(builder.fcmp_ordered(">", scores, limits), ir.IntType(_LANES))
        hits = builder.or_(hits, builder.shl(builder.zext(bits, _I64), _number(_LANES * block)))
    return hits


def _type_lowest(_context, _bits):
    """The place of the lowest bit that is set."""

    def generate(_: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.cttz(values[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


lowest: Any = intrinsic(_type_lowest)


def _type_copy_line(_context, source, _start, target, _place):
    """Copies 64 bytes from `source[_start]` to `target[_place]`."""
    number, line = types.int64, ir.VectorType(_I8, _ROW).as_pointer()

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        places = [
            builder.bitcast(
                builder.gep(_data(context, builder, signature.args[i], values[i]), [values[i + 1]]),
                line,
            )
            for i in (0, 2)
        ]
        builder.store(builder.load(places[0], align=1), places[1], align=1)
        return context.get_dummy_value()

    return types.void(source, number, target, number), generate


copy_line: Any = intrinsic(_type_copy_line)
