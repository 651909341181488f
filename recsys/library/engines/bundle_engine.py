"""A bundle as an engine: its tiers, its funnel, its user tower; nothing of torch.

Shape legend: B users, N items, D coordinates, M pairs.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.data.histories import Histories, jagged_positions
from recsys.errors import ConfigError
from recsys.library.engines.engine import FunnelLister, in_pieces, unit_rows
from recsys.retrieval.bundle.loading import Bundle
from recsys.retrieval.bundle_funnel import open_funnel
from recsys.serving.user_tower import UserTower

_PAIRS = 1 << 16


class BundleEngine:
    """Ranks items for histories by what a bundle holds."""

    by_index, personal = False, True

    def __init__(self, bundle: Bundle) -> None:
        """Of an opened bundle."""
        self.bundle = bundle
        self.num_items, self.sizes = bundle.num_items, bundle.sizes

    @cached_property
    def _tower(self) -> UserTower:
        return UserTower(self.bundle)

    def own_histories(self, users: Int64) -> Histories:
        """What users `[B]` had when the bundle was exported."""
        items, offsets = self.bundle.seen
        positions, edges = jagged_positions(offsets[users], offsets[users + 1])
        return Histories(users, items[positions], edges)

    def lister(
        self, k: int, size: int | None, stages: str | None, allowed: Int64 | None
    ) -> FunnelLister:
        """See `Engine`."""
        if size is not None and stages is not None:
            raise ConfigError(
                f"granularity {size} and stages {stages!r} both say by what to rank; give one"
            )
        text = stages if size is None else str(self.bundle.check_size(size))
        routing = self.bundle.manifest.routing
        # Routing was learned for lists of one length; others are searched to the end.
        routed = routing is not None and routing.k == k
        funnel = open_funnel(self.bundle, stages=text, k=k, routed=routed)
        return FunnelLister(funnel, self._vectors, allowed, self.bundle.manifest.repeats)

    def pair_scores(
        self, histories: Histories, rows: Int64, items: Int64, size: int | None
    ) -> Float32:
        """See `Engine`; cosines are times the length of the user's prefix, as in lists."""
        dim = self._dim(size)
        users, norms = self._vectors(histories, True)[:, :dim], self.bundle.norms(dim)
        scores = np.empty(len(rows), np.float32)
        for piece in in_pieces(len(rows), _PAIRS):
            vectors = self.bundle.items.decode(items[piece], 0, dim)
            scores[piece] = np.einsum("md,md->m", users[rows[piece]], vectors)
        return scores if norms is None else scores / norms[items]

    def item_vectors(self, size: int | None) -> Float32:
        """See `Engine`."""
        vectors = self.bundle.items.decode(slice(None), 0, self._dim(size))
        return unit_rows(vectors) if self.bundle.normalize else vectors

    def user_vectors(self, histories: Histories, *, own: bool, size: int | None) -> Float32:
        """See `Engine`."""
        vectors = self._vectors(histories, own)[:, : self._dim(size)]
        return unit_rows(vectors) if self.bundle.normalize else vectors

    def popularity(self) -> Int64:
        """See `Engine`; of the users that were exported."""
        return np.bincount(self.bundle.seen[0], minlength=self.num_items)

    def _dim(self, size: int | None) -> int:
        return self.bundle.dim if size is None else self.bundle.check_size(size)

    def _vectors(self, histories: Histories, own: bool) -> Float32:
        if own:
            return self.bundle.users.decode(histories.users, 0, self.bundle.dim)
        return self._tower.user_vectors(histories.items, histories.offsets)
