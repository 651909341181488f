"""A bundle as an engine: its tiers, its funnel, its user tower; nothing of torch.

Shape legend: B users, K interests of a user, N items, D coordinates, M pairs.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import polars as pl

from recsys.arrays import Float32, Int64
from recsys.data.histories import Histories, jagged_positions
from recsys.errors import ConfigError
from recsys.library.engines.engine import FunnelLister, in_pieces, unit_rows
from recsys.rankers.in_bundle import BundleRanker
from recsys.retrieval.bundle.loading import Bundle
from recsys.retrieval.bundle_funnel import open_funnel
from recsys.retrieval.interests import pair_products
from recsys.serving.user_columns import open_user_columns
from recsys.serving.user_tower import UserTower

_PAIRS = 1 << 16


class BundleEngine:
    """Ranks items for histories by what a bundle holds."""

    by_index, personal = False, True

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        """Args:
        bundle: opened.
        threads: of searches and of the user tower; None: all cores.
        """
        self.bundle, self.threads = bundle, threads
        self.num_items, self.sizes = bundle.num_items, bundle.sizes
        tower = bundle.manifest.tower
        self.reads_time: str = "none" if tower is None else tower.reads_time
        self.columns = open_user_columns(bundle)

    @cached_property
    def _tower(self) -> UserTower:
        return UserTower(self.bundle, threads=self.threads or 0)

    def own_histories(self, users: Int64) -> Histories:
        """What users `[B]` had when the bundle was exported."""
        items, offsets = self.bundle.seen
        positions, edges = jagged_positions(offsets[users], offsets[users + 1])
        times = self.bundle.seen_times
        histories = Histories(
            users, items[positions], edges, None if times is None else times[positions]
        )
        if times is not None or self.bundle.manifest.ranker is None:
            return histories
        return self.ranker.with_times(histories, positions)

    @cached_property
    def ranker(self) -> BundleRanker:
        """The bundle's.

        Raises:
            ConfigError: it has none.
        """
        return BundleRanker(self.bundle)

    def is_ranked(self, size: int | None, stages: str | None, ranker: bool | None) -> bool:
        """Whether a request is answered by the ranker; arguments as of `lister`.

        Raises:
            ConfigError: a ranker is asked for, and a granularity or stages as well.
        """
        if ranker and (size is not None or stages is not None):
            raise ConfigError(
                "a ranker orders the candidates of the funnel that it was fitted on; leave out "
                "granularity and stages, or the ranker"
            )
        if ranker is None:
            return self.bundle.manifest.ranker is not None and size is None and stages is None
        return ranker

    def lister(
        self,
        k: int,
        size: int | None,
        stages: str | None,
        allowed: Int64 | None,
        ranker: bool | None = None,
    ) -> FunnelLister:
        """See `Engine`."""
        if self.is_ranked(size, stages, ranker):
            chosen = self.ranker
            chosen.checked_k(k)
            repeats = self.bundle.manifest.repeats
            return FunnelLister(chosen.funnel(self.threads), self.vectors, allowed, repeats, chosen)
        if size is not None and stages is not None:
            raise ConfigError(
                f"granularity {size} and stages {stages!r} both say by what to rank; give one"
            )
        text = stages if size is None else str(self.bundle.check_size(size))
        routing = self.bundle.manifest.routing
        # Routing was learned for lists of one length; others are searched to the end.
        routed = routing is not None and routing.k == k
        funnel = open_funnel(self.bundle, stages=text, k=k, routed=routed, threads=self.threads)
        return FunnelLister(funnel, self.vectors, allowed, self.bundle.manifest.repeats)

    def pair_scores(
        self, histories: Histories, rows: Int64, items: Int64, size: int | None
    ) -> Float32:
        """See `Engine`; cosines are times the length of the user's prefix, as in lists (not so of
        several interests).
        """
        return self.products(self.vectors(histories, True), rows, items, size)

    def products(self, vectors: Float32, rows: Int64, items: Int64, size: int | None) -> Float32:
        """`[M]` scores of `items [M]` for the users in `rows [M]` of `vectors [B, D]`, or of
        `[B, K, D]`.
        """
        dim = self._dim(size)
        users, norms = vectors[..., :dim], self.bundle.norms(dim)
        scores = np.empty(len(rows), np.float32)
        for piece in in_pieces(len(rows), _PAIRS):
            stored = self.bundle.items.decode(items[piece], 0, dim)
            asked = users[rows[piece]]
            scores[piece] = pair_products(asked, stored, cosine=norms is not None)
        return scores if norms is None else scores / norms[items]

    def item_vectors(self, size: int | None) -> Float32:
        """See `Engine`."""
        vectors = self.bundle.items.decode(slice(None), 0, self._dim(size))
        return unit_rows(vectors) if self.bundle.normalize else vectors

    def user_vectors(self, histories: Histories, *, own: bool, size: int | None) -> Float32:
        """See `Engine`."""
        vectors = self.vectors(histories, own)[..., : self._dim(size)]
        return unit_rows(vectors) if self.bundle.normalize else vectors

    def popularity(self) -> Int64:
        """See `Engine`."""
        return self.bundle.popularity

    def item_frame(self) -> pl.DataFrame:
        """See `Engine`."""
        return self.bundle.columns

    def _dim(self, size: int | None) -> int:
        return self.bundle.dim if size is None else self.bundle.check_size(size)

    def vectors(self, histories: Histories, own: bool, more: Float32 | None = None) -> Float32:
        """`[B, D]` users as they are, not of length 1; `[B, K, D]` of K interests.

        The users' own vectors are those that were exported, unless the tower reads the time of
        requests: it makes them anew. Histories may be empty where columns are known (`added`).

        Args:
            histories: B of them.
            own: they are what the bundle knows of these users.
            more: `[A, D]` of items that it does not hold, see `UserTower.user_vectors`.

        Raises:
            DataError: the bundle has no user tower, or no users where `own`.
        """
        if own and self.reads_time != "request":
            return self.bundle.user_vectors(histories.users, self.bundle.dim)
        if histories.added is None or self.columns is None:
            return self._of_histories(histories, more)
        dim = self.bundle.dim
        users = histories.added[:, :dim] + self.columns.nobody[:dim]
        some = np.flatnonzero(histories.lengths)
        if len(some) and self.bundle.manifest.tower is not None:
            users[some] = histories.added[some, :dim]
            users[some] += self._of_histories(histories.rows(some), more)
        return users

    def _of_histories(self, histories: Histories, more: Float32 | None) -> Float32:
        return self._tower.user_vectors(
            histories.items,
            histories.offsets,
            more,
            timestamps=histories.timestamps,
            asked_at=histories.asked_at,
        )
