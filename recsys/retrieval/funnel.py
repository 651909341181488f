"""The funnel: candidates from a short prefix or an index, ranked by longer prefixes.

A later stage multiplies only the coordinates the stages before have not seen, for the items they
kept: N * g_1 + keep_1 * (g_2 - g_1) + ... multiply-adds, and keep_1 * g_1 for taking the
first stage's own scores in float32.

A user may have several vectors, one for each interest: every one of them is searched, and what
they find together is ranked, at each stage, by the best of their scores.

Shape legend: B users, I interests of a user, N items, D coordinates, K requested, n kept so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recsys.arrays import Float32, Int64
from recsys.errors import ConfigError
from recsys.kernels.best_places import best_places
from recsys.kernels.row_products import add_decoded, scores_of
from recsys.retrieval.bundle.array_files import expect_reads
from recsys.retrieval.bundle.tiers import Tiers
from recsys.retrieval.checks import checked_count, checked_threads
from recsys.retrieval.filters import Filters, check_fits, make_filters, rows_of
from recsys.retrieval.interests import checked_users, interests_in, lengths_of, together
from recsys.retrieval.routing import Routing, confidence
from recsys.retrieval.scan import Scan
from recsys.retrieval.tier_products import add_products

Flags = npt.NDArray[np.bool_]

Watch = Callable[[str, int], None]
"""Called as each step of a search ends, with its name (`first`, then granularities) and the number
of candidates that it has looked at or found."""

_GATHERED = 1 << 21  # floats of item vectors to hold at once
_SCORED = 1 << 23  # scores of interests to hold at once


@dataclass(frozen=True)
class Stage:
    """A stage: the prefix that gives the scores, and the number of best items that are kept."""

    granularity: int
    keep: int


@dataclass(frozen=True)
class Candidates:
    """Items found by a search, best first, ties by item index."""

    items: Int64
    """`[B, K]`, -1 where there is nothing more."""
    scores: Float32
    """`[B, K]` descending, -inf where there is nothing more."""
    widths: Int64
    """`[B]` the granularity each row was ranked by."""


class Searchable(Protocol):
    """Items that a funnel can search: a `Bundle`, or tiers `InMemory`."""

    @property
    def items(self) -> Tiers:
        """Of the items."""
        ...

    @property
    def num_items(self) -> int:
        """N."""
        ...

    @property
    def sizes(self) -> tuple[int, ...]:
        """Granularities that can be stages."""
        ...

    def check_size(self, size: int) -> int:
        """`size`, if it can be a stage."""
        ...

    def norms(self, size: int) -> Float32 | None:
        """`[N]` norms of the stored prefixes; None where scores are dot products."""
        ...


class Finder(Protocol):
    """A first stage: finds candidates among all items."""

    @property
    def extra_bytes(self) -> int:
        """Bytes in memory beside the tiers."""
        ...

    def find(self, users: Float32, keep: int, filters: Filters) -> Int64:
        """`[B, <= keep]` items, in no order, -1 behind the end of a list."""
        ...


def parse_stages(text: str, k: int) -> tuple[Stage, ...]:
    """Reads `32:200,256`: granularity and how many go on; the last one keeps `k`.

    Raises:
        ConfigError: a stage is not of that form.
    """
    if not isinstance(text, str):
        raise ConfigError(f"stages {text!r} are not of the form 32:200,256, as text")
    *parts, last = text.split(",")
    try:
        stages = [Stage(*(int(number) for number in part.split(":", 1))) for part in parts]
        return (*stages, Stage(int(last), k))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"stages {text!r} are not of the form 32:200,256") from error


def check_stages(stages: Sequence[Stage], *, indexed: bool = False) -> None:
    """Raises ConfigError unless granularities ascend, and numbers to keep do not.

    Behind an index (`indexed`) the second granularity may be any.
    """
    if isinstance(stages, str) or not all(isinstance(stage, Stage) for stage in stages):
        raise ConfigError(f"stages {stages!r} are not a list of Stage; `parse_stages` makes one")
    if not stages:
        raise ConfigError("a funnel needs at least one stage")
    for stage in stages:
        checked_count(stage.granularity, "the granularity of a stage")
        checked_count(stage.keep, "what a stage keeps")
    for number, (stage, following) in enumerate(pairwise(stages)):
        # An index has codes of its own: what it finds is ranked from the shortest prefix on.
        grows = (indexed and number == 0) or following.granularity > stage.granularity
        if not grows or following.keep > stage.keep:
            raise ConfigError(
                f"stage {following.granularity}:{following.keep} behind "
                f"{stage.granularity}:{stage.keep}; granularities must grow and keeps must not"
                + ("" if number or indexed else "; the second may be shorter behind an index alone")
            )


class Funnel:
    """Searches a bundle in stages."""

    def __init__(
        self,
        bundle: Searchable,
        stages: Sequence[Stage],
        *,
        finder: Finder | None = None,
        routing: Routing | None = None,
        threads: int | None = None,
    ) -> None:
        """Makes the first stage ready.

        Args:
            bundle: what is searched.
            stages: from the shortest prefix to the longest; behind an index the second one may be
                as short as or shorter than the first (`256:400,64:100,256`).
            finder: the first stage; None: every item is scored (`Scan`).
            routing: lets users stop early (`routing.learn_routing`); None: nobody does.
            threads: of the first stage; None: all cores.

        Raises:
            ConfigError: the stages are not a funnel, or the routing is of another one.
            GranularityError: a stage's granularity is none of the bundle's.
        """
        check_stages(stages, indexed=finder is not None)
        self.bundle, self.stages = bundle, tuple(stages)
        norms = [bundle.norms(bundle.check_size(stage.granularity)) for stage in stages]
        self._norms = norms
        first = stages[0].granularity
        self.scan = Scan(bundle.items, first, norms[0], checked_threads(threads))
        self.finder: Finder = finder or self.scan
        self._expect_reads()
        self.routing = routing or Routing((float("inf"),) * (len(stages) - 1))
        if len(self.routing.thresholds) != len(stages) - 1:
            raise ConfigError(
                f"routing of {len(self.routing.thresholds)} stages for {len(stages) - 1} of them"
            )

    def _expect_reads(self) -> None:
        """A scan reads all of the first stage's tiers; of others the rows that are ranked."""
        scanned = self.stages[0].granularity if self.finder is self.scan else 0
        for tier in self.bundle.items.parts:
            for array in tier.vectors.rows.values():
                expect_reads(array, scattered=tier.spec.lo >= scanned)
        for norms in self._norms[1 if scanned else 0 :]:
            if norms is not None:
                expect_reads(norms, scattered=True)
        if scanned and self._norms[0] is not None:
            expect_reads(self._norms[0], scattered=False)

    def keeping(self, keeps: Sequence[int]) -> Funnel:
        """The same stages with other numbers to keep; nothing is made ready anew.

        Raises:
            ConfigError: they are not a funnel.
        """
        pairs = zip(self.stages, keeps, strict=True)
        stages = [Stage(stage.granularity, keep) for stage, keep in pairs]
        check_stages(stages, indexed=self.finder is not self.scan)
        other = copy(self)
        other.stages = tuple(stages)
        return other

    @property
    def hot_bytes(self) -> int:
        """Bytes of the items that stay in memory: tiers, factors, index."""
        tiers = sum(t.nbytes for t in self.bundle.items.parts if t.spec.residence == "ram")
        return tiers + self.finder.extra_bytes

    @property
    def cold_bytes(self) -> int:
        """Bytes of the items that are mapped from disk: tiers, and norms where there are any."""
        tiers = sum(t.nbytes for t in self.bundle.items.parts if t.spec.residence == "mmap")
        ranked = self.stages[self.finder is self.scan :]  # a scan reads all of the first: hot
        norms = [self.bundle.norms(size) for size in {stage.granularity for stage in ranked}]
        return tiers + sum(norm.nbytes for norm in norms if norm is not None)

    def multiply_adds(self, found: float | None = None, interests: int = 1) -> float:
        """For one user; `found`: those of the first stage for one vector, where that is an index.

        With several interests at most so many: what they find may be the same.
        """
        total = float(self.scan.multiply_adds if found is None else found)
        seen, kept = 0, min(self.bundle.num_items, self.stages[0].keep)
        if interests > 1:
            more = min(self.bundle.num_items, interests * kept) - kept
            total += more * self.stages[0].granularity
        ranking = self.stages
        if len(ranking) > 1 and ranking[1].granularity <= ranking[0].granularity:
            ranking = ranking[1:]
        for stage in ranking:
            total += kept * (stage.granularity - seen)
            seen, kept = stage.granularity, min(kept, stage.keep)
        return interests * total

    def search(
        self,
        users: Float32,
        k: int | None = None,
        filters: Filters | None = None,
        watch: Watch = lambda _name, _count: None,
    ) -> Candidates:
        """The best items by the last stage, of those the stages before kept.

        Args:
            users: `[B, D]` or longer, of which the prefix is read; those of a cosine model need not
                be normalized. `[B, I, D]`: of several interests each.
            k: K; None: what the last stage keeps.
            filters: of these users (`make_filters`).
            watch: told of each step.

        Raises:
            DataError: the vectors are not numbers, too short or not finite, or the filters are of
                other users or items.
            ConfigError: k is not a whole number, or more than the last stage keeps; or users of
                several interests are to stop early.
        """
        k = self._checked_k(k)
        users, filters = self._checked(users, filters)
        if users.ndim == 3:
            return self._by_interests(users, k, filters, watch)
        done: Candidates | None = None
        going, items = np.arange(len(users)), self._first(users, filters)
        items, again = _with_returning(items, filters)
        watch("first", items.size)
        sums, edge = np.zeros(items.shape, np.float32), 0
        thresholds = (*self.routing.thresholds, -np.inf)
        for stage, norms, threshold in zip(self.stages, self._norms, thresholds, strict=True):
            if threshold == np.inf and items.shape[1] <= stage.keep:
                continue  # nobody stops, nothing is left out: the next stage adds up all of it
            left = users if len(going) == len(users) else users[going]
            if stage.granularity < edge:  # behind an index
                sums, edge = np.zeros(items.shape, np.float32), 0
            self._add(left, items, sums, edge, stage.granularity)
            added = self._added(left, again, filters, stage)
            order, found = self._rank(items, sums, norms, stage, added)
            watch(str(stage.granularity), items.size)
            if stage is self.stages[-1] and len(going) == len(users):
                return _of_length(found, k)  # the usual case: nobody has stopped before
            stops = _stops(found.scores, k, threshold)
            done = done or _nothing(len(users), k)
            rows, count = going[stops], min(k, found.items.shape[1])
            done.items[rows, :count] = found.items[stops, :count]
            done.scores[rows, :count] = found.scores[stops, :count]
            done.widths[rows] = stage.granularity
            if len(rows) == len(going):
                break
            going, items, edge = going[~stops], found.items[~stops], stage.granularity
            sums = np.take_along_axis(sums, order, axis=1)[~stops]
            if again is not None:
                again = np.take_along_axis(again, order, axis=1)[~stops]
        return done or _nothing(len(users), k)

    def trace(self, users: Float32, filters: Filters | None = None) -> list[Candidates]:
        """What every stage keeps of all users, as if nobody stopped early: what routing learns of.

        Raises:
            DataError: as `search`.
        """
        users, filters = self._checked(users, filters)
        if users.ndim == 3:
            return list(self._stages_of_interests(users, filters, whole=True))
        items, again = _with_returning(self._first(users, filters), filters)
        sums, edge, stages = np.zeros(items.shape, np.float32), 0, []
        for stage, norms in zip(self.stages, self._norms, strict=True):
            if stage.granularity < edge:
                sums, edge = np.zeros(items.shape, np.float32), 0
            self._add(users, items, sums, edge, stage.granularity)
            added = self._added(users, again, filters, stage)
            order, found = self._rank(items, sums, norms, stage, added)
            stages.append(found)
            items, edge = found.items, stage.granularity
            sums = np.take_along_axis(sums, order, axis=1)
            if again is not None:
                again = np.take_along_axis(again, order, axis=1)
        return stages

    def _by_interests(self, users: Float32, k: int, filters: Filters, watch: Watch) -> Candidates:
        """As `search`, of users `[B, I, D]`."""
        if np.isfinite(self.routing.thresholds).any():
            raise ConfigError(
                "routing stops users by the scores of one vector, and these have "
                f"{users.shape[1]}; open the funnel with routed=False"
            )
        done, count = _nothing(len(users), k), interests_in(users)
        kept = min(self.stages[0].keep, self.bundle.num_items)
        at_once = max(1, _SCORED // (count * min(count * kept, self.bundle.num_items)))
        for lo in range(0, len(users), at_once):
            rows = np.arange(lo, min(lo + at_once, len(users)))
            *_, last = self._stages_of_interests(users[rows], rows_of(filters, rows), watch)
            found = _of_length(last, k)
            done.items[rows], done.scores[rows] = found.items, found.scores
            done.widths[rows] = found.widths
        return done

    def _stages_of_interests(
        self,
        users: Float32,
        filters: Filters,
        watch: Watch = lambda _name, _count: None,
        *,
        whole: bool = False,
    ) -> Iterator[Candidates]:
        """What every stage keeps of users `[B, I, D]`.

        Each of the I vectors is searched by the first stage. What they find together is one list of
        a user, whose scores are the best of I.

        Args:
            users: of at least as many coordinates as the last stage.
            filters: of these users.
            watch: told of each step.
            whole: also stages that leave nothing out.
        """
        num_users, count = users.shape[:2]
        flat, owners = users.reshape(-1, users.shape[2]), np.repeat(np.arange(num_users), count)
        items = together(self._first(flat, rows_of(filters, owners)), count)
        items, again = _with_returning(items, filters)
        watch("first", items.size)
        sums, edge = np.zeros((len(flat), items.shape[1]), np.float32), 0
        for stage, norms in zip(self.stages, self._norms, strict=True):
            if stage is not self.stages[-1] and items.shape[1] <= stage.keep and not whole:
                continue
            if stage.granularity < edge:  # behind an index
                sums, edge = np.zeros_like(sums), 0
            each = items[owners]
            self._add(flat, each, sums, edge, stage.granularity)
            scores = scores_of(sums, each, norms, self.scan.threads).reshape(num_users, count, -1)
            if norms is not None:
                scores = scores / lengths_of(users[:, :, : stage.granularity])
            best = scores.max(axis=1)
            if again is not None:
                best = np.where(again, best + np.float32(filters.added(stage.granularity)), best)
            order = best_places(best, items, stage.keep, self.scan.threads)
            watch(str(stage.granularity), items.size)
            rows = np.arange(num_users)[:, None]
            widths = np.full(num_users, stage.granularity)
            items, edge = items[rows, order], stage.granularity
            yield Candidates(items, best[rows, order], widths)
            sums = np.take_along_axis(sums, order[owners], axis=1)
            again = None if again is None else np.take_along_axis(again, order, axis=1)

    def _checked_k(self, k: int | None) -> int:
        most = self.stages[-1].keep
        if k is None:
            return most
        if isinstance(k, Filters):
            raise ConfigError(
                "the second argument of search is k, and filters were given; call "
                "search(users, filters=filters) or search(users, k, filters)"
            )
        if checked_count(k, "k") > most:
            raise ConfigError(
                f"{k} items are requested, the last stage keeps {most}; open the funnel with k={k}"
            )
        return int(k)

    def _checked(self, users: Float32, filters: Filters | None) -> tuple[Float32, Filters]:
        users = checked_users(users, self.stages[-1].granularity)
        if filters is None:
            return users, make_filters(len(users), self.bundle.num_items)
        return users, check_fits(filters, len(users), self.bundle.num_items)

    def _first(self, users: Float32, filters: Filters) -> Int64:
        """Candidates of the first stage; rows for which an index finds fewer than the last stage is
        to give are scanned.
        """
        keep = min(self.stages[0].keep, self.bundle.num_items)
        prefix = np.ascontiguousarray(users[:, : self.stages[0].granularity])
        items = self.finder.find(prefix, keep, filters)
        if self.finder is self.scan:
            return items
        wanted = min(keep, self.stages[-1].keep)
        if items.shape[1] >= wanted and (items[:, wanted - 1] >= 0).all():
            return items
        possible = np.minimum(filters.num_left(self.bundle.num_items), wanted)
        short = np.flatnonzero((items >= 0).sum(axis=1) < possible)
        if len(short):
            scanned = self.scan.find(prefix[short], keep, rows_of(filters, short))
            items = _wide(items, scanned.shape[1])
            items[short] = scanned
        return items

    def _add(self, users: Float32, items: Int64, sums: Float32, lo: int, hi: int) -> None:
        """Adds the products of the coordinates `[lo, hi)` to `sums [B, n]`."""
        for tier in self.bundle.items.parts:
            first, last = max(lo, tier.spec.lo), min(hi, tier.spec.hi)
            if first >= last:
                continue
            own = np.ascontiguousarray(users[:, first:last])
            edges = (first - tier.spec.lo, last - tier.spec.lo)
            if not add_products(tier.vectors, *edges, own, items, sums, self.scan.threads):
                self._add_decoded(own, items, sums, first, last)

    def _add_decoded(self, users: Float32, items: Int64, sums: Float32, lo: int, hi: int) -> None:
        """The same for what no kernel reads: rows are decoded first."""
        at_once = max(1, _GATHERED // max(1, items.shape[1] * (hi - lo)))
        for start in range(0, len(users), at_once):
            rows = slice(start, start + at_once)
            # Each item is read and decoded once for the users that share it, in the order of disk.
            distinct, places = np.unique(items[rows].clip(0), return_inverse=True)
            places = np.where(items[rows] < 0, -1, places.reshape(items[rows].shape))
            vectors = self.bundle.items.decode(distinct, lo, hi)
            add_decoded(vectors, users[rows], places, sums[rows], self.scan.threads)

    def _added(
        self, users: Float32, again: Flags | None, filters: Filters, stage: Stage
    ) -> Float32 | None:
        """`[B, n]` what scores of a stage gain where an item was had before; None: nothing does."""
        if again is None:
            return None
        size = stage.granularity
        gain = np.full(len(users), filters.added(size), np.float32)
        if self.bundle.norms(size) is not None:  # scores: cosines times the user's length
            gain *= np.linalg.norm(users[:, :size], axis=1)
        return np.where(again, gain[:, None], np.float32(0))

    def _rank(
        self,
        items: Int64,
        sums: Float32,
        norms: Float32 | None,
        stage: Stage,
        added: Float32 | None,
    ) -> tuple[Int64, Candidates]:
        """Places of the best that the stage keeps, and these."""
        scores = scores_of(sums, items, norms, self.scan.threads)
        if added is not None:
            scores += added
        order = best_places(scores, items, stage.keep, self.scan.threads)
        rows = np.arange(len(items))[:, None]
        widths = np.full(len(items), stage.granularity)
        return order, Candidates(items[rows, order], scores[rows, order], widths)


def _wide(items: Int64, width: int) -> Int64:
    """`[B, n]` with -1 behind, up to `width`."""
    return np.pad(items, ((0, 0), (0, max(0, width - items.shape[1]))), constant_values=-1)


def _with_returning(items: Int64, filters: Filters) -> tuple[Int64, Flags | None]:
    """Candidates `[B, n]` with those that have been had before behind them, and which these are."""
    if filters.repeats is None or not len(filters.seen):
        return items, None
    rows, had = filters.returning()
    places = np.arange(len(rows)) - np.searchsorted(rows, rows)
    more = np.full((len(items), int(places.max(initial=-1)) + 1), -1, np.int64)
    more[rows, places] = had
    both = np.concatenate([items, more], axis=1)
    return both, np.broadcast_to(np.arange(both.shape[1]) >= items.shape[1], both.shape)


def _of_length(found: Candidates, k: int) -> Candidates:
    """The first k of each list, with nothing behind shorter ones."""
    missing = k - found.items.shape[1]
    if missing == 0:
        return found
    done = _nothing(len(found.items), k)
    done.items[:, : k - max(0, missing)] = found.items[:, :k]
    done.scores[:, : k - max(0, missing)] = found.scores[:, :k]
    return replace(done, widths=found.widths)


def _nothing(num_users: int, k: int) -> Candidates:
    return Candidates(
        np.full((num_users, k), -1, np.int64),
        np.full((num_users, k), -np.inf, np.float32),
        np.zeros(num_users, np.int64),
    )


def _stops(scores: Float32, k: int, threshold: float) -> npt.NDArray[np.bool_]:
    """`[B]` whose list is final."""
    if np.isinf(threshold):  # the usual case: nobody, or at the last stage everybody
        return np.full(len(scores), threshold < 0)
    return confidence(scores, k) >= threshold
