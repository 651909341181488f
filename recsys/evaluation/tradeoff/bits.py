"""The best split of a byte budget over buckets of coordinates, by measured recall.

A split gives each bucket a way to store it, or nothing; neighbours that are stored alike are one
tier and share a scale. The first bucket is stored, and then, step by step, a bucket more finely or
the next one too, whichever gains most recall per byte (greedy allocation over contiguous buckets
of nested vectors: arXiv 2608.19388). Exchanges follow: one bucket coarser, another one finer.
Every split is scanned with the same users: what they find decides, not what a codec loses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from recsys.errors import ConfigError
from recsys.evaluation.tradeoff.tier_scans import TierScans
from recsys.progress import progress
from recsys.retrieval.bundle.tiers import TierSpec

WAYS = {
    "pq4x4": 1, "pq8": 1, "int2": 2, "pq2x4": 2, "pq4": 2, "int4": 4, "pq1x4": 4, "int8": 8,
    "fp16": 16,
}  # fmt: skip
"""How a bucket may be stored, and its bits a coordinate. Here the number of a product code is that
of the coordinates of a part, which does not depend on the length of a tier."""
_LEAST_GAIN, _FREE = 1e-4, 0.01
_UNIT = 4
"""Prefixes of the control end at multiples of it, and where buckets end."""

Split = tuple[str, ...]
"""The ways of the buckets that are stored, from the first one on."""


@dataclass(frozen=True)
class Found:
    """Tiers in memory, and the recall of a scan of them."""

    tiers: tuple[TierSpec, ...]
    nbytes: float
    """Of one item: codes, scales, its share of codebooks, its norm where scores are cosines."""
    recall: float
    """Share of exact search's first K among the candidates, for the users it was chosen with."""


@dataclass(frozen=True)
class Bought:
    """The best split of a budget, with its recall."""

    budget: float
    """Bytes of one item in memory."""
    split: Found
    single: Found
    """The best single codec over one prefix within the same budget: the control. Its prefix may
    end between buckets, so that it spends the budget too."""


def spend(scans: TierScans, edges: Sequence[int], budgets: Sequence[float]) -> list[Bought]:
    """The best split for every budget, and the best single codec beside it.

    Args:
        scans: with the users to choose by.
        edges: where buckets end, ascending; coordinates behind the last one are not stored.
        budgets: bytes of one item.

    Raises:
        ConfigError: the edges are none of these vectors, or a budget stores not even one bucket.
    """
    within = all(0 < edge < scans.dim for edge in edges)
    if not edges or not within or list(edges) != sorted(set(edges)):
        raise ConfigError(
            f"buckets that end at {list(edges)}: ascending numbers of coordinates from 1 to "
            f"{scans.dim - 1} are expected (the last coordinates are left for ranking)"
        )
    with progress() as bar:
        task = bar.add_task("scans of tiers", total=None)
        spending = _Spending(scans, tuple(edges), lambda: bar.advance(task))
        return [spending.buy(budget) for budget in budgets]


