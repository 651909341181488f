"""Precomputed user and item vectors as a model.

Shape legend: N items, D coordinates, U all users of the data set, K interests of a user.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.data.dataset import Dataset
from recsys.data.histories import Histories
from recsys.devices import to_indices
from recsys.evaluation.ranking.make_scorer import MAX_USERS
from recsys.granularity import Granularities
from recsys.model_protocols import VectorModel, interests_of
from recsys.progress import progress


@dataclass(frozen=True)
class FixedVectors:
    """A `VectorModel` with given vectors; users are known by index, not by history."""

    items: Tensor
    """`[N, D]`."""
    users: Tensor
    """`[U, D]` or `[U, K, D]`; rows of users that are never asked for may hold anything."""
    granularities: Granularities

    @property
    def num_interests(self) -> int:
        """K."""
        return self.users.shape[1] if self.users.dim() == 3 else 1

    def item_vectors(self) -> Tensor:
        """`[N, D]`."""
        return self.items

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]` or `[B, K, D]`."""
        return self.users[to_indices(histories.users, self.users.device)]


def freeze_users(model: VectorModel, dataset: Dataset, histories: Histories) -> Tensor:
    """`[U, D]` float32: a vector for the user of each non-empty history, zero for the others;
    `[U, K, D]` of a model of K interests.

    Memory: 4 * U * K * D bytes.
    """
    items, count = model.item_vectors(), interests_of(model)
    each = (items.shape[1],) if count == 1 else (count, items.shape[1])
    users = torch.zeros(dataset.num_users, *each, device=items.device)
    # Neighbours in length: no row of a batch is padded far.
    order = np.argsort(histories.lengths, kind="stable")
    order = order[histories.lengths[order] > 0]
    with torch.inference_mode(), progress() as bar:
        task = bar.add_task("user vectors", total=len(order))
        for start in range(0, len(order), MAX_USERS):
            batch = histories.rows(order[start : start + MAX_USERS])
            users[to_indices(batch.users, users.device)] = model.user_vectors(batch).float()
            bar.advance(task, len(batch))
    return users
