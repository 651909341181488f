"""Validation rows that belong together: one end of what a user had, along the line it lies on.

What comes later is like itself and less like what was before: another town, another hobby. Where
the order of rows is lost, the items themselves tell some of it. They are placed by the leading
directions of the graph of who had what, and a user's items lie along the line on which his own
places vary most. One end of it is held out, blurred, as years mix.

Shape legend: T rows, U users, N items, K directions.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from recsys.arrays import Float32, Float64, Int64
from recsys.layers.spectrum import leading, normalized

_DIRECTIONS = 64
"""Leading directions that place an item; the first, by which all are alike, is left out."""
_BLUR = 0.25
"""Standard deviation of what is added to a place along the line, of which the whole is 1. Chosen by
`benchmarks.held_out`: it makes Gowalla's validation part about as unlike the rest as its test part.
"""
_ROUNDS = 12
"""Of the power iteration that finds the line of each user."""
_BLOCK = 1 << 20
"""Rows that are looked at together, at least."""


def places_along_lines(owners: Int64, items: Int64, random: np.random.Generator) -> Float64:
    """`[T]` where each row is on its user's line, from a random end: about 0 to 1, blurred.

    Args:
        owners: `[T]` user of each row, ascending.
        items: `[T]` item indices.
        random: draws the ends and the blur.
    """
    if not len(items):
        return np.empty(0)
    counts = np.bincount(owners)
    vectors = _placed(owners, items)
    found = random.normal(scale=_BLUR, size=len(items))
    begins = np.concatenate([[0], np.cumsum(counts)])
    cuts = np.unique(np.searchsorted(begins, np.arange(0, len(items), _BLOCK)))
    for low, high in zip(cuts, [*cuts[1:], len(counts)], strict=True):
        rows = slice(begins[low], begins[high])
        found[rows] += _ranks(vectors[items[rows]], counts[low:high], random)
    return found


def _placed(owners: Int64, items: Int64) -> Float32:
    """`[N, K]` of length 1."""
    users = np.unique(owners, return_inverse=True)[1]
    ones = np.ones(len(items), np.float32)
    had = sp.csr_matrix((ones, (users, items)))
    had.data[:] = 1.0  # an item that somebody had twice counts once
    wanted = min(_DIRECTIONS, *had.shape)
    vectors, values = leading(normalized(had, 0.5, 0.5), wanted, seed=0)
    vectors = (vectors * values)[:, 1:]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    placed: Float32 = np.divide(vectors, lengths, where=lengths > 0, out=np.zeros_like(vectors))
    return placed


def _ranks(vectors: Float32, counts: Int64, random: np.random.Generator) -> Float64:
    """`[T]` ranks of rows, at `[T, K]`, along the line of their user, over his number of rows."""
    users = np.arange(len(counts))
    owners = np.repeat(users, counts)
    ones = np.ones(len(owners), np.float32)
    sums = sp.csr_matrix((ones, (owners, np.arange(len(owners)))), (len(counts), len(owners)))
    means = (sums @ vectors) / np.maximum(counts, 1)[:, None]
    around = vectors - means[owners]
    line = random.normal(size=means.shape).astype(np.float32)
    for _ in range(_ROUNDS):
        along = np.einsum("tk,tk->t", around, line[owners])
        line = sums @ (around * along[:, None])
        line /= np.maximum(np.linalg.norm(line, axis=1, keepdims=True), 1e-12)
    along = np.einsum("tk,tk->t", around, line[owners])
    along *= np.where(random.random(len(counts)) < 0.5, 1.0, -1.0)[owners]
    order = np.lexsort((along, owners))
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    ranks = np.empty(len(owners))
    ranks[order] = np.arange(len(owners)) - starts
    found: Float64 = (ranks + 0.5) / counts[owners]
    return found
