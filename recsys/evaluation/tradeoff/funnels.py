"""Measurement of funnels end to end: quality, bytes, work and time.

Quality is taken against the held-out truth and against exact search at full width, for the same
users; what a funnel keeps of that has its paired interval. Work is counted while the users are
searched; bytes are those of what is held.

Shape legend: B users, I interests of a user, N items, D coordinates, K length of the lists.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recsys.arrays import Float32, Float64, Int64
from recsys.errors import ConfigError, DataError, GranularityError
from recsys.evaluation.bootstrap import paired_difference
from recsys.evaluation.metrics import ndcg, ranks_in, recall
from recsys.evaluation.tradeoff.sweep import (
    SCAN,
    Cascade,
    Point,
    Queries,
    Sweep,
    Tradeoff,
    mark_best,
    stages_of,
    tiers_of,
)
from recsys.progress import progress
from recsys.retrieval.bundle.tiers import TierSpec
from recsys.retrieval.bundle.unwritten_tiers import InMemory
from recsys.retrieval.codecs.registry import find_codec
from recsys.retrieval.filters import Filters, rows_of
from recsys.retrieval.funnel import Funnel, Stage
from recsys.retrieval.index.building import build_index, tune_index
from recsys.retrieval.index.kinds import Index, parse_kind, recall_of
from recsys.retrieval.interests import interests_in
from recsys.retrieval.routing import overlaps

_SINGLES = 15
_TURNS = 3
_COUNTED = 1024


@dataclass(frozen=True)
class _Finding:
    """A first stage that finds candidates."""

    items: InMemory
    granularity: int
    codec: str
    kind: str
    index: Index | None
    users: Float32 | None = None
    """`[Q, D]` whom the index is tuned by, for every funnel anew."""


@dataclass(frozen=True)
class _Found:
    """The lists of all users."""

    items: Int64
    """`[B, K]`."""
    ranks: Int64 | None
    """`[M]` of what they are to find, as the evaluator ranks; None: there is no truth."""


@dataclass
class _Counting:
    """An index that counts its incomplete lists; the funnel scans every item for those users."""

    index: Index
    num_items: int
    least: int
    """What the last stage is to give."""
    short: int = 0
    """Of searched vectors: a user of several interests is as many."""

    @property
    def extra_bytes(self) -> int:
        return self.index.extra_bytes

    def find(self, users: Float32, keep: int, filters: Filters) -> Int64:
        items = self.index.find(users, keep, filters)
        possible = np.minimum(filters.num_left(self.num_items), min(keep, self.least))
        self.short += int(((items >= 0).sum(axis=1) < possible).sum())
        return items


def measure(
    vectors: Float32,
    sizes: Sequence[int],
    normalize: bool,
    queries: Queries,
    sweep: Sweep,
    *,
    tuned_by: Queries | None = None,
    k: int = 10,
    threads: int | None = None,
) -> Tradeoff:
    """Measures every funnel of a sweep.

    Args:
        vectors: `[N, D]` items.
        sizes: the granularities, the last one D.
        normalize: scores are divided by the norms of the items' prefixes.
        queries: users, what they have seen, and what they are to find.
        sweep: the funnels.
        tuned_by: users whose vectors indexes are tuned with; None: those of `queries`.
        k: K.
        threads: of the searches; None: all cores.

    Raises:
        ConfigError, GranularityError: the sweep names something unknown.
        DataError: exact search finds nothing.
    """
    _check(sweep, sizes, k)
    one = _Measuring(vectors, sizes, normalize, queries, sweep, k, threads)
    points = []
    with progress() as bar:
        task = bar.add_task("trade-off", total=_count(sweep, len(vectors), sizes))
        for finding in _candidates(vectors, sizes, normalize, tuned_by or queries, sweep, threads):
            for point in one.points(finding):
                points.append(point)
                bar.advance(task)
    best = tuple(mark_best(points))
    return Tradeoff(best, one.first, k, len(vectors), len(queries), tuple(sizes))


def measure_tiers(
    vectors: Float32,
    sizes: Sequence[int],
    normalize: bool,
    queries: Queries,
    layouts: Sequence[Sequence[TierSpec]],
    keep: int,
    *,
    k: int = 10,
    threads: int | None = None,
) -> Tradeoff:
    """Measures funnels over given tiers: those in memory are scanned, all of them rank.

    Args:
        vectors: `[N, D]` items.
        sizes: the granularities, the last one D.
        normalize: scores are divided by the norms of the items' prefixes.
        queries: users, what they have seen, and what they are to find.
        layouts: tiers of all D coordinates, those in memory first.
        keep: candidates that are ranked.
        k: K.
        threads: of the searches; None: all cores.

    Raises:
        DataError: exact search finds nothing.
    """
    hot = [max(tier.hi for tier in tiers if tier.residence == "ram") for tiers in layouts]
    sizes = sorted({*sizes, *hot})
    sweep = Sweep(granularities=tuple(hot), keeps=(keep,), rankings=(sizes[-1],))
    one = _Measuring(vectors, sizes, normalize, queries, sweep, k, threads)
    points: list[Point] = []
    for tiers, size in zip(layouts, hot, strict=True):
        items = InMemory(vectors, tiers, sizes, normalize=normalize)
        codecs = "+".join(tier.codec for tier in tiers if tier.residence == "ram")
        points += one.points(_Finding(items, size, codecs, SCAN, None))
    return Tradeoff(tuple(points), one.first, k, len(vectors), len(queries), tuple(sizes))


class _Measuring:
    """The users of a sweep and their exact results, with which funnels are compared."""

    def __init__(
        self,
        vectors: Float32,
        sizes: Sequence[int],
        normalize: bool,
        queries: Queries,
        sweep: Sweep,
        k: int,
        threads: int | None,
    ) -> None:
        """Searches exactly; arguments as of `measure`."""
        self.queries, self.sweep, self.sizes = queries, sweep, tuple(sizes)
        self.k, self.threads = min(k, len(vectors)), threads
        whole = TierSpec(0, sizes[-1], "fp32", "ram")
        items = InMemory(vectors, [whole], sizes, normalize=normalize)
        one_more = min(self.k + 1, len(vectors))
        funnel = Funnel(items, [Stage(sizes[-1], one_more)], threads=threads)
        exact = _search(funnel, queries, self.k)
        self.lists = exact.items
        self.own: Float64 | None = None
        finding = _Finding(items, sizes[-1], "fp32", SCAN, None)
        point = self._point(funnel, finding, exact, 0.0)
        # Every item scored once: the funnel's count holds the scores of the lists twice.
        work = float(interests_in(queries.users) * items.num_items * sizes[-1])
        self.first = replace(point, multiply_adds=work, work_share=1.0, surely=1.0)
        self.own = self._per_user(exact)
        if not self.own.any():
            raise DataError(
                f"exact search finds no target of these {len(queries):,} users among its first "
                f"{self.k}, so nothing can be kept of it; measure more users, or train longer"
            )

    def points(self, finding: _Finding) -> Iterator[Point]:
        """Every funnel of the sweep that begins with these candidates."""
        num_items = finding.items.num_items
        start = dict(finding.index.search) if finding.index else {}
        for keep in sorted({min(keep, num_items) for keep in self.sweep.keeps}):
            for ranking, cascade in _rankings(
                self.sweep, finding.granularity, self.sizes, finding.kind
            ):
                stages = stages_of(finding.granularity, keep, ranking, cascade, self.sizes, self.k)
                stages[-1] = Stage(ranking, min(self.k + 1, stages[-2].keep))
                if finding.index is not None and finding.users is not None:
                    finding.index.search.update(start)
                    tune_index(
                        finding.items, finding.index, stages, self.sweep.index_recall, finding.users
                    )
                counting = finding.index and _Counting(finding.index, num_items, stages[-1].keep)
                funnel = Funnel(finding.items, stages, finder=counting, threads=self.threads)
                found = _search(funnel, self.queries, self.k)
                asked = len(self.queries) * interests_in(self.queries.users)
                short = counting.short / asked if counting else 0.0
                point = self._point(funnel, finding, found, short)
                yield replace(
                    point, cascade=cascade, cold_bytes=point.cold_bytes - self._unread(stages)
                )

    def _unread(self, stages: Sequence[Stage]) -> int:
        """Bytes of one item's coordinates that are never ranked by: no export would write them."""
        first, last, dim = stages[0].granularity, stages[-1].granularity, self.sizes[-1]
        of = find_codec(self.sweep.ranking_codec).bytes_per_row
        return of(dim - first) - of(last - first) if last < dim else 0

    def _point(self, funnel: Funnel, finding: _Finding, found: _Found, short: float) -> Point:
        first, last = funnel.stages[0], funnel.stages[-1]
        num_items, dim = finding.items.num_items, self.sizes[-1]
        hot = funnel.hot_bytes / num_items
        visited = _visited(finding.index, first, self.queries)
        if visited is not None:
            visited += short * funnel.scan.multiply_adds
        interests = interests_in(self.queries.users)
        work = funnel.multiply_adds(visited, interests)
        if self.queries.filters.repeats is not None:  # scored beside what the first stage finds
            again = len(self.queries.filters.returning()[0]) / len(self.queries)
            work += interests * again * first.granularity
        single, batch = _milliseconds(funnel, self.queries)
        values = self._per_user(found)
        own = values if self.own is None else self.own
        beside = paired_difference(own, values)
        worse = paired_difference(np.append(own, 1.0), np.append(values, 0.0))
        banded = not np.isnan(beside.ratio_low)
        return Point(
            granularity=first.granularity,
            codec=finding.codec,
            index=finding.kind,
            keep=first.keep,
            ranking=last.granularity,
            cascade="direct",
            recall=self._mean(recall, found),
            ndcg=self._mean(ndcg, found),
            kept=beside.ratio,
            overlap=recall_of(found.items, self.lists),
            hot_bytes=hot,
            cold_bytes=funnel.cold_bytes / num_items,
            multiply_adds=work,
            hot_share=hot / (4 * dim),
            work_share=work / (interests * num_items * dim),
            ms_single=single,
            ms_batch=batch,
            kept_low=beside.ratio_low if banded else None,
            kept_high=beside.ratio_high if banded else None,
            surely=worse.ratio_low if banded else 0.0,
        )

    def _per_user(self, found: _Found) -> Float64:
        """`[B]` what is compared with exact search: ndcg; without truth, the overlap."""
        values = self._values(ndcg, found)
        return overlaps(found.items, self.lists) if values is None else values

    def _mean(self, metric: Callable[..., Float64], found: _Found) -> float | None:
        values = self._values(metric, found)
        return None if values is None else float(values.mean())

    def _values(self, metric: Callable[..., Float64], found: _Found) -> Float64 | None:
        """`[B]` values of a metric at K; None: there is no truth."""
        if found.ranks is None:
            return None
        return metric(found.ranks, self.queries.offsets, (self.k,))[:, 0]


