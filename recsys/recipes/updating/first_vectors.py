"""First vectors of new items and users, from what stands near them in histories.

Shape legend: N items, U users, D embedding_dim, S items (or users) that start.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.arrays import Float32, Int64
from recsys.data.dataset import Dataset
from recsys.data.histories import select
from recsys.data.splitting import Split
from recsys.models import Model
from recsys.tables import DenseTable
from recsys.towers.items import ItemTower

_BLOCK = 1 << 20
"""Rows read at once, about (histories are not cut)."""


@dataclass(frozen=True)
class Started:
    """How many start from what."""

    content: int = 0
    """Items with content: their vectors are made of it."""
    neighbours: int = 0
    """Items that start as the mean of items near them in histories."""
    shared: int = 0
    """Items whose rows are shared with others by a hash."""
    random: int = 0
    """Items with neither: small random numbers."""
    solved: int = 0
    """Items of a model that a solver fits: their vectors are made of the rows."""
    users: int = 0
    """Users with a row of their own, who start as the mean of the items they have had."""


@dataclass(frozen=True)
class Trained:
    """What the parent has trained, and what the new rows are fitted on."""

    items: npt.NDArray[np.bool_]
    """`[N]`: items that the parent was fitted on."""
    users: npt.NDArray[np.bool_]
    """`[U]` likewise."""
    end: Int64
    """`[U]` where the rows end that may be fitted on now."""


def start_vectors(
    model: Model, dataset: Dataset, split: Split, trained: Trained, *, window: int
) -> Started:
    """Gives items and users that the parent has not trained their first vectors, in place.

    Args:
        model: with the parent's weights.
        dataset: the new data.
        split: of it.
        trained: what the parent knows.
        window: places before and after an item in a history that are its neighbours; 0: none.
    """
    new = np.flatnonzero(~trained.items)
    table = getattr(model, "table", None)
    if model.config.solved:
        return Started(solved=len(new))
    users = _start_users(model, dataset, split, trained)
    if isinstance(table, ItemTower) or hasattr(model, "projection"):
        return Started(content=len(new), users=users)
    if not isinstance(table, DenseTable):
        return Started(shared=len(new), users=users)
    if not len(new) or not window:
        return Started(random=len(new), users=users)
    near = _near(dataset, split, trained, new, window)
    found = _means(near, table.weight.detach(), trained.items)
    got = np.flatnonzero(found.any(1))
    with torch.no_grad():
        table.weight[torch.from_numpy(new[got])] = torch.from_numpy(found[got])
    return Started(neighbours=len(got), random=len(new) - len(got), users=users)


def _near(
    dataset: Dataset, split: Split, trained: Trained, new: Int64, window: int
) -> sp.csr_matrix:
    """`[S, N]`: how often each trained item is a neighbour, nearer ones counting more."""
    place = np.full(dataset.num_items, -1)
    place[new] = np.arange(len(new))
    shape = (len(new), dataset.num_items)
    none = np.empty(0, np.int64)
    total = sp.csr_matrix((np.empty(0, np.float32), (none, none)), shape=shape)
    part = split.start // _BLOCK
    edges = np.flatnonzero(np.diff(part, prepend=-1, append=-1))
    for lo, hi in itertools.pairwise(edges):
        users = np.arange(lo, hi)
        rows = select(dataset, users, split.start[users], trained.end[users])
        owners, items = np.repeat(users, rows.lengths), rows.items
        for distance in range(1, window + 1):
            same = owners[distance:] == owners[:-distance]
            for one, other in (
                (items[distance:][same], items[:-distance][same]),
                (items[:-distance][same], items[distance:][same]),
            ):
                asked = (place[one] >= 0) & trained.items[other]
                weights = np.full(int(asked.sum()), 1 / distance, np.float32)
                pairs = (place[one[asked]], other[asked])
                total = total + sp.csr_matrix((weights, pairs), shape=shape)
    return total


def _means(weights: sp.csr_matrix, rows: Tensor, known: npt.NDArray[np.bool_]) -> Float32:
    """`[S, D]` means of rows, as long as rows that are known are on average; 0 where of none."""
    vectors = rows.numpy()
    sums = weights @ vectors
    usual = float(np.linalg.norm(vectors[known], axis=1).mean()) if known.any() else 0.0
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    found: Float32 = np.where(lengths > 0, sums * (usual / np.maximum(lengths, 1e-12)), 0.0)
    return found.astype(np.float32)


def _start_users(model: Model, dataset: Dataset, split: Split, trained: Trained) -> int:
    """Rows of users whom the parent has not trained, of a model that has such rows."""
    table = getattr(model, "user_table", None)
    if not isinstance(table, DenseTable):
        return 0
    users = np.flatnonzero(~trained.users & (trained.end > split.start))
    if not len(users):
        return 0
    had = select(dataset, users, split.start[users], trained.end[users])
    matrix = sp.csr_matrix(
        (np.ones(len(had.items), np.float32), had.items, had.offsets),
        shape=(len(users), dataset.num_items),
    )
    with torch.no_grad():
        items = model.item_vectors().detach()
        lengths = table.weight[torch.from_numpy(trained.users)].norm(dim=1).mean()
        means = torch.from_numpy(_means(matrix, items, np.ones(len(items), np.bool_)))
        scaled = torch.nn.functional.normalize(means, dim=1) * lengths
        table.weight[torch.from_numpy(users)] = scaled
    return len(users)
