"""All items that can be answered with: those of a version, those added while it serves, without
those deleted.

Items of the version have the indices 0..N-1, added ones follow.

Shape legend: B users, N items of the version, A added ones, D coordinates, K length of the lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import Float32, Int64
from recsys.data.histories import Histories
from recsys.kernels.best_places import best_places
from recsys.rankers.lists.categories import ItemCategories
from recsys.retrieval.filters import Filters, make_filters
from recsys.retrieval.funnel import Candidates, Funnel, Watch
from recsys.server.answering.added import Added
from recsys.server.answering.served import Served, histories_of

_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class Wanted:
    """What requests that share a search ask for."""

    k: int
    """Length of the lists."""
    seen: bool
    """Leave out what users have had."""
    unit: bool = False
    """By cosines, whatever the metric is."""
    order: Callable[[Candidates], Candidates] | None = None
    """A ranker: all candidates of the funnel -> the best K of them."""


class Stock:
    """The items of one moment; never changed."""

    def __init__(
        self, served: Served, added: Added | None = None, deleted: Int64 = _NONE, waiting: int = 0
    ) -> None:
        """Args:
        served: the version.
        added: items it does not hold; None: there are none.
        deleted: ascending indices of items that it holds and nobody shall get.
        waiting: how many were put that it cannot serve.
        """
        self.served, self.added, self.deleted, self.waiting = served, added, deleted, waiting
        self.num_held = served.bundle.num_items
        self._by_column: dict[str, ItemCategories] = {}

    def __len__(self) -> int:
        return self.num_held + (0 if self.added is None else len(self.added))

    def find(self, ids: Sequence[str | int]) -> Int64:
        """`[T]` indices; -1 where an id is unknown, or deleted."""
        found = self.find_had(ids)
        if len(self.deleted):
            found[np.isin(found, self.deleted)] = -1
        return found

    def find_had(self, ids: Sequence[str | int]) -> Int64:
        """The same for histories: what is deleted still tells of those who have had it."""
        found = self.served.items.find(ids)
        if self.added is not None:
            own = self.added.lookup.find(ids)
            found = np.where((found < 0) & (own >= 0), self.num_held + own, found)
        return found

    def left(self, items: Int64) -> Int64:
        """Items without those deleted."""
        return items[~np.isin(items, self.deleted)] if len(self.deleted) else items

    def ids(self, items: Int64) -> list[Any]:
        """External ids of indices."""
        if self.added is None:
            return self.served.items.ids(items)
        names = iter(self.served.items.ids(items[items < self.num_held]))
        added = self.added.names
        return [
            next(names) if item < self.num_held else added[item - self.num_held]
            for item in items.tolist()
        ]

    def rows(self, items: Int64, names: Sequence[str]) -> list[dict[str, Any]]:
        """Columns of some items, one mapping for each."""
        if self.added is None:
            return self.served.content.rows(items, names)
        held = iter(self.served.content.rows(items[items < self.num_held], names))
        own = items[items >= self.num_held] - self.num_held
        added = iter(self.added.content.rows(own, names))
        return [next(held if item < self.num_held else added) for item in items.tolist()]

    def where(self, wanted: Mapping[str, Sequence[str]]) -> Int64:
        """Ascending indices of items that have any of the values, in every column named.

        Raises:
            ConfigError: a column cannot be filtered by.
        """
        found = self.served.content.where(wanted)
        if self.added is None:
            return found
        return np.concatenate([found, self.num_held + self.added.content.where(wanted)])

    def categories(self, column: str) -> ItemCategories:
        """The categories of all items, by a column.

        Raises:
            ConfigError: there is no such column.
        """
        if column not in self._by_column:
            values = self.served.content.column(column)
            if self.added is not None:
                values = pl.concat([values, self.added.content.column(column)])
            self._by_column[column] = ItemCategories.of(values)
        return self._by_column[column]

    def titled(self, text: str, limit: int) -> Int64:
        """Items by the words of their titles, as `Content.search`; added ones are least popular."""
        found, begins = self.served.content.matching(text, limit + len(self.deleted))
        if self.added is not None:
            own, also = self.added.content.matching(text, limit)
            begins = np.concatenate([begins, also])
            order = np.argsort(~begins, kind="stable")
            found = np.concatenate([found, self.num_held + own])[order]
        return self.left(found)[:limit]

    def popular(self, allowed: Int64 | None, blocked: Int64, k: int) -> tuple[Int64, list[int]]:
        """The most popular items of those allowed, and their interactions."""
        counts = self.served.popularity
        if counts is None:
            return _NONE, []
        hidden = np.full(len(self), allowed is not None)
        if allowed is not None:
            hidden[allowed] = False
        hidden[blocked] = hidden[self.deleted] = True
        order = self.served.popular
        found = order[~hidden[order]][:k]
        more = self.num_held + np.flatnonzero(~hidden[self.num_held :])[: k - len(found)]
        return np.concatenate([found, more]), [*counts[found].tolist(), *([0] * len(more))]

    def vectors(self, items: Int64) -> Float32:
        """`[n, D]`."""
        bundle, held = self.served.bundle, items < self.num_held
        found = np.empty((len(items), bundle.dim), np.float32)
        found[held] = bundle.items.decode(items[held], 0, bundle.dim)
        if self.added is not None:
            found[~held] = self.added.vectors[items[~held] - self.num_held]
        return found

    def users(self, histories: Histories, own: bool) -> Float32:
        """`[B, D]`, or `[B, I, D]` of several interests.

        Raises:
            DataError: the bundle has no user tower.
        """
        more = None if self.added is None else self.added.vectors
        return self.served.engine.vectors(histories, own, more)

    def products(self, users: Float32, rows: Int64, items: Int64, size: int | None) -> Float32:
        """`[M]` scores of `items [M]` for the users in `rows [M]` of `users [B, D]`.

        Raises:
            GranularityError: it is none of the bundle's.
        """
        held, scores = items < self.num_held, np.empty(len(items), np.float32)
        scores[held] = self.served.engine.products(users, rows[held], items[held], size)
        if self.added is not None:
            dim, more = size or self.served.bundle.dim, ~held
            scores[more] = self.added.scores(users[rows[more]], items[more] - self.num_held, dim)
        return scores

    def search(
        self,
        funnel: Funnel,
        users: Float32,
        had: Sequence[Int64],
        allowed: Int64 | None,
        wanted: Wanted,
        watch: Watch,
    ) -> Candidates:
        """The best K by a funnel of the version and a search of what was added.

        A ranker does not know added items: they take the places that their scores have among the
        candidates, and are told with the ranker's score of the item that they come before.

        Args:
            funnel: of the version's own items.
            users: `[B, D]`.
            had: the items each user shall not get (`wanted.seen`), or may get again.
            allowed: ascending, the only items to be found; None: all.
            wanted: K, and how it is asked for.
            watch: told of each step.
        """
        k, order = wanted.k, wanted.order
        num, repeats = self.num_held, None if wanted.seen else self.served.bundle.manifest.repeats

        def filters_of(lo: int, hi: int, blocked: Int64 | None) -> Filters:
            rows = [_between(row, lo, hi) for row in had] if self.added is not None else list(had)
            part = histories_of(rows)
            among = None if allowed is None else _between(allowed, lo, hi)
            return make_filters(
                len(users), hi - lo, seen=(part.items, part.offsets), allowed=among,
                blocked=blocked, repeats=repeats,
            )  # fmt: skip

        if allowed is None or len(_between(allowed, 0, num)):
            blocked = self.deleted if len(self.deleted) else None
            among = filters_of(0, num, blocked)
            found = funnel.search(users, None if order else k, among, watch)
            best = order(found) if order else found
            if order:
                watch("ranker", found.items.size)
        else:
            last = np.full(len(users), funnel.stages[-1].granularity)
            found = best = Candidates(
                np.full((len(users), k), -1, np.int64),
                np.full((len(users), k), -np.inf, np.float32),
                last,
            )
        if self.added is None:
            return best
        widths = np.where(found.widths > 0, found.widths, funnel.stages[-1].granularity)
        own = self.added.search(
            users, k, widths, filters_of(num, len(self), None), unit=wanted.unit
        )
        watch("added", own.items.size)
        own = replace(own, items=np.where(own.items < 0, -1, own.items + num))
        if order:
            return _placed(found, best, own)
        items = np.concatenate([found.items, own.items], axis=1)
        scores = np.concatenate([found.scores, own.scores], axis=1)
        places = best_places(scores, items, k, funnel.scan.threads)
        rows = np.arange(len(users))[:, None]
        return Candidates(items[rows, places], scores[rows, places], widths)


def _placed(found: Candidates, best: Candidates, own: Candidates) -> Candidates:
    """A ranker's lists with added items, each before as many as its score has among candidates.

    Args:
        found: `[B, C]` candidates with the scores of the funnel, best first.
        best: `[B, K]` in the ranker's order.
        own: `[B, K]` added items with the scores of the funnel, best first.
    """
    k = best.items.shape[1]
    better = (found.scores[:, None, :] >= own.scores[:, :, None]).sum(axis=2)  # [B, K]
    present = np.where(best.items < 0, 2 * k, np.arange(k))
    keys = np.concatenate([np.where(own.items < 0, 2 * k, better - 0.5), present], axis=1)
    places = np.argsort(keys, axis=1, kind="stable")[:, :k]
    count = (best.items >= 0).sum(axis=1, keepdims=True)
    lent = np.take_along_axis(best.scores, np.minimum(better, np.maximum(count - 1, 0)), axis=1)
    lent = np.where(count > 0, lent, own.scores)
    items = np.concatenate([own.items, best.items], axis=1)
    scores = np.concatenate([np.where(own.items < 0, -np.inf, lent), best.scores], axis=1)
    found_items = np.take_along_axis(items, places, axis=1)
    found_scores = np.take_along_axis(scores, places, axis=1).astype(np.float32)
    return Candidates(found_items, found_scores, best.widths)


def _between(items: Int64, lo: int, hi: int) -> Int64:
    """Those of `lo..hi-1`, counted from `lo`."""
    return items[(items >= lo) & (items < hi)] - lo
