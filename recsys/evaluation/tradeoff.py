"""What each byte and each multiplication buys: funnels of every kind, measured end to end.

A point is one funnel: candidates by a prefix under a codec, by scanning or by an index, some of
them kept and ranked by a longer prefix. Its quality is taken against the held-out truth and against
exact search at full width, for the same users.

Shape legend: B users, N items, D coordinates, K length of the lists.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recsys.config import StrictModel
from recsys.data.dataset import Int64
from recsys.errors import ConfigError, GranularityError
from recsys.evaluation.metrics import MISS, ndcg, recall
from recsys.progress import progress
from recsys.retrieval.codecs import Float32, find_codec
from recsys.retrieval.filters import Filters, rows_of
from recsys.retrieval.funnel import Funnel, Stage
from recsys.retrieval.index import Index, check_kind, recall_of
from recsys.retrieval.indexing import make_index
from recsys.retrieval.memory import InMemory
from recsys.retrieval.tiers import TierSpec

SCAN = "scan"
_BATCH = 256
_SINGLES = 5
_TURNS = 3


class Sweep(StrictModel):
    """Which funnels are measured: all combinations."""

    granularities: tuple[int, ...]
    """Of the candidates."""
    codecs: tuple[str, ...] = ("fp16", "int8", "int4")
    """Of the candidates' tier."""
    indexes: tuple[str, ...] = (SCAN, "ivf,sq8")
    """`scan`, or an index over the candidates' prefix."""
    keeps: tuple[int, ...] = (50, 100, 200, 500)
    """How many candidates are ranked."""
    rankings: tuple[int, ...]
    """Granularities of the ranking."""
    ranking_codec: str = "fp16"
    """Of the coordinates behind the candidates' tier."""
    index_recall: float = 0.99
    """What indexes are tuned to: share of the exact first 100 candidates."""


@dataclass(frozen=True)
class Queries:
    """Whom the funnels are measured with."""

    users: Float32
    """`[B, D]`."""
    filters: Filters
    targets: Int64 | None
    """Items to be found, jagged; None: quality is taken against exact search alone."""
    offsets: Int64 | None
    """`[B + 1]`."""

    def __len__(self) -> int:
        return len(self.users)

    def batches(self) -> Iterator[tuple[Float32, Filters]]:
        """Users and their filters, in pieces."""
        for lo in range(0, len(self), _BATCH):
            rows = np.arange(lo, min(lo + _BATCH, len(self)))
            yield self.users[rows], rows_of(self.filters, rows)


@dataclass(frozen=True)
class Point:
    """One funnel and what it reaches."""

    granularity: int
    codec: str
    index: str
    keep: int
    ranking: int
    recall: float | None
    """recall@k against the truth; None: there is none."""
    ndcg: float | None
    """ndcg@k against the truth."""
    kept: float
    """ndcg@k over that of exact search; without truth, `overlap`."""
    overlap: float
    """Share of the exact first k that was found."""
    hot_bytes: float
    """Per item, in memory."""
    cold_bytes: float
    """Per item, mapped from disk."""
    multiply_adds: float
    """Per user."""
    ms_single: float
    """One user at a time, median."""
    ms_batch: float
    """Per user in batches of 256, median."""
    best: bool = False
    """No other point keeps as much with fewer bytes and multiplications."""


@dataclass(frozen=True)
class Tradeoff:
    """All points of a sweep, and the exact search they stand beside."""

    points: tuple[Point, ...]
    exact: Point
    """Full width in float32, every item scored."""
    k: int
    num_items: int
    num_users: int