def _check(sweep: Sweep, sizes: Sequence[int], k: int) -> None:
    for size in (*sweep.granularities, *sweep.rankings):
        if size not in sizes:
            raise GranularityError(f"granularity {size} is not among {tuple(sizes)}")
    for codec in (*sweep.codecs, sweep.ranking_codec):
        find_codec(codec)
    for kind in sweep.indexes:
        if kind != SCAN:
            for size in sweep.granularities:
                parse_kind(kind, size)
    if min(sweep.keeps) < k:
        raise ConfigError(f"{min(sweep.keeps)} candidates cannot give lists of {k}; keep more")


def _rankings(
    sweep: Sweep, size: int, sizes: Sequence[int], kind: str
) -> list[tuple[int, Cascade]]:
    """What candidates by `size` are ranked by, and how; nothing twice."""
    ways: dict[tuple[object, ...], tuple[int, Cascade]] = {}
    # What an index finds by codes of all coordinates is ranked by these very coordinates.
    least = size + 1 if kind == SCAN else size
    for ranking in sweep.rankings:
        for cascade in sweep.cascades if ranking >= least else ():
            stages = stages_of(size, 1 << 20, ranking, cascade, sizes, 1)
            ways.setdefault(tuple(stages), (ranking, cascade))
    return list(ways.values())


