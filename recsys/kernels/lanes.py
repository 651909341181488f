"""LLVM instructions on sixteen float32 lanes, from which kernels are written.

A kernel is made of a few small pieces written directly in LLVM's language (through llvmlite), put
together by loops that numba compiles. Every multiplication and addition is stated, a fused
multiply-add is only there where it is asked for, and nothing may be reordered: so a kernel gives
the same bits on every machine, and the same bits whether it was just compiled or comes from
numba's cache. (Loops vectorized by the compiler did not: they differed in the last bit between
the two, and a resumed run was no longer the run it resumed.)

On AVX-512 a vector is one register, on narrower machines LLVM splits it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
_FLOAT, _INT32, _INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_WHOLES = ir.VectorType(_INT32, LANES)
_BYTES = ir.IntType(8).as_pointer()

_LOG2_E = 1.4426950408889634
_LOG2_E_HIGH = 1.44269502162933349609375
"""log2(e) as float32; what it lacks is added apart, or exp(-80) would be off by 2e-6."""
_ROUNDING = 1.5 * 2**23
_EXP2 = (1.5403530e-4, 1.3333558e-3, 9.6181291e-3, 5.5504109e-2, 0.24022651, 0.69314718, 1.0)
"""2 ** r on [-1/2, 1/2] to 1e-7: Taylor's polynomial of degree 6, highest power first."""


def piece(returns: Any, arguments: str) -> Callable[[Callable[..., Any]], Any]:
    """Makes a function that writes LLVM code callable from code that numba compiles.

    Args:
        returns: the numba type of its result.
        arguments: one letter each: `a` a one-dimensional contiguous float32 array (the writer is
            given a pointer to its data), `s` such an array of any numbers (the writer is given a
            `Stored`), `i` an int64, `f` a float32.

    Returns:
        A decorator for `write(lanes, *values)`.
    """
    letters = {"i": types.int64, "f": types.float32, "a": types.float32[::1]}

    def decorate(write: Callable[..., Any]) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            ready = []
            for letter, kind, value in zip(arguments, signature.args, values, strict=True):
                if letter in "as":
                    data = context.make_array(kind)(context, builder, value).data
                    ready.append(data if letter == "a" else Stored(data, kind.dtype))
                else:
                    ready.append(value)
            result = write(Lanes(builder), *ready)
            return context.get_dummy_value() if returns is types.void else result

        def typed(_context: Any, *given: Any) -> Any:
            kinds = zip(arguments, given, strict=True)
            return returns(*(letters.get(letter, kind) for letter, kind in kinds)), generate

        # numba reads the number of arguments from the signature.
        names = ["context", *(f"argument{n}" for n in range(len(arguments)))]
        kind = Parameter.POSITIONAL_OR_KEYWORD
        typed.__signature__ = Signature([Parameter(name, kind) for name in names])  # type: ignore[attr-defined]
        typed.__name__, typed.__doc__ = write.__name__, write.__doc__
        return intrinsic(typed)

    return decorate


@dataclass(frozen=True)
class Stored:
    """An array of numbers of any type, as kernels receive it."""

    data: Any
    """The pointer to its first element."""
    kind: Any
    """The numba type of its elements."""


