"""Answers to many requests at once: one look-up of ids, one run of the user tower, one search for
all that can share it.

Shape legend: B requests, N items, D coordinates, K length of the lists.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.errors import DataError, RecsysError
from recsys.rankers.lists.categories import candidates_for, diversified, more_candidates
from recsys.retrieval.funnel import Candidates, Funnel
from recsys.server.answering.served import Served, histories_of, no_times, no_tower
from recsys.server.answering.stock import Stock, Wanted
from recsys.server.settings import Limits
from recsys.server.web.schemas import (
    Narrowing,
    Person,
    RecommendRequest,
    ScoreRequest,
    SimilarRequest,
)

_CANDIDATES = 1 << 22
"""What first stages keep of all requests that are searched at once."""
_NONE = np.empty(0, np.int64)
Answer = dict[str, Any] | RecsysError
"""What is sent, or what was wrong with a request."""
Told = Callable[[str, float, int], None]
"""Takes a step's name, its seconds and how many candidates (or rows) it has looked at."""


@dataclass
class _Row:
    """One request on its way."""

    request: Any
    source: str
    history: Int64 = field(default_factory=lambda: _NONE)
    times: Int64 = field(default_factory=lambda: _NONE)
    columns: dict[str, Any] | None = None
    user: int = -1
    vector: Float32 | None = None
    ranked: bool = False
    allowed: Int64 | None = None
    blocked: Int64 = field(default_factory=lambda: _NONE)
    unknown: list[str | int] = field(default_factory=list)
    found: Int64 = field(default_factory=lambda: _NONE)
    scores: Any = field(default_factory=list)
    seconds: float = 0.0
    together: int = 1
    error: RecsysError | None = None


