"""EASE: the closed-form linear autoencoder over items.

Reference: Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019.
Shape legend: B users of the batch, N items.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from scipy.linalg import get_lapack_funcs
from torch import Tensor

from recsys.arrays import Int64
from recsys.baselines.base import BaselineConfig, Choices
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.errors import ConfigError

_DEAR_ITEMS = 15_000
_LIMIT_GIB = 8.0
_ROWS = 1024
"""Rows of the Gram matrix that are counted at once."""


class EaseConfig(BaselineConfig):
    """One ridge regression for every item, solved by one matrix inverse."""

    name: Literal["ease"] = "ease"
    l2: float = Field(default=100.0, gt=0)
    """Strength of the regularization, lambda in the paper."""
    precision: Literal["float32", "float64"] = "float64"
    """Of the inverse; the weights are kept in float32."""
    memory_limit_gib: float | None = Field(default=None, gt=0)
    """What fitting may take (the item count decides what it would take); None: 8, or what is free
    where that is less."""

    choices: ClassVar[Choices] = {"l2": (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)}

    def takes_minutes(self, num_items: int, lengths: Int64) -> bool:
        """With more than 15,000 items."""
        return num_items > _DEAR_ITEMS

    def fit(
        self, histories: Histories, num_items: int, features: ItemFeatures | None = None
    ) -> Ease:
        """See `fit_ease`."""
        return fit_ease(self, histories, num_items)


@dataclass(frozen=True)
class Ease:
    """Score of an item: the sum of its weights from the items of the history."""

    weights: Tensor
    """`[N, N]` float32, zero diagonal."""

    def scores(self, histories: Histories) -> Tensor:
        """`[B, N]`."""
        history = histories.to_csr(len(self.weights))
        return torch.from_numpy(history @ self.weights.numpy())


def ease_obstacle(config: EaseConfig, num_items: int) -> str | None:
    """Why EASE cannot be fitted on so many items, or None."""
    needed = _fitting_bytes(config, num_items) / (1 << 30)
    limit = config.memory_limit_gib or min(_LIMIT_GIB, free_gib())
    if needed <= limit:
        return None
    return (
        f"EASE over {num_items:,} items takes {needed:.1f} GiB for matrices of items by items, "
        f"{limit:.3g} GiB are allowed; ask for it with more (recsys baselines DATA ease "
        f"ease.memory_limit_gib={ceil(needed)}), use ease.precision=float32, or drop rare items by "
        "a k-core filter"
    )


def free_gib() -> float:
    """Memory that programs may still take, where the system says so."""
    told = Path("/proc/meminfo")
    text = told.read_text() if told.is_file() else ""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.M)
    return int(found[1]) / (1 << 20) if found else float("inf")


def _fitting_bytes(config: EaseConfig, num_items: int) -> int:
    """One matrix, which is factorized and inverted in its place; of float64 a float32 copy too."""
    return num_items**2 * (12 if config.precision == "float64" else 4)


def fit_ease(config: EaseConfig, histories: Histories, num_items: int) -> Ease:
    """Inverts the regularized Gram matrix of the binary interactions (equation 8 of the paper).

    Raises:
        ConfigError: the matrices would not fit the memory limit, or are singular in this precision.
    """
    obstacle = ease_obstacle(config, num_items)
    if obstacle is not None:
        raise ConfigError(obstacle)
    matrix = _gram(histories, num_items, config.precision)
    matrix[np.diag_indices(num_items)] += config.l2
    if not _inverted(matrix):
        raise ConfigError(
            f"the Gram matrix of EASE is singular in {config.precision} with l2={config.l2:g}; "
            "use precision=float64 or a larger l2"
        )
    weights = torch.from_numpy(matrix)
    weights /= -weights.diagonal().clone()
    weights.fill_diagonal_(0)
    return Ease(weights.float())


def _inverted(matrix: npt.NDArray[np.floating]) -> bool:
    """Inverts a symmetric matrix in its place; False: it is not positive definite.

    By Cholesky it takes half the operations of any inverse.
    """
    # LAPACK counts columns first: the transpose of rows that lie one after another is its own.
    functions: Any = get_lapack_funcs(("potrf", "potri"), (matrix,))
    factorize, invert = functions
    factor, failed = factorize(matrix.T, lower=True, clean=False, overwrite_a=True)
    if failed:
        return False
    inverse, failed = invert(factor, lower=True, overwrite_c=True)
    assert np.shares_memory(inverse, matrix)
    for lo in range(0, len(matrix), _ROWS):  # LAPACK has filled one triangle
        rows = slice(lo, lo + _ROWS)
        corner = inverse[rows, rows]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T
        inverse[rows, lo + _ROWS :] = inverse[lo + _ROWS :, rows].T
    return not failed


def _gram(histories: Histories, num_items: int, precision: str) -> npt.NDArray[np.floating]:
    """How many users had both of two items, `[N, N]`, filled a few rows at a time."""
    users = histories.to_csr(num_items)
    items = users.T.tocsr()
    matrix = np.empty((num_items, num_items), precision)
    for lo in range(0, num_items, _ROWS):
        matrix[lo : lo + _ROWS] = (items[lo : lo + _ROWS] @ users).toarray()
    return matrix
