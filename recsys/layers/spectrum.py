"""The spectrum of interactions: leading singular vectors, and first item vectors made of such.

Shape legend: U users, N items, D coordinates.
"""

from __future__ import annotations

import functools
import operator

import numpy as np
import scipy.sparse as sp

from recsys.arrays import Float32, Float64, Int64
from recsys.data.histories import Histories
from recsys.progress import progress

PASSES = 6
"""Of the subspace iteration, where nothing else is said."""
_MORE = 32
"""Columns that the search takes beside those that are wanted."""
ROUNDING = 1e-10
"""A share of the largest square that is rounding."""
_BLOCK = 16_384
"""Rows that are float64 at a time."""
_NOTHING = 1e-6
"""Of eigenvalues and of lengths of items' vectors: the rounding of the search."""
START_BYTES = 1 << 28
"""Of the directions that a model starts from; a larger catalogue gets fewer of them."""
START_PAIRS = 10_000_000
"""Pairs of neighbours that they are made of, and rows that are enough for them."""


def normalized(had: sp.csr_matrix, user_power: float, item_power: float) -> sp.csr_matrix:
    """`[U, N]` float32: rows and columns divided by powers of their numbers of interactions.

    Args:
        had: `[U, N]` of ones, none of its rows empty.
        user_power, item_power: 1/2 and 1/2 make the largest singular value 1.
    """
    of_users = np.diff(had.indptr).astype(np.float32)
    of_items = np.maximum(np.bincount(had.indices, minlength=had.shape[1]), 1).astype(np.float32)
    left, right = sp.diags_array(of_users**-user_power), sp.diags_array(of_items**-item_power)
    return sp.csr_matrix((left @ had @ right).astype(np.float32))


def leading(
    matrix: sp.csr_matrix, dim: int, *, seed: int, passes: int = PASSES
) -> tuple[Float32, Float32]:
    """The leading right singular vectors `[N, D]` and values `[D]`, descending.

    Subspace iteration on more columns than are wanted (Halko et al., SIAM Review 2011). The signs
    are such that the largest entry of each vector, by size, is positive.

    Args:
        matrix: `[U, N]`.
        dim: D, no more than U or N.
        seed: of the first columns.
        passes: each multiplies by the matrix and by its transpose.
    """
    across = matrix.T.tocsr()
    width = min(dim + _MORE, *matrix.shape)
    drawn = np.random.default_rng(seed).standard_normal((matrix.shape[1], width))
    basis = drawn.astype(np.float32)
    with progress() as bar:
        task = bar.add_task("spectrum", total=passes)
        for _ in range(passes):
            basis = _orthonormal(across @ _orthonormal(matrix @ basis))
            bar.advance(task)
    squares, turn = np.linalg.eigh(_products(matrix @ basis))
    largest = np.argsort(-squares)[:dim]
    vectors = (basis @ turn[:, largest]).astype(np.float32)
    peaks = vectors[np.abs(vectors).argmax(axis=0), np.arange(dim)]
    values = np.sqrt(np.maximum(squares[largest], 0)).astype(np.float32)
    return vectors * np.sign(peaks), values


def _orthonormal(columns: Float32) -> Float32:
    """An orthonormal basis of `columns [N, D]`; zeros for what the others hold already.

    By products of columns, which read a tall matrix in less time than its QR does; twice, as the
    first leaves the rounding of the products (Yamamoto et al., CholeskyQR2, ETNA 2015).
    """
    for _ in range(2):
        squares, turn = np.linalg.eigh(_products(columns))
        roots = np.where(squares > squares[-1] * ROUNDING, squares, np.inf) ** -0.5
        columns = columns @ (turn * roots).astype(np.float32)
    return columns


def _products(columns: Float32) -> Float64:
    """`[D, D]` of all pairs, summed in float64 by blocks of rows."""
    total = np.zeros((columns.shape[1],) * 2)
    for first in range(0, len(columns), _BLOCK):
        block = columns[first : first + _BLOCK].astype(np.float64)
        total += block.T @ block
    return total


