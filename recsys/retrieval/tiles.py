"""The scan of int8 prefixes on processors with matrix tiles (Intel AMX): 16 items by 16 users.

The very lists of `kernel.scan_codes`. Tiles multiply bytes, user vectors are int16: their upper
bytes alone are multiplied, and what is left out is bounded (Cauchy and Schwarz), so whoever could
enter a list is seen; of these few the exact sum is taken before one does. Items are read in the
order in which the tier stores them; users alone are packed.

Shape legend: B users, N items, d coordinates, D of a stored row, K coordinates of one tile.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from recsys.compiling import kernel
from recsys.errors import InstallationError
from recsys.retrieval.amx import call, configure, have_tiles, release, tile_numbers
from recsys.retrieval.encoding import Float32
from recsys.retrieval.listing import USERS_AT_ONCE, forbidden, shrink

USERS = USERS_AT_ONCE
ITEMS = 64
"""Items scored at once, in four tiles of 16."""
_LANES, _WIDEST = 16, 64
_CHUNK = 1 << 14  # bytes of items that all users meet before the next: half a first-level cache
_I8, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_BYTES = _I8.as_pointer()
_WHOLES, _FLOATS = ir.VectorType(_I32, _LANES), ir.VectorType(_F32, _LANES)


def depth_of(size: int) -> int:
    """K for d coordinates: the longest piece of up to 64 that divides them; 0: tiles cannot."""
    return 0 if size % 4 else math.gcd(size, _WIDEST)


def pack_users(users: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int8], Float32]:
    """The upper bytes of `[B, d]`, as tiles want them, and how long what they leave is.

    Returns:
        Flat int8 `[B / 16 rounded up, d / K, K / 4, 16, 4]`, the nearest multiples of 256; and
        `[B]` the norm of each user's differences from these.
    """
    count, size = users.shape
    depth = depth_of(size)
    upper = np.zeros((-(-count // USERS) * USERS, size), np.int8)
    upper[:count] = (users + np.int16(128)) >> 8
    left = users - (upper[:count].astype(np.int32) << 8)
    shape = (-1, USERS, size // depth, depth // 4, 4)
    packed = np.ascontiguousarray(upper.reshape(shape).transpose(0, 2, 3, 1, 4)).ravel()
    return packed, np.linalg.norm(left, axis=1).astype(np.float32)


@cache
def configuration(depth: int) -> npt.NDArray[np.uint8]:
    """Shapes of the tiles: 0..3 sums, 4 and 5 items `[16, K]`, 6 users `[K / 4, 64]`.

    Raises:
        InstallationError: there are no tiles.
    """
    if not have_tiles():  # to go on would end the process by an illegal instruction
        raise InstallationError("this processor has no int8 tiles; scan with retrieval.kernel")
    config = np.zeros(64, np.uint8)
    config[0] = 1
    row_bytes, rows = config[16:32].view(np.uint16), config[48:56]
    row_bytes[:], rows[:] = 64, 16
    row_bytes[4:6], rows[6] = depth, depth // 4
    return config


def _type_multiply(_context, codes, first, row, steps, depth, users, user, sums):
    """Sums of 64 items by 16 users: `sums [64, 16]` int32, flat.

    `first`: where the first item's codes begin, `row` bytes from those of the next one; `user`:
    where the 16 users begin, `steps` pieces of `depth` coordinates.
    """
    number = types.int64
    kinds = (codes, number, number, number, number, users, number, sums)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays = {
            place: context.make_array(signature.args[place])(context, builder, values[place]).data
            for place in (0, 5, 7)
        }
        _write_products(builder, arrays, *(values[place] for place in (1, 2, 3, 4, 6)))
        return context.get_dummy_value()

    return types.void(*kinds), generate


_multiply: Any = intrinsic(_type_multiply)


def _write_products(
    builder: Any, arrays: dict[int, Any], first: Any, row: Any, steps: Any, depth: Any, user: Any
) -> None:
    def number(value: int) -> Any:
        return ir.Constant(_I64, value)

    def load(tile: int, array: Any, place: Any, apart: Any) -> None:
        where = builder.bitcast(builder.gep(array, [place]), _BYTES)
        call(builder, "tileloadd64", [_I8, _BYTES, _I64], [*tile_numbers(tile), where, apart])

    for tile in range(4):
        call(builder, "tilezero", [_I8], tile_numbers(tile))
    before = builder.block
    body, after = builder.append_basic_block("body"), builder.append_basic_block("after")
    builder.branch(body)
    builder.position_at_end(body)
    step = builder.phi(_I64)
    item = builder.add(first, builder.mul(step, depth))
    place = builder.add(user, builder.mul(step, builder.mul(depth, number(USERS))))
    load(6, arrays[5], place, number(64))
    for quarter in range(4):
        tile = 4 + quarter % 2
        load(tile, arrays[0], builder.add(item, builder.mul(row, number(16 * quarter))), row)
        call(builder, "tdpbssd", [_I8] * 3, tile_numbers(quarter, tile, 6))
    following = builder.add(step, number(1))
    step.add_incoming(number(0), before)
    step.add_incoming(following, body)
    builder.cbranch(builder.icmp_signed("<", following, steps), body, after)
    builder.position_at_end(after)
    for tile in range(4):
        where = builder.bitcast(builder.gep(arrays[7], [number(256 * tile)]), _BYTES)
        kinds = [_I8, _BYTES, _I64]
        call(builder, "tilestored64", kinds, [*tile_numbers(tile), where, number(64)])


def _type_compare(_context, sums, place, factors, item, limits, row, hits):
    """Marks the scores of 16 items by 16 users that exceed the users' limits.

    Bit t of `hits[i]` (uint16): item i is one for user `row + t`. Gives 0 where no bit is set.
    """
    number = types.int64
    kinds = (sums, number, factors, number, limits, number, hits)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays = {
            place: context.make_array(signature.args[place])(context, builder, values[place]).data
            for place in (0, 2, 4, 6)
        }
        return _write_comparison(builder, arrays, *(values[place] for place in (1, 3, 5)))

    return types.int64(*kinds), generate


_compare: Any = intrinsic(_type_compare)


def _write_comparison(builder: Any, arrays: dict[int, Any], place: Any, item: Any, row: Any) -> Any:
    def number(value: int) -> Any:
        return ir.Constant(_I64, value)

    def vector(at: int, index: Any, kind: Any) -> Any:
        where = builder.gep(arrays[at], [index])
        return builder.load(builder.bitcast(where, kind.as_pointer()), align=4)

    least, found = vector(4, row, _FLOATS), None
    nothing, zeros = ir.Constant(_FLOATS, ir.Undefined), ir.Constant(_WHOLES, [0] * _LANES)
    for i in range(_LANES):
        whole = vector(0, builder.add(place, number(16 * i)), _WHOLES)
        factor = builder.load(builder.gep(arrays[2], [builder.add(item, number(i))]))
        first = builder.insert_element(nothing, factor, ir.Constant(_I32, 0))
        factors = builder.shuffle_vector(first, nothing, zeros)
        above = builder.fcmp_ordered(
            ">", builder.fmul(builder.sitofp(whole, _FLOATS), factors), least
        )
        found = above if found is None else builder.or_(found, above)
        where = builder.gep(arrays[6], [number(i)])
        builder.store(builder.bitcast(above, ir.IntType(_LANES)), where)
    return builder.zext(builder.bitcast(found, ir.IntType(_LANES)), _I64)


def _type_dot(_context, codes, start, users, user, turns):
    """Sum of the products of `16 * turns >= 16` codes from `start` and coordinates from `user`."""
    number = types.int64

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = [
            context.make_array(signature.args[i])(context, builder, values[i]).data for i in (0, 2)
        ]
        return _write_dot(builder, data, (values[1], values[3]), values[4])

    return types.int32(codes, number, users, number, number), generate


_dot: Any = intrinsic(_type_dot)


def _write_dot(builder: Any, data: list[Any], starts: tuple[Any, Any], turns: Any) -> Any:
    before = builder.block
    body, after = builder.append_basic_block("body"), builder.append_basic_block("after")
    builder.branch(body)
    builder.position_at_end(body)
    turn, total = builder.phi(_I64), builder.phi(_WHOLES)
    offset = builder.mul(turn, ir.Constant(_I64, _LANES))
    wide = []
    for array, start, bits in zip(data, starts, (8, 16), strict=True):
        kind = ir.VectorType(ir.IntType(bits), _LANES).as_pointer()
        where = builder.bitcast(builder.gep(array, [builder.add(start, offset)]), kind)
        wide.append(builder.sext(builder.load(where, align=1), _WHOLES))
    added = builder.add(total, builder.mul(*wide))
    following = builder.add(turn, ir.Constant(_I64, 1))
    for slot, first, last in (
        (turn, ir.Constant(_I64, 0), following),
        (total, ir.Constant(_WHOLES, [0] * _LANES), added),
    ):
        slot.add_incoming(first, before)
        slot.add_incoming(last, body)
    builder.cbranch(builder.icmp_signed("<", following, turns), body, after)
    builder.position_at_end(after)
    for width in (8, 4, 2, 1):
        order = ir.Constant(_WHOLES, [(i + width) % _LANES for i in range(_LANES)])
        moved = builder.shuffle_vector(added, ir.Constant(_WHOLES, ir.Undefined), order)
        added = builder.add(added, moved)
    return builder.extract_element(added, ir.Constant(_I32, 0))


@kernel
def scan_tiles(
    rows, base, every, last, codes, shape, users, packed, slack, config, factors,
    hidden, seen, offsets, keep, scores, items, counts, floors,
):  # fmt: skip
    """Lets items enter the lists of the users `rows[0] .. rows[1] - 1`.

    Args:
        rows: of the batch; the first one a multiple of 16.
        base: index of the first item in `codes`.
        every: which items are scored: the first one, and every such after it.
        last: how many are; they, and enough behind them for a multiple of 64, are in `codes`.
        codes: flat int8.
        shape: D times `every`, d / K, K.
        users: flat int16 `[B, d]`.
        packed: their upper bytes, as `pack_users` gives them.
        slack: `[B]` how far the product with the upper bytes alone may be from a score.
        config: as `configuration` gives it.
        factors: `[last, rounded up to 64]` float32: of each item, what its sum is multiplied by.
        hidden: as for `kernel.scan_codes`, and so are all that follow.
        seen: likewise.
        offsets: likewise.
        keep: likewise.
        scores: likewise.
        items: likewise.
        counts: likewise.
        floors: likewise, but `[B rounded up to 16]`.
    """
    apart, steps, depth = shape
    size, turns = steps * depth, steps * depth // _LANES
    filtered, room = len(hidden) > 0 or len(seen) > 0, scores.shape[1]
    sums, hits = np.empty(4 * 256, np.int32), np.empty(16, np.uint16)
    limits = np.full(len(floors), np.inf, np.float32)
    for user in range(rows[0], rows[1]):
        limits[user] = (floors[user] - slack[user]) / 256
    together = max(1, _CHUNK // (size * ITEMS)) * ITEMS
    configure(config, 0)
    for chunk in range(0, last, together):
        end = min(chunk + together, last)
        for row in range(rows[0], rows[1], USERS):
            for first in range(chunk, end, ITEMS):
                _multiply(codes, first * apart, apart, steps, depth, packed, row * size, sums)
                for item in range(first, min(first + ITEMS, last), 16):
                    if not _compare(sums, (item - first) * 16, factors, item, limits, row, hits):
                        continue
                    # Written out: a call would count references to ten arrays, atomically.
                    for i in range(min(16, last - item)):
                        for lane in range(USERS if hits[i] else 0):
                            if not (hits[i] >> lane) & 1:
                                continue
                            user, found = row + lane, base + (item + i) * every
                            start, total = (item + i) * apart, np.int32(0)
                            if turns:
                                total = _dot(codes, start, users, user * size, turns)
                            for c in range(16 * turns, size):
                                total += np.int32(codes[start + c]) * users[user * size + c]
                            score = factors[item + i] * np.float32(np.int32(total))
                            if score <= floors[user] or (
                                filtered and forbidden(user, found, hidden, seen, offsets)
                            ):
                                continue
                            count = counts[user]
                            scores[user, count], items[user, count] = score, found
                            counts[user] = count + 1
                            if count + 1 == room:
                                floors[user] = shrink(scores[user], items[user], room, keep)
                                limits[user] = (floors[user] - slack[user]) / 256
                                counts[user] = keep
    release()