class Lanes:
    """Writes vector instructions at one place of a function."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def index(self, value: int) -> Any:
        """An int64 constant."""
        return ir.Constant(_INDEX, value)

    def at(self, start: Any, times: Any, stride: Any) -> Any:
        """`start + times * stride`."""
        return self.builder.add(start, self.builder.mul(times, stride))

    def load(self, data: Any, place: Any, element: Any = _FLOAT, align: int = 4) -> Any:
        """The vector at `data[place]`.

        Args:
            data: a pointer.
            place: of the first of 16 elements.
            element: their LLVM type.
            align: bytes that its address is a multiple of, at least.
        """
        kind = ir.VectorType(element, LANES).as_pointer()
        where = self.builder.bitcast(self.builder.gep(data, [place]), kind)
        return self.builder.load(where, align=align)

    def fetch(self, data: Any, place: Any) -> None:
        """Asks for the bytes around `data[place]`, which will be read soon."""
        where = self.builder.bitcast(self.builder.gep(data, [place]), _BYTES)
        kinds = [_BYTES, _INT32, _INT32, _INT32]
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0"
        )
        reading, near, of_data = (ir.Constant(_INT32, value) for value in (0, 3, 1))
        self.builder.call(function, [where, reading, near, of_data])

    def store(self, vector: Any, data: Any, place: Any) -> None:
        """Writes a vector to `data[place]`."""
        where = self.builder.bitcast(self.builder.gep(data, [place]), _VECTOR.as_pointer())
        self.builder.store(vector, where, align=4)

    def spread(self, data: Any, place: Any) -> Any:
        """The one number at `data[place]`, in all lanes."""
        return self.same(self.builder.load(self.builder.gep(data, [place])))

    def same(self, value: Any) -> Any:
        """One number (a value, or a Python float) in all lanes."""
        if isinstance(value, float):
            return ir.Constant(_VECTOR, [value] * LANES)
        nothing = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
        first = self.builder.insert_element(nothing, value, ir.Constant(_INT32, 0))
        return self.builder.shuffle_vector(first, nothing, self.whole(0))

    def whole(self, value: int) -> Any:
        """One int32 constant in all lanes."""
        return ir.Constant(_WHOLES, [value] * LANES)

    def widen(self, values: Any) -> Any:
        """Unsigned whole numbers as int32."""
        return self.builder.zext(values, _WHOLES)

    def as_floats(self, values: Any) -> Any:
        """Float32 numbers that are equal to signed whole numbers."""
        return self.builder.sitofp(values, _VECTOR)

    def bits(self, vector: Any) -> Any:
        """Float32 numbers' bits as int32."""
        return self.builder.bitcast(vector, _WHOLES)

    def of_bits(self, wholes: Any) -> Any:
        """Float32 numbers that have the bits of an int32 vector."""
        return self.builder.bitcast(wholes, _VECTOR)

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        """`x * y + z`, rounded once."""
        return self.call("llvm.fma.v16f32", x, y, z)

    def mul(self, x: Any, y: Any) -> Any:
        """`x * y`."""
        return self.builder.fmul(x, y)

    def add(self, x: Any, y: Any) -> Any:
        """`x + y`."""
        return self.builder.fadd(x, y)

    def sub(self, x: Any, y: Any) -> Any:
        """`x - y`."""
        return self.builder.fsub(x, y)

    def larger(self, x: Any, y: Any) -> Any:
        """The larger of two, lane by lane."""
        return self.builder.select(self.builder.fcmp_ordered(">", x, y), x, y)

    def exp(self, x: Any) -> Any:
        """Exp of `x <= 0` to 2e-7 (relative); exactly 0 below -87.3."""
        y = self.mul(x, self.same(_LOG2_E))
        # Beyond 2 ** 23 floats are whole numbers: the sum is rounded, and ends in their bits.
        shifted = self.add(y, self.same(_ROUNDING))
        whole = self.sub(shifted, self.same(_ROUNDING))
        rest = self.fma(x, self.same(_LOG2_E_HIGH), self.builder.fsub(self.same(-0.0), whole))
        rest = self.fma(x, self.same(_LOG2_E - _LOG2_E_HIGH), rest)
        power = self.same(_EXP2[0])
        for coefficient in _EXP2[1:]:
            power = self.fma(power, rest, self.same(coefficient))
        exponent = self.builder.shl(self.bits(shifted), self.whole(23))
        scaled = self.builder.add(self.bits(power), exponent)
        # Far below, `rest` is anything at all and the exponent wraps around.
        lost = self.builder.fcmp_ordered("<=", y, self.same(-126.0))
        return self.builder.select(lost, self.same(0.0), self.of_bits(scaled))

    def mask(self, relation: str, x: Any, y: Any) -> Any:
        """Lane by lane, does `x > y` (or `>=`) hold? Never where one is NaN."""
        return self.builder.fcmp_ordered(relation, x, y)

    def count(self, mask: Any) -> Any:
        """How many lanes of a mask are set; an int64."""
        bits = self.builder.bitcast(mask, ir.IntType(LANES))
        return self.builder.zext(self.call("llvm.ctpop.i16", bits), _INDEX)

    def numbers(self, first: Any) -> Any:
        """`first, first + 1, ...` as int32, in the bits of a float32 vector."""
        start = self.same(self.builder.trunc(first, _INT32))
        return self.of_bits(self.builder.add(start, ir.Constant(_WHOLES, list(range(LANES)))))

    def store_chosen(self, vector: Any, mask: Any, data: Any, place: Any) -> None:
        """Writes the lanes that a mask has set, side by side, from `data[place]` on."""
        where = self.builder.gep(data, [place])
        masks = ir.VectorType(ir.IntType(1), LANES)
        kind = ir.FunctionType(ir.VoidType(), [_VECTOR, _FLOAT.as_pointer(), masks])
        name = "llvm.masked.compressstore.v16f32"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        self.builder.call(function, [vector, where, mask])

    def fold(self, vector: Any, join: Callable[[Any, Any], Any]) -> Any:
        """Joins the lanes of a vector into one number: halves, quarters, eighths, pairs."""
        width = LANES
        while width > 1:
            width //= 2
            order = ir.Constant(_WHOLES, [(i + width) % LANES for i in range(LANES)])
            nothing = ir.Constant(_VECTOR, ir.Undefined)
            vector = join(vector, self.builder.shuffle_vector(vector, nothing, order))
        return self.builder.extract_element(vector, ir.Constant(_INT32, 0))

    @contextmanager
    def steps(self, count: Any, carried: list[Any]) -> Iterator[Loop]:
        """A loop of `count >= 1` turns over values carried from turn to turn.

        The body sets `loop.carried`; after the loop it holds the values of the last turn.
        """
        builder = self.builder
        before = builder.block
        body, after = builder.append_basic_block("body"), builder.append_basic_block("after")
        builder.branch(body)
        builder.position_at_end(body)
        turn = builder.phi(_INDEX)
        slots = [builder.phi(value.type) for value in carried]
        loop = Loop(turn, list(slots))
        yield loop
        following = builder.add(turn, self.index(1))
        starts = [self.index(0), *carried]
        for slot, start, end in zip(
            [turn, *slots], starts, [following, *loop.carried], strict=True
        ):
            slot.add_incoming(start, before)
            slot.add_incoming(end, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, count), body, after)
        builder.position_at_end(after)

    def call(self, name: str, *values: Any) -> Any:
        """One of LLVM's own functions, whose arguments and result are of one type."""
        kind = ir.FunctionType(values[0].type, [value.type for value in values])
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, values)


class Loop:
    """The values that the body of a loop may use."""

    def __init__(self, turn: Any, carried: list[Any]) -> None:
        self.turn = turn
        """The number of the turn, from 0."""
        self.carried = carried
        """Its values: those of the turn before, to be replaced by the body."""
