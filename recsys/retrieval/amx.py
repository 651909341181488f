"""Matrix tiles of a processor (Intel AMX): whether there are any, and what sets and ends their use.

What multiplies with them: `tiles` (a tier as it is stored) and `list_tiles` (packed lists).
"""

from __future__ import annotations

import ctypes
import platform
from functools import cache
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18
_I8 = ir.IntType(8)
_BYTES = _I8.as_pointer()


@cache
def have_tiles() -> bool:
    """Whether this processor has int8 tiles, and the system lets us use them."""
    info = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not info.is_file():
        return False
    flags = next((line for line in info.open() if line.startswith("flags")), "").split()
    if not {"amx_tile", "amx_int8", "avx512f"} <= set(flags):
        return False
    # Linux keeps the tiles' state only for processes that ask.
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA) == 0)


def call(builder: Any, name: str, kinds: list[Any], values: list[Any]) -> None:
    """Writes a call of the processor's instruction `name`."""
    known = builder.module.globals.get(f"llvm.x86.{name}")
    function = known or ir.Function(
        builder.module, ir.FunctionType(ir.VoidType(), kinds), f"llvm.x86.{name}"
    )
    builder.call(function, values)


def tile_numbers(*numbers: int) -> list[Any]:
    """The names of tiles, as instructions take them."""
    return [ir.Constant(_I8, number) for number in numbers]


def _type_configure(_context, config, _place):
    """Sets the tiles' shapes for this thread: the 64 bytes that begin at `config[_place]`."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        start = builder.gep(data, [values[1]])
        call(builder, "ldtilecfg", [_BYTES], [builder.bitcast(start, _BYTES)])
        return context.get_dummy_value()

    return types.void(config, types.int64), generate


configure: Any = intrinsic(_type_configure)


def _type_release(_context):
    """Gives the tiles back."""

    def generate(context: Any, builder: Any, _signature: Any, _values: Any) -> Any:
        call(builder, "tilerelease", [], [])
        return context.get_dummy_value()

    return types.void(), generate


release: Any = intrinsic(_type_release)
