"""Rows of a tensor by index, at a granularity."""

import torch
from torch import Tensor
from torch.nn.functional import embedding

_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def lookup(weight: Tensor, rows: Tensor, size: int | None, *, sparse: bool = False) -> Tensor:
    """The first `size` coordinates of the rows requested; a short prefix reads no more than that.

    Args:
        weight: `[N, D]`.
        rows: `[...]` int64.
        size: 1..D; None: D.
        sparse: the gradient of `weight` holds the rows looked up alone.

    Returns:
        `[..., size]`.
    """
    if size is None or size == weight.shape[1]:
        return embedding(rows, weight, sparse=sparse)
    if sparse and torch.is_grad_enabled():  # the gradient of a view cannot be sparse
        return embedding(rows, weight, sparse=True)[..., :size]
    return embedding(rows, weight[:, :size])


def mix(keys: Tensor, seed: int) -> Tensor:
    """A hash of int64 keys, `[...] -> [...]` in 0 .. 2^63 - 1, another one for every seed.

    The finalizer of splitmix64 (Steele, Lea and Flood, OOPSLA 2014); products wrap around.
    """
    start = ((seed + 1) * 0x9E3779B97F4A7C15) % 2**64
    mixed = keys + (start - 2**64 if start >= 2**63 else start)
    mixed = (mixed ^ ((mixed >> 30) & (2**34 - 1))) * _FIRST
    mixed = (mixed ^ ((mixed >> 27) & (2**37 - 1))) * _SECOND
    return (mixed ^ ((mixed >> 31) & (2**33 - 1))) & (2**63 - 1)
