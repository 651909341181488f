"""Codecs by name, and encoding with one.

    encoded = encode(vectors, "int8")        [N, d] float32 -> arrays
    encoded.decode()                         [N, d] float32
    encoded.decode([4, 7])                   [2, d]
    encoded.codec.bytes_per_row(d)
    encoded.codec.error_bound(vectors)       worst case per coordinate; None for pq
    error_of(encoded, vectors)               what these very vectors lost

| codec           | bytes a row of d | off by at most, per coordinate               | and by |
|-----------------|------------------|----------------------------------------------|--------|
| fp32            | 4 d              | 0                                            | 0      |
| fp16            | 2 d              | 2^-11 of the value                           | 2^-25  |
| bf16            | 2 d              | 2^-8 of the value                            | 2^-134 |
| int8            | d + 4            | 1/254 of the row's largest                   | 2^-127 |
| int8-coordinate | d                | 1/254 of the coordinate's largest            | 2^-127 |
| int4            | d/2 + 4          | 1/14 of the row's largest                    | 2^-127 |
| int2            | d/4 + 4          | half a step, or what is above the last level | 2^-127 |
| binary          | d/8 + 4          | the row's mean size, or largest minus mean   | 2^-149 |
| pq, pqM         | d/4, M           | measured                                     |        |
| pqMx4           | M/2              | measured                                     |        |
| sparseK         | 4 K              | 2^-11 of the K largest; all of the others    | 2^-25  |

The last column comes on top; it is what is left where values come near zero. So does what float32
rounds on the way, 1/10,000 of the bound at most.
"""

from __future__ import annotations

import re
from typing import Any

import numpy.typing as npt

from recsys.arrays import Arrays, Float32
from recsys.errors import ConfigError
from recsys.retrieval.codecs.base import Codec, Encoded, check_matrix, encode_with, error_of
from recsys.retrieval.codecs.floats import Bf16, Fp16, Fp32
from recsys.retrieval.codecs.integers import Binary, Int2, Int4, Int8, Int8Coordinate
from recsys.retrieval.codecs.product import Product
from recsys.retrieval.codecs.sparse import Sparse

__all__ = [
    "CODECS",
    "Arrays",
    "Codec",
    "Encoded",
    "Float32",
    "check_matrix",
    "encode",
    "error_of",
    "find_codec",
]

_ALL = (
    Fp32(), Fp16(), Bf16(), Int8(), Int8Coordinate(), Int4(), Int2(), Binary(), Product()
)  # fmt: skip
CODECS: dict[str, Codec] = {codec.name: codec for codec in _ALL}
"""Every codec by name; on top come `pqM`, M parts of a byte each, `pqMx4`, of half a
byte, and `sparseK`, the K largest coordinates."""


def find_codec(name: str) -> Codec:
    """The codec of that name.

    Raises:
        ConfigError: there is none.
    """
    if match := re.fullmatch(r"pq([1-9]\d*)(x4)?", name):
        return Product(int(match[1]), 4 if match[2] else 8)
    if match := re.fullmatch(r"sparse([1-9]\d*)", name):
        return Sparse(int(match[1]))
    if name not in CODECS:
        raise ConfigError(f"codec {name!r} is not among {', '.join(CODECS)}, pqM, pqMx4, sparseK")
    return CODECS[name]


def encode(vectors: npt.NDArray[Any], codec: str) -> Encoded:
    """`[N, d]` float32 as the codec of that name stores it.

    Raises:
        ConfigError: there is no such codec.
        DataError: the vectors are not a finite matrix, or the codec cannot store them.
    """
    return encode_with(find_codec(codec), vectors)
