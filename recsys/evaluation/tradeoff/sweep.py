"""A sweep over funnels, and the choice of the best ones.

A point is one funnel: candidates by a prefix under a codec, by scanning or by an index, some of
them kept and ranked by a longer prefix. `funnels.measure` measures it.

Shape legend: B users, N items, D coordinates, K length of the lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydantic import Field, PositiveInt

from recsys.arrays import Float32, Int64
from recsys.config import StrictModel
from recsys.data.histories import jagged_positions
from recsys.errors import DataError
from recsys.evaluation.held_out import spread_over
from recsys.retrieval.bundle.tiers import TierSpec
from recsys.retrieval.filters import Filters, rows_of
from recsys.retrieval.funnel import Stage

SCAN = "scan"
BATCH = 256
Cascade = Literal["direct", "halving", "quartering"]
_SHIFTS: dict[Cascade, int] = {"direct": 0, "halving": 1, "quartering": 2}


class Sweep(StrictModel):
    """The funnels that are measured: all combinations of the options."""

    granularities: tuple[int, ...] = Field(min_length=1)
    """Of the candidates."""
    codecs: tuple[str, ...] = Field(default=("fp16", "int8", "int4"), min_length=1)
    """Of the candidates' tier."""
    indexes: tuple[str, ...] = Field(default=(SCAN, "ivf,pqx4"), min_length=1)
    """`scan`, or an index over the candidates' prefix."""
    keeps: tuple[PositiveInt, ...] = Field(default=(50, 100, 200, 500), min_length=1)
    """How many candidates are ranked."""
    rankings: tuple[int, ...] = Field(min_length=1)
    """Granularities of the ranking."""
    cascades: tuple[Cascade, ...] = Field(default=("direct",), min_length=1)
    """From candidates to ranking: at once, or by all granularities between, at each of which a half
    goes on (32:200, 64:100, 128:50, 256; the funnel of Kusupati et al., Matryoshka Representation
    Learning, 2022), or a quarter."""
    ranking_codec: str = "fp16"
    """Of the coordinates behind the candidates' tier."""
    index_recall: float = Field(default=0.99, gt=0, le=1)
    """What indexes are tuned to: share of the first K of the same funnel without one."""


@dataclass(frozen=True)
class Queries:
    """The users with whom funnels are measured."""

    users: Float32
    """`[B, D]`, or `[B, I, D]` of several interests."""
    filters: Filters
    targets: Int64 | None
    """Items to be found, jagged; None: quality is taken against exact search alone."""
    offsets: Int64 | None
    """`[B + 1]`."""

    def __len__(self) -> int:
        return len(self.users)

    def spread(self, count: int) -> Queries:
        """At most so many of them, evenly spread, without what they are to find."""
        rows = spread_over(len(self), count)
        return Queries(self.users[rows], rows_of(self.filters, rows), None, None)

    def halves(self) -> tuple[Queries, Queries]:
        """Every second one, and the others.

        Raises:
            DataError: there is one alone.
        """
        if len(self) < 2:
            raise DataError(
                "a funnel is chosen on some users and measured on others; there is only one user"
            )
        return self._rows(np.arange(0, len(self), 2)), self._rows(np.arange(1, len(self), 2))

    def _rows(self, rows: Int64) -> Queries:
        targets, offsets = self.targets, self.offsets
        if targets is not None and offsets is not None:
            places, offsets = jagged_positions(offsets[rows], offsets[rows + 1])
            targets = targets[places]
        return Queries(self.users[rows], rows_of(self.filters, rows), targets, offsets)

    def batches(self) -> Iterator[tuple[Float32, Filters]]:
        """Users and their filters, in pieces."""
        for lo in range(0, len(self), BATCH):
            rows = np.arange(lo, min(lo + BATCH, len(self)))
            yield self.users[rows], rows_of(self.filters, rows)


