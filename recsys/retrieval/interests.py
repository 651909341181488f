"""Users of several vectors: each of their interests is searched, the best score counts.

User vectors are `[B, D]`, or `[B, K, D]` of a model that gives K vectors of each user; what takes
both looks at the number of dimensions. Where scores are cosines, the prefix of each of K vectors
is divided by its own length (of one vector it is not: that would change no order).

Shape legend: B users, K interests of a user, D coordinates, M pairs, n items of a row.
"""

from __future__ import annotations

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.retrieval.checks import checked_vectors


def shape_of_users(num_users: int, interests: int, dim: int) -> tuple[int, ...]:
    """`[B, D]`, or `[B, K, D]` with more than one interest."""
    return (num_users, dim) if interests == 1 else (num_users, interests, dim)


def interests_in(users: Float32) -> int:
    """K of `[B, K, D]`; 1 of `[B, D]`."""
    return users.shape[1] if users.ndim == 3 else 1


def checked_users(users: object, dim: int) -> Float32:
    """`[B, dim]` or `[B, K, dim]` float32, the first coordinates of users.

    Raises:
        DataError: no numbers, another shape, or a value that is not finite in float32.
    """
    if getattr(users, "ndim", 2) != 3:
        return checked_vectors(users, dim, "user vectors")
    given = np.asarray(users)
    flat = checked_vectors(given.reshape(-1, given.shape[2]), dim, "user vectors")
    return flat.reshape(*given.shape[:2], dim)


def lengths_of(users: Float32) -> Float32:
    """`[B, K, 1]` of users `[B, K, d]`, never 0."""
    lengths: Float32 = np.linalg.norm(users, axis=-1, keepdims=True).clip(1e-12)
    return lengths


def pair_products(users: Float32, stored: Float32, *, cosine: bool) -> Float32:
    """`[M]` products of items `stored [M, d]` and users `[M, d]`; of `[M, K, d]`, the largest.

    With `cosine` the K vectors are taken of length 1. Items are taken as they are.
    """
    if users.ndim == 2:
        one: Float32 = np.einsum("md,md->m", users, stored)
        return one
    products = np.einsum("mkd,md->mk", users, stored)
    if cosine:
        products = products / lengths_of(users)[:, :, 0]
    best: Float32 = products.max(axis=1)
    return best


def together(items: Int64, interests: int) -> Int64:
    """`[B, <= K * n]` distinct items that the interests of a user found, `items [B * K, n]`; -1
    behind them.
    """
    rows = -np.sort(-items.reshape(len(items) // interests, -1), axis=1)  # -1 comes last
    rows[:, 1:][rows[:, 1:] == rows[:, :-1]] = -1
    rows = -np.sort(-rows, axis=1)
    longest = int((rows >= 0).sum(axis=1).max(initial=0))
    return np.ascontiguousarray(rows[:, :longest])