def measure(
    vectors: Float32,
    sizes: Sequence[int],
    normalize: bool,
    queries: Queries,
    sweep: Sweep,
    *,
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
        k: K.
        threads: of the searches; None: all cores.

    Raises:
        ConfigError, GranularityError: the sweep names something unknown.
    """
    _check(sweep, sizes, k)
    dim = sizes[-1]
    whole = InMemory(vectors, [TierSpec(0, dim, "fp32", "ram")], sizes, normalize=normalize)
    keep = min(k, len(vectors))
    reference = Funnel(whole, [Stage(dim, keep)], threads=threads)
    exact = _lists(reference, queries, k)
    quality = _quality(exact, exact, queries, k, None)
    ndcg_of_exact = quality["ndcg"]
    first = _point(reference, queries, ("fp32", SCAN), None, quality)
    points = []
    with progress() as bar:
        task = bar.add_task("trade-off", total=_count(sweep, len(vectors)))
        for items, label, index in _candidates(vectors, sizes, normalize, queries, sweep, threads):
            for stages in _stages(sweep, items, label[0], k):
                funnel = Funnel(items, stages, finder=index, threads=threads)
                quality = _quality(_lists(funnel, queries, k), exact, queries, k, ndcg_of_exact)
                # Coordinates that are never ranked by would not be exported.
                ranked = stages[-1].granularity - label[0]
                behind = _bytes(sweep, dim - label[0]) - _bytes(sweep, ranked)
                point = _point(funnel, queries, label[1:], index, quality)
                points.append(replace(point, cold_bytes=point.cold_bytes - behind))
                bar.advance(task)
    counts = {"k": k, "num_items": len(vectors), "num_users": len(queries)}
    return Tradeoff(tuple(mark_best(points)), first, **counts)


def _check(sweep: Sweep, sizes: Sequence[int], k: int) -> None:
    for size in (*sweep.granularities, *sweep.rankings):
        if size not in sizes:
            raise GranularityError(f"granularity {size} is not among {tuple(sizes)}")
    for codec in (*sweep.codecs, sweep.ranking_codec):
        find_codec(codec)
    for kind in sweep.indexes:
        if kind != SCAN:
            check_kind(kind, min(sweep.granularities))
    if min(sweep.keeps) < k:
        raise ConfigError(f"{min(sweep.keeps)} candidates cannot give lists of {k}; keep more")


def _count(sweep: Sweep, num_items: int) -> int:
    pairs = sum(r > g for g in sweep.granularities for r in sweep.rankings)
    keeps = len({min(keep, num_items) for keep in sweep.keeps})
    return pairs * keeps * len(sweep.codecs) * len(sweep.indexes)


def _candidates(
    vectors: Float32,
    sizes: Sequence[int],
    normalize: bool,
    queries: Queries,
    sweep: Sweep,
    threads: int | None,
) -> Iterator[tuple[InMemory, tuple[int, str, str], Index | None]]:
    """Every way to find candidates: tiers, (granularity, codec, index), the index."""
    dim = sizes[-1]
    for size in sweep.granularities:
        for codec in sweep.codecs:
            for kind in sweep.indexes:
                # With an index the tier is read for the kept items alone: it need not be hot.
                tiers = tiers_of(size, dim, codec, sweep.ranking_codec, kind)
                items = InMemory(vectors, tiers, sizes, normalize=normalize)
                index = None
                if kind != SCAN:
                    sample = queries.users[:: max(1, len(queries) // 500)]
                    index, _ = make_index(
                        items, kind, size, sweep.index_recall, sample, threads=threads
                    )
                yield items, (size, codec, kind), index


def tiers_of(size: int, dim: int, codec: str, ranking_codec: str, index: str) -> list[TierSpec]:
    """The tiers of a point: the candidates' coordinates, and the others."""
    first = TierSpec(0, size, codec, "ram" if index == SCAN else "mmap")
    return [first] + ([TierSpec(size, dim, ranking_codec, "mmap")] if size < dim else [])


def _bytes(sweep: Sweep, coordinates: int) -> int:
    """Of one item's coordinates behind the candidates' tier."""
    return find_codec(sweep.ranking_codec).bytes_per_row(coordinates) if coordinates else 0


def _stages(sweep: Sweep, items: InMemory, size: int, k: int) -> Iterator[list[Stage]]:
    last = min(k, items.num_items)
    for keep in sorted({min(keep, items.num_items) for keep in sweep.keeps}):
        for ranking in sweep.rankings:
            if ranking > size:
                yield [Stage(size, keep), Stage(ranking, last)]


def _lists(funnel: Funnel, queries: Queries, k: int) -> Int64:
    """`[B, K]` what each user gets."""
    last = min(k, funnel.stages[-1].keep)
    return np.concatenate(
        [funnel.search(users, last, filters).items for users, filters in queries.batches()]
    )


def _quality(
    found: Int64, exact: Int64, queries: Queries, k: int, reference: float | None
) -> dict[str, float | None]:
    overlap = recall_of(found, exact)
    if queries.targets is None or queries.offsets is None:
        return {"recall": None, "ndcg": None, "kept": overlap, "overlap": overlap}
    ranks = ranks_in(found, queries.targets, queries.offsets)
    value = float(ndcg(ranks, queries.offsets, (k,)).mean())
    against = value if reference is None else reference
    return {
        "recall": float(recall(ranks, queries.offsets, (k,)).mean()),
        "ndcg": value,
        "kept": value / against if against else float("nan"),
        "overlap": overlap,
    }


def ranks_in(found: Int64, targets: Int64, offsets: Int64) -> Int64:
    """`[M]` places of jagged `targets [M]` in the lists `found [B, K]`, from 1; `MISS`: in none."""
    rows = np.repeat(np.arange(len(found)), np.diff(offsets))
    hits = found[rows] == targets[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, MISS)


def _point(
    funnel: Funnel,
    queries: Queries,
    label: tuple[str, str],
    index: Index | None,
    quality: dict[str, float | None],
) -> Point:
    first, last = funnel.stages[0], funnel.stages[-1]
    prefix = np.ascontiguousarray(queries.users[:_BATCH, : first.granularity])
    visited = None if index is None else index.multiply_adds(prefix, first.keep)
    single, batch = _milliseconds(funnel, queries)
    kept, overlap = quality["kept"], quality["overlap"]
    assert kept is not None and overlap is not None
    return Point(
        granularity=first.granularity,
        codec=label[0],
        index=label[1],
        keep=first.keep,
        ranking=last.granularity,
        recall=quality["recall"],
        ndcg=quality["ndcg"],
        kept=kept,
        overlap=overlap,
        hot_bytes=funnel.hot_bytes / funnel.bundle.num_items,
        cold_bytes=funnel.cold_bytes / funnel.bundle.num_items,
        multiply_adds=funnel.multiply_adds(visited),
        ms_single=single,
        ms_batch=batch,
    )


def _milliseconds(funnel: Funnel, queries: Queries) -> tuple[float, float]:
    """Per user: one at a time, and in a batch."""
    users, filters = next(queries.batches())
    alone = [(users[[row]], rows_of(filters, np.array([row]))) for row in range(len(users))]

    def median(pieces: Sequence[tuple[Float32, Filters]]) -> float:
        times = []
        for piece in pieces:
            started = time.perf_counter()
            funnel.search(piece[0], None, piece[1])
            times.append(time.perf_counter() - started)
        return 1e3 * statistics.median(times)

    return median(alone[:_SINGLES]), median([(users, filters)] * _TURNS) / len(users)


def mark_best(points: Sequence[Point]) -> list[Point]:
    """Marks the points of the Pareto front: quality against hot bytes and multiply-adds."""
    costs = np.array([[-p.kept, p.hot_bytes, p.multiply_adds] for p in points]).reshape(-1, 3)
    marked = []
    for point, own in zip(points, costs, strict=True):
        beaten = (costs <= own).all(axis=1) & (costs < own).any(axis=1)
        marked.append(replace(point, best=not beaten.any()))
    return marked


def cheapest(points: Sequence[Point], keep: float) -> Point | None:
    """The point with the fewest hot bytes (then multiply-adds) that keeps at least that share."""
    enough = [point for point in points if point.kept >= keep]
    return min(
        enough, key=lambda point: (point.hot_bytes, point.multiply_adds, -point.kept), default=None
    )
