"""What stands behind a recommender: a model in torch, or a bundle without it.

Shape legend: B users, N items, D coordinates, K length of the lists, M pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np
import polars as pl

from recsys.arrays import Float32, Int64
from recsys.data.histories import Histories
from recsys.retrieval.filters import make_filters
from recsys.retrieval.funnel import Funnel
from recsys.serving.user_columns import ColumnUsers

_CANDIDATES = 1 << 23
"""What first stages keep of all users that are searched at once."""
_USERS = 1024

Found = tuple[Int64, Float32]
"""Items `[B, K]`, -1 behind the end, and their scores, descending."""


class Lister(Protocol):
    """A search made ready once, for any number of batches."""

    def lists(self, histories: Histories, *, own: bool, k: int, filter_seen: bool) -> Found:
        """The best k of every row, which is at least one interaction long, or has columns.

        Args:
            histories: B of them; `users` are indices, -1 of those who are unknown.
            own: they are what the engine knows of these users.
            k: K.
            filter_seen: leave out what they hold.
        """
        ...


class Engine(Protocol):
    """Ranks items for histories."""

    num_items: int
    """N."""
    sizes: tuple[int, ...]
    """Granularities; empty: there are no vectors, or they cannot be cut."""
    by_index: bool
    """Users are known by index; a history of somebody unknown says nothing."""
    personal: bool
    """Lists depend on the user."""
    reads_time: str
    """What histories must tell of time: `none`; `history`, timestamps; `request`, also when the
    next item is asked for."""
    columns: ColumnUsers | None
    """Columns that users may be told by; None: the model reads none."""

    def own_histories(self, users: Int64) -> Histories:
        """What is known of users `[B]`."""
        ...

    def lister(
        self,
        k: int,
        size: int | None,
        stages: str | None,
        allowed: Int64 | None,
        ranker: bool | None = None,
    ) -> Lister:
        """Ready to list.

        Args:
            k: K, at most.
            size: granularity; None: the full width, or the stages a bundle is made for.
            stages: `32:200,256`; None: every item is scored.
            allowed: ascending indices of the only items to be listed; None: all.
            ranker: order the candidates by the bundle's ranker; None: where there is one, and
                neither `size` nor `stages` say by what to rank.

        Raises:
            GranularityError, ConfigError: it cannot be cut there, the stages are no funnel, or
                there is no ranker.
        """
        ...

    def pair_scores(
        self, histories: Histories, rows: Int64, items: Int64, size: int | None
    ) -> Float32:
        """`[M]` scores of `items [M]` for the users in `rows [M]`, by what is known of them."""
        ...

    def item_vectors(self, size: int | None) -> Float32:
        """`[N, size]`, of length 1 where scores are cosines.

        Raises:
            ConfigError: there are none.
        """
        ...

    def user_vectors(self, histories: Histories, *, own: bool, size: int | None) -> Float32:
        """`[B, size]` likewise, `[B, K, size]` of users of K interests; arguments as of
        `Lister.lists`.
        """
        ...

    def popularity(self) -> Int64:
        """`[N]` interactions of every item."""
        ...

    def item_frame(self) -> pl.DataFrame:
        """`[N]` rows: what is told of the items, without columns where nothing is."""
        ...


class Reranker(Protocol):
    """Orders candidates anew."""

    def best(
        self, histories: Histories, vectors: Float32, candidates: Int64, k: int
    ) -> tuple[Int64, Float32]:
        """`[B, k]` items and scores of candidates `[B, K]`, best first."""
        ...


class FunnelLister:
    """Lists by the stages of a funnel, and by a ranker of what they find."""

    def __init__(
        self,
        funnel: Funnel,
        vectors: Callable[[Histories, bool], Float32],
        allowed: Int64 | None,
        repeats: Mapping[int, float],
        ranker: Reranker | None = None,
    ) -> None:
        """Args:
        funnel: opened for lists of K, or for the candidates of the ranker.
        vectors: user vectors of histories, which may be the engine's own.
        allowed: as of `Engine.lister`.
        repeats: what is added, by granularity, to scores of what a user has had.
        ranker: orders the candidates; None: they stand by their scores.
        """
        self._funnel, self._vectors, self._ranker = funnel, vectors, ranker
        self._allowed, self._repeats = allowed, repeats
        kept = max(1, min(funnel.stages[0].keep, funnel.bundle.num_items))
        self._at_once = int(np.clip(_CANDIDATES // kept, 1, _USERS))

    def lists(self, histories: Histories, *, own: bool, k: int, filter_seen: bool) -> Found:
        """See `Lister`."""
        size = (len(histories), k)
        items, scores = np.full(size, -1, np.int64), np.full(size, -np.inf, np.float32)
        for rows in in_pieces(len(histories), self._at_once):
            batch = histories.rows(rows)
            filters = make_filters(
                len(batch),
                self._funnel.bundle.num_items,
                seen=(batch.items, batch.offsets),
                allowed=self._allowed,
                repeats=None if filter_seen else self._repeats,
            )
            vectors = self._vectors(batch, own)
            if self._ranker is None:
                found = self._funnel.search(vectors, k, filters)
                items[rows], scores[rows] = found.items, found.scores
            else:
                listed = self._funnel.search(vectors, None, filters).items
                items[rows], scores[rows] = self._ranker.best(batch, vectors, listed, k)
        return items, scores


def in_pieces(count: int, size: int) -> Iterator[Int64]:
    """`0..count-1` in pieces of `size`."""
    for lo in range(0, count, size):
        yield np.arange(lo, min(lo + size, count))


def unit_rows(vectors: Float32) -> Float32:
    """Rows of length 1; those of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Float32 = (vectors / lengths.clip(1e-12)).astype(np.float32)
    return unit