@dataclass(frozen=True)
class Point:
    """One funnel with its measured quality and costs."""

    granularity: int
    codec: str
    index: str
    keep: int
    ranking: int
    cascade: Cascade
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
    """Per user, counted."""
    hot_share: float
    """`hot_bytes` over those of the full vectors in float32."""
    work_share: float
    """`multiply_adds` over those of scoring every item at full width."""
    ms_single: float
    """One user at a time, median."""
    ms_batch: float
    """Per user in batches of 256, median."""
    kept_low: float | None = None
    """95 % interval of `kept`, the point and exact search resampled together over users; None:
    exact search finds nothing in a resample."""
    kept_high: float | None = None
    surely: float = 0.0
    """The lower bound of `kept` if one more user lost the first place by this funnel. Where few
    users' lists differ, and none of them to the worse, resampling knows of no loss by itself."""
    best: bool = False
    """No other point keeps as much with fewer bytes and multiplications."""

    def stages(self, sizes: Sequence[int], k: int) -> list[Stage]:
        """Its funnel, for lists of `k`."""
        return stages_of(self.granularity, self.keep, self.ranking, self.cascade, sizes, k)


@dataclass(frozen=True)
class Tradeoff:
    """All points of a sweep, and the exact search they are compared with."""

    points: tuple[Point, ...]
    exact: Point
    """Full width in float32, every item scored."""
    k: int
    num_items: int
    num_users: int
    sizes: tuple[int, ...]
    """The granularities."""


def tiers_of(size: int, dim: int, codec: str, ranking_codec: str, index: str) -> list[TierSpec]:
    """The tiers of a point: the candidates' coordinates, and the others."""
    first = TierSpec(0, size, codec, "ram" if index == SCAN else "mmap")
    return [first] + ([TierSpec(size, dim, ranking_codec, "mmap")] if size < dim else [])


def stages_of(
    size: int, keep: int, ranking: int, cascade: Cascade, sizes: Sequence[int], k: int
) -> list[Stage]:
    """From candidates by `size` to lists of `k` by `ranking`."""
    shift = _SHIFTS[cascade]
    between = [s for s in sizes if shift and size < s < ranking]
    fewer = [Stage(s, max(k, keep >> shift * n)) for n, s in enumerate(between, 1)]
    return [Stage(size, keep), *fewer, Stage(ranking, k)]


def mark_best(points: Sequence[Point]) -> list[Point]:
    """Marks the points of the Pareto front: quality against hot bytes and multiply-adds."""
    costs = np.array([[-p.kept, p.hot_bytes, p.multiply_adds] for p in points]).reshape(-1, 3)
    marked = []
    for point, own in zip(points, costs, strict=True):
        beaten = (costs <= own).all(axis=1) & (costs < own).any(axis=1)
        marked.append(replace(point, best=not beaten.any()))
    return marked


@dataclass(frozen=True)
class Choice:
    """The chosen funnel, and how certain it is to keep the requested quality."""

    point: Point
    sure: bool
    """It surely keeps the floor."""
    undecided: int
    """Cheaper funnels of which these users do not tell whether they keep as much."""


def choose(points: Sequence[Point], floor: float) -> Choice | None:
    """The cheapest point that surely keeps a share `floor`: by hot bytes, then multiply-adds.

    Where none does, the safest of those that may: the one whose lists are most like those of
    exact search, which fewer users tell than what is kept. Where the intervals of all lie below
    the floor, None.
    """
    sure = [point for point in points if point.surely >= floor]
    may = [point for point in points if point.kept_high is None or point.kept_high >= floor]
    if not may:
        return None
    chosen = min(sure, key=_cost) if sure else max(may, key=_safety)
    undecided = [point for point in may if point.surely < floor and _cost(point) < _cost(chosen)]
    return Choice(chosen, bool(sure), len(undecided))


def _cost(point: Point) -> tuple[float, float, float]:
    return point.hot_bytes, point.multiply_adds, -point.kept


def _safety(point: Point) -> tuple[float, float, float]:
    """How like exact search it is; of equals, less cost."""
    return point.overlap, -point.hot_bytes, -point.multiply_adds
