"""One request for lists, made ready once for any number of batches of users.

Shape legend: B users, N items, K length of the lists.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import Int64
from recsys.data.histories import Histories
from recsys.errors import ConfigError, DataError
from recsys.library.asked import Asked
from recsys.library.diversity import DiverseLister, Diversity, column_of
from recsys.library.engines.engine import Engine, Found, Lister
from recsys.library.ids import Ids, id_series
from recsys.library.output import list_frame
from recsys.progress import console
from recsys.rankers.lists.categories import (
    ItemCategories,
    candidates_for,
    diversified,
    more_candidates,
)

FALLBACKS = ("popularity",)


def asked_now(histories: Histories, at: int | None = None) -> Histories:
    """The same, asked for at that second; None: now."""
    return histories.at(np.full(len(histories), int(time.time()) if at is None else at))


def seconds_of(at: object) -> int | None:
    """A moment in seconds since 1970: of a number, a datetime (UTC, if it names no zone) or text
    such as 2026-11-29T12:00; None: now.

    Raises:
        ConfigError: it is none of them.
    """
    if at is None:
        return None
    if isinstance(at, int | float | np.integer | np.floating) and not isinstance(at, bool):
        if np.isfinite(at):
            return int(at)
    else:
        try:
            if isinstance(at, str) and at.isdecimal():
                return int(at)
            found = datetime.fromisoformat(at) if isinstance(at, str) else at
            if isinstance(found, datetime):
                aware = found if found.tzinfo else found.replace(tzinfo=UTC)
                return int(aware.timestamp())
        except ValueError:
            pass
    raise ConfigError(
        f"at is {at!r}; a moment is expected: seconds since 1970, a datetime, or text such as "
        "2026-11-29T12:00:00"
    )


@dataclass(frozen=True)
class Plan:
    """What everybody who is asked for gets."""

    engine: Engine
    names: Ids
    lister: Lister
    k: int
    filter_seen: bool
    popular: Found | None
    """`[1, K]` for those without a history; None: they get nothing."""
    asked_at: int | None = None
    """When it is asked for, in seconds; None: now, to models that read it."""
    reopen: Callable[[int], tuple[Lister, Found | None]] | None = None
    """The same lister, and popular items, for lists of another length."""

    def check(self, asked: Asked) -> None:
        """Refuses histories that nothing can be said of, before anything is done.

        Raises:
            DataError: some are empty, nothing else is known of their users, and there is no
                fallback; or the model reads times that are not given.
        """
        self.check_times(asked)
        if asked.offsets is None or self.popular is not None:
            return
        empty = np.flatnonzero((np.diff(asked.offsets) == 0) & ~asked.told & ~asked.stays)
        if len(empty):
            shown = ", ".join(repr(name) for name in asked.ids.gather(pl.Series(empty[:3])))
            raise DataError(
                f"{len(empty):,} of {len(asked):,} histories hold no known item ({shown}"
                f"{', ...' * (len(empty) > 3)}); say --fallback popularity "
                "(fallback='popularity') to give them the most popular items, or leave them out"
            )

    def diverse(self, diversity: Diversity | None) -> Plan:
        """The same with lists, also of popular items, that are chosen for diversity of categories
        as well; None: as it is.

        Raises:
            ConfigError: it is no `Diversity`, the items have no such column, or the candidates
                cannot be had.
        """
        if diversity is None:
            return self
        if not isinstance(diversity, Diversity):
            raise ConfigError(
                f"diversity is {diversity!r}; recsys.Diversity(by='a column of the items') is "
                "expected"
            )
        assert self.reopen is not None  # of `make_plan`
        column = column_of(self.engine.item_frame(), diversity.by, "this model")
        count = candidates_for(self.k, self.engine.num_items)
        with more_candidates(self.k, count):
            inner, popular = self.reopen(count)
        categories, strength = ItemCategories.of(column), diversity.strength
        lister = DiverseLister(inner, categories, strength, self.engine.num_items)
        if popular is not None:
            popular = diversified(*popular, categories, strength, self.k)
        return replace(self, lister=lister, popular=popular)

    def at(self, moment: object) -> Plan:
        """The same, asked for at that moment (see `seconds_of`); None: now."""
        return replace(self, asked_at=seconds_of(moment))

    def check_times(self, asked: Asked) -> None:
        """Refuses histories without times of a model that reads them.

        Raises:
            DataError: there are none.
        """
        if self.engine.reads_time != "none" and asked.items is not None and asked.times is None:
            raise DataError(
                "this model reads when each interaction was; give the histories as a frame with "
                "the columns user_id, item_id and timestamp"
            )

    def groups(self, asked: Asked) -> list[tuple[Int64, bool]]:
        """Rows that the model can say something of, and whether it is by what it knows of these
        users itself.
        """
        known, told = asked.users >= 0, asked.told
        if asked.offsets is None:
            groups = [(known, True), (~known & told, False)]
        else:
            some, stays = np.diff(asked.offsets) > 0, asked.stays
            given = (some & known if self.engine.by_index else some) | told
            groups = [(stays, True), (given & ~stays, False)]
        found = [(np.flatnonzero(rows), own) for rows, own in groups]
        return [(rows, own) for rows, own in found if len(rows)]

    def histories(self, asked: Asked, *, own: bool) -> Histories:
        """Of rows of one of the `groups`."""
        found = self.engine.own_histories(asked.users) if own else self._given(asked)
        timed = self.engine.reads_time == "request" or self.asked_at is not None
        return asked_now(found, self.asked_at) if timed else found

    def _given(self, asked: Asked) -> Histories:
        """A history that is given is what the user is made of, also of one who is known; so are
        columns.
        """
        users = asked.users if self.engine.by_index else np.full(len(asked), -1)
        items, offsets = asked.items, asked.offsets
        if items is None or offsets is None:
            items, offsets = np.empty(0, np.int32), np.zeros(len(asked) + 1, np.int64)
        added = None
        if asked.columns is not None and self.engine.columns is not None:
            users = np.where(asked.told, -1, users)
            added = self.engine.columns.added(asked.columns)
        return Histories(users, items, offsets, asked.times, None, added)

    def frame(self, asked: Asked) -> pl.DataFrame:
        """user_id, item_id, rank and score of one batch, in its order."""
        size = (len(asked), self.k)
        items, scores = np.full(size, -1, np.int64), np.full(size, -np.inf, np.float32)
        others = np.ones(len(asked), np.bool_)
        for rows, own in self.groups(asked):
            others[rows] = False
            items[rows], scores[rows] = self.lister.lists(
                self.histories(asked.rows(rows), own=own), own=own, k=self.k,
                filter_seen=self.filter_seen,
            )  # fmt: skip
        if self.popular is not None:
            items[others], scores[others] = self.popular
        return list_frame(asked.ids, items, scores, self.names)


@dataclass(frozen=True)
class Way:
    """By what to rank."""

    granularity: int | None = None
    stages: str | None = None
    ranker: bool | None = None


def make_plan(
    engine: Engine,
    names: Ids,
    way: Way,
    *,
    k: int,
    allowed: Int64 | None,
    filter_seen: bool,
    fallback: str | None,
) -> Plan:
    """Checks a request and makes its search ready; arguments as of `Recommender.recommend`,
    with the items of `allowed_of`.

    Raises:
        ConfigError: the stages or the fallback cannot be.
        DataError: no item may be recommended.
        GranularityError: it cannot be ranked by that prefix.
    """
    if fallback is not None and fallback not in FALLBACKS:
        raise ConfigError(f"fallback {fallback!r} is not among {FALLBACKS}; leave it out for none")

    def opened(count: int) -> tuple[Lister, Found | None]:
        lister = engine.lister(count, way.granularity, way.stages, allowed, way.ranker)
        if fallback is None:
            return lister, None
        return lister, _most_popular(engine.popularity(), allowed, count)

    lister, popular = opened(k)
    return Plan(engine, names, lister, k, filter_seen, popular, reopen=opened)


def allowed_of(names: Ids, allow: Any, block: Any) -> Int64 | None:
    """Ascending indices of the items that may be recommended; None: all."""
    if allow is None and block is None:
        return None
    kept = np.arange(len(names)) if allow is None else _found(names, allow, "allowed items")
    kept = (
        np.unique(kept)
        if block is None
        else np.setdiff1d(kept, _found(names, block, "blocked items"))
    )
    if not len(kept):
        raise DataError(
            f"no item of the {len(names):,} that are known is left to be recommended by what is "
            "allowed and blocked; allow some, or block fewer"
        )
    return kept


def _found(names: Ids, ids: Any, what: str) -> Int64:
    given = id_series(_column(ids, what), what)
    found = names.find(given)
    lost = given.filter(pl.Series(found < 0))
    if len(lost):
        shown = ", ".join(repr(name) for name in lost.head(3))
        console.print(
            f"{len(lost):,} of {len(given):,} {what} are unknown ({shown}): they do nothing",
            style="yellow", markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    return found[found >= 0]


def _column(ids: Any, what: str) -> Any:
    """The column item_id of a frame; anything else as it is."""
    if not hasattr(ids, "columns") or isinstance(ids, pl.Series):
        return ids
    if "item_id" not in ids.columns:
        raise DataError(
            f"{what} have no column item_id; found {', '.join(map(str, ids.columns))}: rename one"
        )
    return ids["item_id"]


def checked_items(names: Ids, ids: Any, what: str) -> Int64:
    """Indices of item ids.

    Raises:
        DataError: one is unknown.
    """
    given = id_series(_column(ids, what), what)
    found = names.find(given)
    lost = given.filter(pl.Series(found < 0))
    if len(lost):
        shown = ", ".join(repr(name) for name in lost.head(3))
        raise DataError(
            f"{len(lost):,} of {len(given):,} {what} are unknown ({shown}); those of the data set "
            "are known (`model.items`)"
        )
    return found


def _most_popular(counts: Int64, allowed: Int64 | None, k: int) -> Found:
    """`[1, K]` items by their interactions, equals by index."""
    places = np.arange(len(counts)) if allowed is None else allowed
    best = places[np.lexsort((places, -counts[places]))[:k]]
    items, scores = np.full((1, k), -1, np.int64), np.full((1, k), -np.inf, np.float32)
    items[0, : len(best)], scores[0, : len(best)] = best, counts[best]
    return items, scores