class Answering:
    """Answers by one version of a bundle."""

    def __init__(self, stock: Stock, limits: Limits, told: Told) -> None:
        """Args:
        stock: the items of the version.
        limits: of the operator.
        told: takes the time of each step.
        """
        self.stock, self.served = stock, stock.served
        self.limits, self.told = limits, told

    def recommend(self, requests: Sequence[RecommendRequest]) -> list[Answer]:
        """Lists for histories and users."""
        rows = self._people(requests)
        self._narrow(rows)
        groups: dict[Hashable, list[_Row]] = defaultdict(list)
        for row in rows:
            if row.error is None and row.source == "popularity":
                self._popular(row)
            elif row.error is None:
                self._choose(row)
                if row.error is None:
                    key = self._key(row, row.request.filter_seen), row.request.diversity
                    groups[key, _told_of(row) if row.ranked else None].append(row)
        for group in groups.values():
            seen = group[0].request.filter_seen
            if group[0].ranked:
                self._search(group, self._ranked_funnel, seen=seen)
            else:
                self._search(group, self.served.funnel, seen=seen)
        return [self._list(row) for row in rows]

    def similar(self, requests: Sequence[SimilarRequest]) -> list[Answer]:
        """Lists of items like an item."""
        places = self.stock.find([request.item for request in requests])
        rows = [_Row(request, "item") for request in requests]
        self._narrow(rows)
        groups: dict[Hashable, list[_Row]] = defaultdict(list)
        for row, place in zip(rows, places, strict=True):
            if place < 0:
                row.unknown.insert(0, row.request.item)
            else:
                row.history = np.array([place])
                groups[self._key(row, True)].append(row)
        for group in groups.values():
            items = np.concatenate([row.history for row in group])
            for row, vector in zip(group, self.stock.vectors(items), strict=True):
                row.vector = vector
            self._search(group, self.served.similar_funnel, seen=True, unit=True)
        return [self._list(row) for row in rows]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Answer]:
        """Scores of given items."""
        rows = self._people(requests)
        groups: dict[int | None, list[_Row]] = defaultdict(list)
        for row in rows:
            row.found = self.stock.find(row.request.items)
            row.scores = [None] * len(row.found)
            row.unknown += _lost(row.request.items, row.found)
            if row.error is None and row.source != "popularity":
                groups[row.request.granularity].append(row)
        for size, group in groups.items():
            try:
                self._vectors(group)
                vectors = np.stack([row.vector for row in group])  # type: ignore[misc]
                owners = np.repeat(np.arange(len(group)), [len(row.found) for row in group])
                places = np.concatenate([row.found for row in group])
                known, scores = places >= 0, np.full(len(places), np.nan, np.float32)
                scores[known] = self.stock.products(vectors, owners[known], places[known], size)
                for number, row in enumerate(group):
                    own = scores[owners == number].tolist()
                    row.scores = [None if score != score else score for score in own]
            except RecsysError as error:
                for row in group:
                    row.error = error
        return [self._scored(row) for row in rows]

    def _people(self, requests: Sequence[Person]) -> list[_Row]:
        """Looks up histories and users."""
        start = time.perf_counter()
        flat = [item for request in requests for item in request.history or ()]
        found = self.stock.find_had(flat)
        named = [request.user for request in requests if request.user is not None]
        users = iter(self.served.users.find(named).tolist())
        rows, edge = [], 0
        for request in requests:
            if request.user is not None:
                user = next(users)
                row = _Row(request, "user" if user >= 0 else "popularity", user=user)
                row.unknown = [] if user >= 0 else [request.user]
                if user >= 0:
                    row.history, row.times = _own_history(self.served, user)
            else:
                own = found[edge : edge + len(request.history or ())]
                edge += len(own)
                row = _Row(request, "history", own[own >= 0])
                if request.times is not None:
                    row.times = np.array(request.times, np.int64)[own >= 0]
                row.unknown = _lost(request.history or (), own)
                if not len(row.history):
                    row.source = "popularity"
            if row.source != "user":
                self._tell_columns(row)
            if row.source == "history":
                self._check_history(row)
            rows.append(row)
        self.told("ids", time.perf_counter() - start, len(flat) + len(named))
        return rows

    def _tell_columns(self, row: _Row) -> None:
        """Takes what a request tells of a user whom the bundle does not know."""
        given, columns = row.request.user_columns, self.served.engine.columns
        if given is None:
            return
        try:
            if columns is None:
                raise DataError(f"{self.served.version} reads no columns of users; leave them out")
            row.columns = columns.row(given, "the user")
        except RecsysError as error:
            row.error = error
            return
        told = any(each is not None for each in row.columns.values())
        if told and (row.source == "popularity" or not self.served.has_tower):
            row.source = "columns"

    def _check_history(self, row: _Row) -> None:
        """Refuses a history that this bundle cannot read."""
        if not self.served.has_tower:
            row.error = row.error or no_tower(self.served)
        elif self.served.reads_time != "none" and row.request.times is None:
            row.error = row.error or no_times(self.served)

    def _narrow(self, rows: Sequence[_Row]) -> None:
        """Looks up what is allowed, blocked and told."""
        items, content = self.stock, self.served.content
        for row in rows:
            request: Narrowing = row.request
            try:
                content.check(request.columns)
                if request.where:
                    row.allowed = items.where(request.where)
                if request.allow is not None:
                    found = items.find(request.allow)
                    row.unknown += _lost(request.allow, found)
                    own = np.unique(found[found >= 0])
                    row.allowed = own if row.allowed is None else np.intersect1d(row.allowed, own)
                if request.block:
                    found = items.find(request.block)
                    row.unknown += _lost(request.block, found)
                    row.blocked = np.unique(found[found >= 0])
            except RecsysError as error:
                row.error = error

    def _key(self, row: _Row, seen: bool) -> Hashable:
        """What requests must have in common to be searched together."""
        request = row.request
        if len(row.blocked) and not seen:  # else it is hidden with what was seen
            every = np.arange(len(self.stock)) if row.allowed is None else row.allowed
            row.allowed, row.blocked = np.setdiff1d(every, row.blocked), _NONE
        allowed = None if row.allowed is None else row.allowed.tobytes()
        return request.k, request.granularity, request.stages, seen, allowed

    def _choose(self, row: _Row) -> None:
        """Whether the ranker answers a request."""
        request: RecommendRequest = row.request
        try:
            row.ranked = self.served.engine.is_ranked(
                request.granularity, request.stages, request.ranker
            )
        except RecsysError as error:
            row.error = error

    def _ranked_funnel(
        self, k: int, _size: int | None, _stages: str | None, limits: Limits
    ) -> Funnel:
        return self.served.ranked_funnel(k, limits)

    def _vectors(self, group: Sequence[_Row]) -> None:
        """User vectors of histories by the tower, of users as stored, of columns."""
        start = time.perf_counter()
        for source, own in (("history", False), ("columns", False), ("user", True)):
            rows = [row for row in group if row.source == source]
            if rows:
                users = np.array([row.user for row in rows])
                items, times = [row.history for row in rows], [row.times for row in rows]
                timed = self.served.reads_time != "none"
                histories = histories_of(items, users, times if timed else None, _moments(rows))
                histories = replace(histories, added=None if own else self._added(rows))
                for row, vector in zip(rows, self.stock.users(histories, own), strict=True):
                    row.vector = vector
        self.told("users", time.perf_counter() - start, len(group))

    def _added(self, rows: Sequence[_Row]) -> Float32 | None:
        """`[B, D]` what columns add to user vectors; None: no request tells any."""
        columns = self.served.engine.columns
        if columns is None or all(row.columns is None for row in rows):
            return None
        return columns.added(columns.table([row.columns or {} for row in rows]))

    def _search(
        self,
        group: list[_Row],
        open_funnel: Callable[[int, int | None, str | None, Limits], Funnel],
        *,
        seen: bool,
        unit: bool = False,
    ) -> None:
        """Fills the lists of requests that can share a search."""
        request, start = group[0].request, time.perf_counter()
        try:
            wanted, limits = self._counted(request)
            with more_candidates(request.k, wanted):
                funnel = open_funnel(wanted, request.granularity, request.stages, limits)
            if group[0].vector is None:
                self._vectors(group)
            if group[0].allowed is None or len(group[0].allowed):
                kept = max(1, min(funnel.stages[0].keep, len(self.served.items)))
                at_once = int(np.clip(_CANDIDATES // kept, 1, 1024))
                for lo in range(0, len(group), at_once):
                    part, order = group[lo : lo + at_once], None
                    if group[0].ranked:
                        order = partial(self._ranked, part, wanted)
                    self._piece(part, funnel, Wanted(wanted, seen, unit, order))
        except RecsysError as error:
            for row in group:
                row.error = error
        seconds = time.perf_counter() - start
        for row in group:
            row.seconds, row.together = seconds, len(group)

    def _counted(self, request: Any) -> tuple[int, Limits]:
        """How many items are searched for, and the limits that allow it.

        Raises:
            ConfigError: the list is longer than the operator allows.
        """
        diversity = getattr(request, "diversity", None)
        if diversity is None or request.k > self.limits.k:  # which the funnel refuses
            return request.k, self.limits
        self.stock.categories(diversity.by)
        count = candidates_for(request.k, len(self.stock))
        return count, self.limits.model_copy(update={"k": max(count, self.limits.k)})

    def _piece(self, group: list[_Row], funnel: Funnel, wanted: Wanted) -> None:
        vectors = np.stack([row.vector for row in group])  # type: ignore[misc]
        if wanted.unit:
            last = vectors[:, : funnel.stages[-1].granularity]
            vectors = vectors / np.linalg.norm(last, axis=1, keepdims=True).clip(1e-12)
        had = [np.concatenate([row.history, row.blocked]) for row in group]
        last_told = [time.perf_counter()]

        def watch(step: str, candidates: int) -> None:
            now = time.perf_counter()
            self.told(step, now - last_told[0], candidates)
            last_told[0] = now

        found = self.stock.search(funnel, vectors, had, group[0].allowed, wanted, watch)
        request = group[0].request
        if (diversity := getattr(request, "diversity", None)) is not None:
            categories = self.stock.categories(diversity.by)
            chosen = diversified(
                found.items, found.scores, categories, diversity.strength, request.k
            )
            found = replace(found, items=chosen[0], scores=chosen[1])
            watch("diversity", found.items.size)
        counts = (found.items >= 0).sum(axis=1)
        for row, items, scores, count in zip(group, found.items, found.scores, counts, strict=True):
            row.found, row.scores = items[:count], scores[:count].tolist()

    def _ranked(self, group: list[_Row], k: int, found: Candidates) -> Candidates:
        """The first k of the ranker's order."""
        vectors = np.stack([row.vector for row in group])  # type: ignore[misc]
        users = np.array([row.user for row in group])
        if group[0].source == "user":
            histories = self.served.engine.own_histories(users)  # with times, where they are known
        else:  # the ranker knows nothing of items that were added since
            held = [row.history < self.stock.num_held for row in group]
            lists = [row.history[kept] for row, kept in zip(group, held, strict=True)]
            timed = group[0].request.times is not None
            times = [row.times[kept] for row, kept in zip(group, held, strict=True) if timed]
            histories = histories_of(lists, users, times if timed else None)
        if self.served.reads_time == "request" or group[0].request.at is not None:
            histories = histories.at(_moments(group))
        items, scores = self.served.engine.ranker.best(histories, vectors, found.items, k)
        return replace(found, items=items, scores=scores)

    def _popular(self, row: _Row) -> None:
        """The most popular items that the request may get, chosen for diversity where that is asked
        for.
        """
        k, diversity = row.request.k, row.request.diversity
        try:
            categories = None if diversity is None else self.stock.categories(diversity.by)
        except RecsysError as error:
            row.error = error
            return
        count = k if categories is None else candidates_for(k, len(self.stock))
        items, counts = self.stock.popular(row.allowed, row.blocked, count)
        if categories is not None and len(items):
            scores = np.array(counts, np.float32)
            own = dict(zip(items.tolist(), counts, strict=True))
            chosen, _ = diversified(
                items[None], scores[None], categories, diversity.strength, min(k, len(items))
            )
            items, counts = chosen[0], [own[item] for item in chosen[0].tolist()]
        row.found, row.scores = items, counts

    def _list(self, row: _Row) -> Answer:
        if row.error is not None:
            return row.error
        told = self.stock.rows(row.found, row.request.columns)
        columns = [{"columns": each} for each in told] if row.request.columns else told
        names = self.stock.ids(row.found)
        listed = enumerate(zip(names, row.scores, columns, strict=True), 1)
        return {
            "version": self.served.version,
            "source": row.source,
            "ranked": row.ranked and row.error is None,
            "items": [
                {"item_id": name, "rank": rank, "score": score, **more}
                for rank, (name, score, more) in listed
            ],
            "unknown": list(dict.fromkeys(row.unknown)),
            "search_ms": round(row.seconds * 1e3, 3),
            "together": row.together,
        }

    def _scored(self, row: _Row) -> Answer:
        if row.error is not None:
            return row.error
        pairs = zip(row.request.items, row.scores, strict=True)
        return {
            "version": self.served.version,
            "source": "none" if row.source == "popularity" else row.source,
            "items": [{"item_id": item, "score": score} for item, score in pairs],
            "unknown": list(dict.fromkeys(row.unknown)),
        }


def _told_of(row: _Row) -> Hashable:
    """What those who are ranked together must all be told of, or none of them."""
    return row.source, row.request.at is None, row.request.times is None


def _moments(rows: Sequence[_Row]) -> Int64:
    """`[B]` when each is asked for, in seconds; now, where nobody says."""
    now = int(time.time())
    asked = [row.request.at for row in rows]
    return np.array([now if at is None else at for at in asked], np.int64)


def _own_history(served: Served, user: int) -> tuple[Int64, Int64]:
    """Items and, where the bundle has them, their times."""
    items, offsets = served.bundle.seen
    own, times = slice(offsets[user], offsets[user + 1]), served.bundle.seen_times
    found = np.asarray(items[own], np.int64)
    return found, _NONE if times is None else np.asarray(times[own], np.int64)


def _lost(ids: Sequence[str | int], found: Int64) -> list[str | int]:
    return [each for each, place in zip(ids, found.tolist(), strict=True) if place < 0]
