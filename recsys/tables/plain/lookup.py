"""Rows of a tensor by index, at a granularity."""

import torch
from torch import Tensor
from torch.nn.functional import embedding

from recsys.devices import is_host

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


def distinct(rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Each row once, ascending, and where each of the rows requested stands among them.

    On a device their number is not asked for, as the host would wait for it: there are as many as
    were requested, and those beyond the distinct ones repeat the last.

    Args:
        rows: `[...]` int64, B in all.

    Returns:
        Distinct rows `[U]`, places `[...]` among them, and which of them do not repeat the last,
        `[U]` bool; None: all of them. On a device U = B.
    """
    flat = rows.reshape(-1)
    if is_host(rows.device) or not len(flat):
        found, places = flat.unique(return_inverse=True)
        return found, places.view(rows.shape), None
    ordered, order = flat.sort()
    number = torch.zeros_like(ordered)
    number[1:] = (ordered[1:] != ordered[:-1]).cumsum(0)
    places = torch.empty_like(flat).scatter_(0, order, number)
    found = ordered[-1:].repeat(len(flat)).scatter_(0, number, ordered)
    real = torch.arange(len(flat), device=rows.device) <= number[-1]
    return found, places.view(rows.shape), real


def mix(keys: Tensor, seed: int) -> Tensor:
    """A hash of int64 keys, `[...] -> [...]` in 0 .. 2^63 - 1, another one for every seed.

    The finalizer of splitmix64 (Steele, Lea and Flood, OOPSLA 2014); products wrap around.
    """
    start = ((seed + 1) * 0x9E3779B97F4A7C15) % 2**64
    mixed = keys + (start - 2**64 if start >= 2**63 else start)
    mixed = (mixed ^ ((mixed >> 30) & (2**34 - 1))) * _FIRST
    mixed = (mixed ^ ((mixed >> 27) & (2**37 - 1))) * _SECOND
    return (mixed ^ ((mixed >> 31) & (2**33 - 1))) & (2**63 - 1)