def neighbours_of_order(rows: Histories, num_items: int, window: int) -> sp.csr_matrix:
    """`[N, N]` float32, symmetric: how often two items stand near each other in histories.

    A pair at distance g counts 1 / g, up to `window`; an item beside itself does not count.
    """
    owners, parts = np.repeat(np.arange(len(rows)), rows.lengths), []
    for gap in range(1, window + 1):
        before, after = rows.items[:-gap], rows.items[gap:]
        near = (owners[:-gap] == owners[gap:]) & (before != after)
        share = np.full(np.count_nonzero(near), 1.0 / gap, np.float32)
        places = before[near], after[near]
        parts.append(sp.csr_matrix((share, places), shape=(num_items, num_items)))
    total = functools.reduce(operator.add, parts)
    return sp.csr_matrix(total + total.T)


def start_rows(
    rows: Histories, num_items: int, dim: int, *, seed: int, window: int = 5
) -> tuple[Int64, Float32]:
    """First vectors of items: leading directions of what stands near what, items of length 1.

    They are the eigenvectors of `D^-1/2 C D^-1/2`, of C as `neighbours_of_order` counts and D its
    row sums, each item's row divided by its length (Ng, Jordan and Weiss, On Spectral Clustering,
    NIPS 2001), here with directions weighed by their eigenvalues, so that the first coordinates say
    most. Items that no direction reaches are left out, as are those without a neighbour. With more
    than `START_PAIRS` pairs neighbours are nearer.

    Args:
        rows: what may be fitted on, about `START_PAIRS` rows at most (some may be empty).
        num_items: N.
        dim: D, directions that are wanted.
        seed: of the search.
        window: longest distance of neighbours.

    Returns:
        `[M]` items, ascending, and `[M, K]` their vectors; K is D, or less where fewer eigenvalues
        are positive, or items so many that D directions take more than `START_BYTES`. Where fewer
        than two are left, M is 0 (`why_none`): by one alone all items that are connected are alike.
    """
    nothing = np.empty(0, np.int64), np.empty((0, 0), np.float32)
    count = min(dim, num_items, _room(num_items))
    if count < 2:
        return nothing
    window = max(1, min(window, START_PAIRS // max(1, len(rows.items))))
    near = neighbours_of_order(rows, num_items, window)
    degrees = np.asarray(near.sum(axis=1)).ravel()
    roots = sp.diags_array(1.0 / np.sqrt(np.where(degrees > 0, degrees, 1.0), dtype=np.float32))
    # With ones added to it every eigenvalue is positive, so the leading ones are the largest.
    matrix = sp.csr_matrix(roots @ near @ roots + sp.eye_array(num_items, dtype=np.float32))
    vectors, values = leading(matrix, count, seed=seed)
    weights = values - 1.0
    count = int((weights > _NOTHING).sum())
    if count < 2:
        return nothing
    vectors = vectors[:, :count] * weights[:count]
    vectors[degrees == 0] = 0.0
    lengths = np.linalg.norm(vectors, axis=1)
    reached = np.flatnonzero(lengths > _NOTHING)
    return reached, vectors[reached] / lengths[reached, None]


def told_fewer(count: int, dim: int, num_items: int | None = None) -> str | None:
    """A sentence for the user, where directions are fewer than coordinates.

    Args:
        count: directions that were found.
        dim: D.
        num_items: N, where `start_rows` has found them; it may have had no room for more.
    """
    if count >= dim:
        return None
    why = "the training rows have no more"
    if num_items is not None and _room(num_items) < min(dim, num_items):
        why = f"more of {num_items:,} items take more than {START_BYTES >> 20} MiB"
    return (
        f"{count} of {dim} coordinates begin as directions of the training rows, the others with "
        f"random values (model.init): {why}"
    )


def why_none(rows: Histories, num_items: int, dim: int) -> str:
    """Why `start_rows` of the same arguments has found no item."""
    if dim < 2:
        return "vectors of one coordinate hold no two directions"
    if _room(num_items) < 2:
        return (
            f"two directions of {num_items:,} items take more than the {START_BYTES >> 20} MiB "
            "that there are for them"
        )
    if not neighbours_of_order(rows, num_items, 1).nnz:
        return (
            f"no two items stand beside each other in the {len(rows):,} histories of the training "
            "rows"
        )
    return (
        "all items that stand near each other in the training rows do so alike, so that there are "
        "no two directions"
    )


def _room(num_items: int) -> int:
    """Directions that `START_BYTES` hold, beside those that the search takes."""
    return START_BYTES // (4 * num_items) - _MORE
