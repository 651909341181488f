"""A bundle as a model that the evaluator can rank: what its tiers hold, users by its tower.

Shape legend: B users, K interests of a user, N items, D coordinates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recsys.data.histories import Histories
from recsys.granularity import Granularities
from recsys.retrieval.bundle.loading import Bundle
from recsys.serving.user_tower import UserTower


class BundleModel:
    """A VectorModel."""

    def __init__(self, bundle: Bundle) -> None:
        """Decodes the items.

        Raises:
            DataError: the bundle has no user tower.
        """
        sizes = bundle.sizes
        self.granularities = Granularities(sizes=sizes, normalize=bundle.normalize)
        self._tower = UserTower(bundle)
        self._items = torch.from_numpy(bundle.items.decode(slice(None), 0, bundle.dim))
        self._repeats = bundle.manifest.repeats
        self.num_interests = bundle.interests

    def item_vectors(self) -> Tensor:
        """`[N, D]`."""
        return self._items

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]` or `[B, K, D]`."""
        users = self._tower.user_vectors(
            histories.items,
            histories.offsets,
            timestamps=histories.timestamps,
            asked_at=histories.asked_at,
        )
        return torch.from_numpy(users)

    @property
    def reads_time(self) -> str:
        """As of its tower."""
        return self._tower.reads_time

    def score_of_repeats(self, sizes: tuple[int, ...]) -> Tensor | None:
        """`[G]` added to scores of what users have had; None: nothing."""
        if not self._repeats:
            return None
        return torch.tensor([self._repeats.get(size, 0.0) for size in sizes])