def _count(sweep: Sweep, num_items: int, sizes: Sequence[int]) -> int:
    ways = sum(
        len(_rankings(sweep, size, sizes, kind))
        for size in sweep.granularities
        for kind in sweep.indexes
    )
    keeps = len({min(keep, num_items) for keep in sweep.keeps})
    return ways * keeps * len(sweep.codecs)


def _candidates(
    vectors: Float32,
    sizes: Sequence[int],
    normalize: bool,
    queries: Queries,
    sweep: Sweep,
    threads: int | None,
) -> Iterator[_Finding]:
    """Every way to find candidates."""
    for size in sweep.granularities:
        for codec in sweep.codecs:
            for kind in sweep.indexes:
                # With an index the tier is read for the kept items alone: it need not be hot.
                tiers = tiers_of(size, sizes[-1], codec, sweep.ranking_codec, kind)
                items = InMemory(vectors, tiers, sizes, normalize=normalize)
                index, users = None, None
                if kind != SCAN:
                    index = build_index(items, kind, size, threads=threads)
                    users = _vectors(queries.spread(500).users)
                yield _Finding(items, size, codec, kind, index, users)


def _vectors(users: Float32) -> Float32:
    """`[B, D]` users, `[B * I, D]` of `[B, I, D]`: what an index is asked for."""
    return users.reshape(-1, users.shape[-1])


