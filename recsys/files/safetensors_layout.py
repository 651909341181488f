"""Layout of a safetensors file: its header, and where each tensor starts.

The format: 8 bytes with the length of a JSON header, the header (type, shape and place of every
tensor), the tensors' bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

_ALIGNED = 64
_BYTES = {
    "F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes of one number, by the format's name of its type."""


@dataclass(frozen=True)
class Layout:
    """The header of a file, and the place of each tensor after it."""

    head: bytes
    """The header's length and the header, padded with blanks to a multiple of 64 bytes."""
    names: tuple[str, ...]
    """The tensors in the order of the file."""
    starts: dict[str, int]
    """For each tensor the place of its first byte in the file."""


def lay_out(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> Layout:
    """Places tensors one after the other, without holes, which the format forbids.

    Args:
        tensors: by name, type (`F32`, `BF16`, ...) and shape.
    """
    # Wide numbers first: every tensor then starts at a multiple of its number's size.
    names = tuple(sorted(tensors, key=lambda name: (-_BYTES[tensors[name][0]], name)))
    header: dict[str, object] = {}
    starts: dict[str, int] = {}
    end = 0
    for name in names:
        kind, shape = tensors[name]
        starts[name], end = end, end + math.prod(shape) * _BYTES[kind]
        header[name] = {
            "dtype": kind, "shape": list(shape), "data_offsets": [starts[name], end],
        }  # fmt: skip
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNED)
    head = len(text).to_bytes(8, "little") + text
    return Layout(head, names, {name: len(head) + start for name, start in starts.items()})
