"""Linear reductions to fewer coordinates: PCA, SVD of scores, random projection.

Each gives item vectors `[N, d]` and a map `[D, d]` for user vectors, so that
`(users @ map) @ items.T` stands for `users @ original_items.T`. The coordinates come in the order
of their worth: a prefix of the result is the result for fewer coordinates.

Items are centred first (not for the random projection). A user's scores then all move by one
number, so at full rank every ranking stays what it was, and no coordinate is spent on what all
items share. Scores are dot products; a model of cosines hands in items of unit length. Of a user of
several vectors the scores of each would be moved by a number of its own, so that another one would
win: for them items are left where they are (`centred=False`).

Shape legend: U users, N items, D coordinates given, d coordinates kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_RIDGE = 1e-6
"""Share of the mean variance that is added to each direction no fitted user has looked in."""


@dataclass(frozen=True)
class Reduction:
    """Vectors with their most important coordinates first."""

    items: Tensor
    """`[N, d]` float32."""
    user_map: Tensor
    """`[D, d]` float32; user vectors are multiplied by it from the right."""


def pca(items: Tensor, *, centred: bool = True) -> Reduction:
    """Principal components of `items [N, D]`: the best prefixes for reconstructing the items.

    (Pearson 1901.) Returns all D; cut where you like.
    """
    values = _values(items, centred)
    _, directions = torch.linalg.eigh(values.T @ values)
    basis = directions.flip(1)  # eigh is ascending
    return Reduction((values @ basis).float(), basis.float())


def score_svd(items: Tensor, users: Tensor, *, centred: bool = True) -> Reduction:
    """SVD of the scores `users @ items.T`: the best prefixes for the scores of these users.

    By Eckart and Young (1936) no other linear map to d coordinates comes nearer to these scores.

    Args:
        items: `[N, D]`.
        users: `[U, D]` of the rows the model was fitted on; not of those it is measured on.
        centred: whether items may be centred.
    """
    values, seen = _values(items, centred), users.double()
    moments = seen.T @ seen / max(1, len(seen))
    ridge = _RIDGE * moments.diagonal().mean().clamp_min(1e-12)
    root = torch.linalg.cholesky(moments + ridge * torch.eye(len(moments), dtype=torch.float64))
    weighted = values @ root
    _, directions = torch.linalg.eigh(weighted.T @ weighted)
    basis = directions.flip(1)
    user_map = torch.linalg.solve_triangular(root.T, basis, upper=True)
    return Reduction((weighted @ basis).float(), user_map.float())


def random_projection(items: Tensor, seed: int) -> Reduction:
    """A random rotation of `items [N, D]`; its prefixes are random subspaces.

    Orthogonal rather than Gaussian columns (Johnson and Lindenstrauss, 1984), so that the error
    vanishes at full rank.
    """
    dim = items.shape[1]
    noise = torch.randn(
        dim, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    rotation, triangle = torch.linalg.qr(noise)
    rotation = rotation * triangle.diagonal().sign()  # uniform among rotations, not LAPACK's taste
    return Reduction((items.double() @ rotation).float(), rotation.float())


def _values(items: Tensor, centred: bool) -> Tensor:
    values = items.double()
    return values - values.mean(0) if centred else values