def _visited(index: Index | None, first: Stage, queries: Queries) -> float | None:
    """Multiply-adds of an index for one vector, counted while some are searched; None: no index.

    As many items are asked for as the search asks for: those to keep, and as many as the longest
    history of the batch holds.
    """
    if index is None:
        return None
    some = queries.spread(_COUNTED)
    total = 0.0
    for users, filters in some.batches():
        prefix = np.ascontiguousarray(_vectors(users)[:, : first.granularity])
        asked = first.keep + int(np.diff(filters.offsets).max(initial=0))
        total += len(users) * index.multiply_adds(prefix, asked)
    return total / len(some)


def _search(funnel: Funnel, queries: Queries, k: int) -> _Found:
    """All users, with one item more than K where the last stage keeps so many: it may be a tie."""
    parts = [funnel.search(users, None, filters) for users, filters in queries.batches()]
    items = np.concatenate([part.items for part in parts])
    if queries.targets is None or queries.offsets is None:
        return _Found(items[:, :k], None)
    scores = np.concatenate([part.scores for part in parts])
    return _Found(items[:, :k], ranks_in(items, scores, queries.targets, queries.offsets, k))


def _milliseconds(funnel: Funnel, queries: Queries) -> tuple[float, float]:
    """Per user: one at a time, and in a batch."""
    users, filters = next(queries.batches())
    rows = range(min(_SINGLES, len(users)))
    alone = [(users[[row]], rows_of(filters, np.array([row]))) for row in rows]

    def median(pieces: Sequence[tuple[Float32, Filters]]) -> float:
        times = []
        for piece in pieces:
            started = time.perf_counter()
            funnel.search(piece[0], None, piece[1])
            times.append(time.perf_counter() - started)
        return 1e3 * statistics.median(times)

    return median(alone), median([(users, filters)] * _TURNS) / len(users)
