"""The spectrum of interactions: normalized by degrees, and their leading singular vectors.

Shape legend: U users, N items, D coordinates.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from recsys.arrays import Float32
from recsys.progress import progress

PASSES = 6
"""Of the subspace iteration, where nothing else is said."""
_MORE = 32
"""Columns that the search takes beside those that are wanted."""


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
            basis, _ = np.linalg.qr(across @ np.linalg.qr(matrix @ basis)[0])
            bar.advance(task)
    image = (matrix @ basis).astype(np.float64)
    squares, turn = np.linalg.eigh(image.T @ image)
    largest = np.argsort(-squares)[:dim]
    vectors = (basis @ turn[:, largest]).astype(np.float32)
    peaks = vectors[np.abs(vectors).argmax(axis=0), np.arange(dim)]
    values = np.sqrt(np.maximum(squares[largest], 0)).astype(np.float32)
    return vectors * np.sign(peaks), values