class _Spending:
    """The search for splits; scans made for one budget are reused for the others."""

    def __init__(
        self, scans: TierScans, edges: tuple[int, ...], scanned: Callable[[], None]
    ) -> None:
        self.scans, self.edges, self.scanned = scans, edges, scanned
        rows = len(scans.vectors)
        self.ways = [way for way in WAYS if rows >= _centroids_of(way)]
        self.known: dict[Split, Found] = {}

    def buy(self, budget: float) -> Bought:
        """The best that is found within a budget."""
        singles = [(way,) * n for n in range(1, len(self.edges) + 1) for way in self.ways]
        fitting = [split for split in singles if self._found(split, budget)]
        if not fitting:
            raise ConfigError(
                f"{budget:g} bytes an item store not even the first {self.edges[0]} coordinates; "
                "allow more bytes, or use a shorter first bucket"
            )
        self._grow(budget)
        fits = [split for split, found in self.known.items() if found.nbytes <= budget]
        best = self.known[self._exchanged(max(fits, key=self._recall), budget)]
        longest = [found for way in self.ways for found in self._longest(way, budget)]
        controls = [*longest, *(self.known[split] for split in fitting)]
        single = max(controls, key=lambda found: found.recall)
        return Bought(budget, max(best, single, key=lambda found: found.recall), single)

    def _longest(self, way: str, budget: float) -> list[Found]:
        """The longest prefix that is stored so within the budget, wherever buckets end."""
        for hi in range(self.edges[-1] // _UNIT * _UNIT, 0, -_UNIT):
            tiers = (TierSpec(0, hi, _codec_of(way, hi) or "", "ram"),)
            if tiers[0].codec and self.scans.least_bytes(tiers) <= budget:
                nbytes = self.scans.nbytes(tiers)
                if nbytes <= budget:
                    self.scanned()
                    return [Found(tiers, nbytes, float(self.scans.recalls(tiers).mean()))]
        return []

    def _grow(self, budget: float) -> None:
        """Scans, from nothing on, all steps, and goes by the one that gains most per byte."""
        split: Split = ()
        recall = nbytes = 0.0
        while True:
            steps = [step for step in self._steps(split, 99) if self._found(step, budget)]
            best = max(
                (step for step in steps if self._recall(step) > recall + _LEAST_GAIN),
                key=lambda step: self._gain(step, recall, nbytes),
                default=None,
            )
            if best is None:
                return
            split, recall, nbytes = best, self._recall(best), self.known[best].nbytes

    def _gain(self, split: Split, recall: float, nbytes: float) -> float:
        """Recall per byte; a step may free bytes, where two tiers become one."""
        found = self.known[split]
        return (found.recall - recall) / max(found.nbytes - nbytes, _FREE)

    def _exchanged(self, split: Split, budget: float) -> Split:
        """Until no exchange finds more: the first one that does is made."""
        while True:
            wanted = self._recall(split) + _LEAST_GAIN
            better = (
                other
                for other in self._exchanges(split)
                if self._found(other, budget) and self._recall(other) > wanted
            )
            if (found := next(better, None)) is None:
                return split
            split = found

    def _exchanges(self, split: Split) -> Iterator[Split]:
        """A bucket stored otherwise; a step; and one back, or the last bucket out, with a step."""
        yield from self._changed(split, 0, 0)
        yield from self._steps(split, 1)
        backs = [split[:-1]] if len(split) > 1 else []
        for back in (*backs, *self._changed(split, -1, -1)):
            yield from self._steps(back, 1)

    def _steps(self, split: Split, levels: int) -> Iterator[Split]:
        """A bucket finer by up to so many levels, or the next one stored too."""
        yield from self._changed(split, 1, levels)
        if len(split) < len(self.edges):
            yield from ((*split, way) for way in self.ways)

    def _changed(self, split: Split, least: int, most: int) -> Iterator[Split]:
        """One bucket of another way, so many levels of bits finer."""
        for place, way in enumerate(split):
            for other in self.ways:
                if other != way and least <= _level(other) - _level(way) <= most:
                    yield (*split[:place], other, *split[place + 1 :])

    def _recall(self, split: Split) -> float:
        return self.known[split].recall if split else 0.0

    def _found(self, split: Split, budget: float) -> Found | None:
        """What a split reaches; None: it takes more than the budget, or cannot be."""
        if split not in self.known:
            tiers = self._tiers(split)
            if tiers is None or self.scans.least_bytes(tiers) > budget:
                return None
            nbytes = self.scans.nbytes(tiers)
            if nbytes > budget:
                return None
            recall = float(self.scans.recalls(tiers).mean())
            self.known[split] = Found(tiers, nbytes, recall)
            self.scanned()
        found = self.known[split]
        return found if found.nbytes <= budget else None

    def _tiers(self, split: Split) -> tuple[TierSpec, ...] | None:
        """Neighbours of one way become one tier; None: a part does not divide it."""
        tiers, lo = [], 0
        for way, places in groupby(range(len(split)), key=split.__getitem__):
            hi = self.edges[list(places)[-1]]
            if (codec := _codec_of(way, hi - lo)) is None:
                return None
            tiers.append(TierSpec(lo, hi, codec, "ram"))
            lo = hi
        return tuple(tiers)


def _level(way: str) -> int:
    """1 bit a coordinate, 2, 4, 8 or 16: from 0 to 4."""
    return WAYS[way].bit_length() - 1


def _centroids_of(way: str) -> int:
    """Rows that codebooks need."""
    return 0 if not way.startswith("pq") else 16 if way.endswith("x4") else 256


def _codec_of(way: str, dim: int) -> str | None:
    """The codec's name for a tier of so many coordinates; None: parts do not divide them."""
    if not way.startswith("pq"):
        return way
    size, *rest = way.removeprefix("pq").split("x")
    parts, over = divmod(dim, int(size))
    return None if over else "x".join([f"pq{parts}", *rest])
