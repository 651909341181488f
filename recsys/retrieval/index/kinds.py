"""Kinds of indexes by name, the index protocol, and tuning.

    flat | ivf | hnsw        every item, lists of nearest centroids, or a graph (Faiss)
    ...,sq8                  codes of 8 bits a coordinate
    ...,pqM  ...,pqMx4       product codes: M bytes an item; M codes of 4 bits, M / 2 bytes
    ...,pqx4                 the same with M = d / 2
    ...,rabitq               1 bit a coordinate (not hnsw)
    opq,...,pqMx4            a learned rotation before the product codes
    scann  scann,pqMx4       leaves and d / 2, or M, codes of 4 bits (ScaNN)

Papers: Jégou, Douze and Schmid, Product Quantization for Nearest Neighbor Search, TPAMI 2011;
André, Kermarrec and Le Scouarnec, Cache Locality Is Not Enough, VLDB 2015 (4-bit codes);
Ge et al., Optimized Product Quantization, CVPR 2013; Gao and Long, RaBitQ, SIGMOD 2024;
Malkov and Yashunin, HNSW, TPAMI 2020; Guo et al., Anisotropic Vector Quantization, ICML 2020
(ScaNN).

Shape legend: N rows, d coordinates, M parts of d / M coordinates, B users, K of a list.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.errors import ConfigError
from recsys.retrieval.filters import Filters
from recsys.retrieval.routing import overlaps

KINDS = (
    "flat, ivf or hnsw, followed by nothing, ,sq8, ,pqM, ,pqMx4, ,pqx4 or ,rabitq (hnsw: nothing "
    "or ,sq8), with opq, before one of product codes; or scann, followed by nothing or ,pqMx4"
)
_FORM = re.compile(
    r"(?P<opq>opq,)?(?P<structure>flat|ivf|hnsw|scann)"
    r"(?:,(?:(?P<plain>sq8|rabitq)|(?P<pq>pq)(?P<parts>[1-9]\d*)?(?P<small>x4)?))?"
)
_NO_GAIN, _PATIENCE = 5e-4, 8


@dataclass(frozen=True)
class Kind:
    """The parts of an index kind."""

    name: str
    structure: str
    """flat, ivf, hnsw or scann."""
    codes: str
    """sq8, rabitq, pq, or nothing: float32."""
    parts: int = 0
    """M of product codes."""
    bits: int = 0
    """Of each product code: 8 or 4."""
    rotated: bool = False

    @property
    def searched_by(self) -> tuple[str, ...]:
        """Name of the search parameter, where there is one."""
        named = {"ivf": ("margin",), "hnsw": ("efSearch",), "scann": ("leaves",)}
        return named.get(self.structure, ())

    def work_of(self, dim: int) -> tuple[float, float]:
        """Multiply-adds of one item, and of one user once (the tables of product codes)."""
        if self.codes == "rabitq":
            return dim / 8, 0.0  # a bit is an eighth of a byte; bytes are what the others multiply
        once = dim * dim if self.rotated else 0
        return (self.parts, once + (1 << self.bits) * dim) if self.parts else (dim, once)


def parse_kind(name: str, dim: int) -> Kind:
    """Reads `ivf,pq64x4` for prefixes of `dim` coordinates.

    Raises:
        ConfigError: there is no such index, or M does not divide the coordinates.
    """
    match = _FORM.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise ConfigError(f"index {name!r} is not among {KINDS}")
    structure, codes = match["structure"], match["plain"] or match["pq"] or ""
    small, whole = match["small"], structure == "scann" and not codes
    codes, small = ("pq", "x4") if whole else (codes, small)
    parts = int(match["parts"] or max(1, dim // 2)) if codes == "pq" else 0
    bits = (4 if small else 8) if parts else 0
    wrong = (
        (match["opq"] and not parts)
        or (parts and not match["parts"] and not small)
        or (structure == "hnsw" and codes not in ("", "sq8"))
        or (structure == "scann" and (match["opq"] or bits != 4))
    )
    if wrong:
        raise ConfigError(f"index {name!r} is not among {KINDS}")
    if parts and dim % parts:
        raise ConfigError(f"index {name!r}: {parts} is not a divisor of {dim} coordinates")
    return Kind(name, structure, codes, parts, bits, bool(match["opq"]))


def num_lists_for(num_rows: int) -> int:
    """Lists of about as many items as there are centroids, and never of fewer than 32 items."""
    return int(np.clip(2 * num_rows**0.5, 1, max(1, num_rows // 32)))


class Index(Protocol):
    """A first stage that can be tuned and saved: `FaissIndex`, `ScannIndex`."""

    kind: Kind
    search: dict[str, int]
    """The search parameter, where there is one: a margin for lists, or leaves or nodes to visit."""
    threads: int | None

    @property
    def limit(self) -> int:
        """The most that the search parameter can be."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """N and d."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes it takes in memory."""
        ...

    @property
    def extra_bytes(self) -> int:
        """Bytes in memory beside the tiers."""
        ...

    def find(self, users: Float32, keep: int, filters: Filters) -> Int64:
        """`[B, <= keep]` items, in no order, -1 where fewer were found."""
        ...

    def multiply_adds(self, users: Float32, keep: int) -> float:
        """For one user, counted of what `users [B, d]` visit."""
        ...

    def save(self, folder: Path) -> str:
        """Writes it into a bundle's folder; the name there of the file that `load` is given."""
        ...


MOST = 1 << 23
"""Items of all users that are asked for at once, where filters leave few: 100 MB."""


def fill(ask: Callable[[int], Int64], keep: int, most: int, filters: Filters) -> Int64:
    """`[B, <= keep]` of what an index finds that knows no filters, -1 behind the end of a row.

    More is asked for, twice as many each time, until every row is full or has found fewer than
    were asked for: what it visits holds no more.

    Args:
        ask: the best so many of each row `[B, n]`, best first, -1 where fewer were found.
        keep: how many are wanted.
        most: there are to ask for.
        filters: of these rows.
    """
    lengths = np.diff(filters.offsets)
    asked = min(most, keep + int(lengths.max(initial=0)))
    while True:
        raw = ask(asked)
        ended = (raw < 0).any(axis=1)
        items = without(raw, filters)
        left = np.minimum(filters.num_left(filters.num_items), keep)
        found = (items >= 0).sum(axis=1)
        if asked >= most or not len(filters.hidden) or (ended | (found >= left)).all():
            return items[:, :keep]
        asked = min(most, 2 * asked)


def without(items: Int64, filters: Filters) -> Int64:
    """`[B, n]` without what a filter forbids: those that are left come first, then -1."""
    gone = items < 0
    if len(filters.hidden):
        gone |= filters.hidden[items] > 0
    if len(filters.seen):
        rows = np.repeat(np.arange(len(items)), np.diff(filters.offsets))
        pairs = np.arange(len(items))[:, None] * filters.num_items + items
        gone |= np.isin(pairs, rows * filters.num_items + filters.seen)
    if not gone.any():
        return items
    order = np.argsort(gone, axis=1, kind="stable")
    return np.take_along_axis(np.where(gone, -1, items), order, axis=1)


def recall_of(found: Int64, exact: Int64) -> float:
    """Mean share of `exact [B, n]` that is in `found [B, m]`; -1 stands for nothing."""
    return float(overlaps(found, exact).mean())


def tune(index: Index, measured: Callable[[], float], target: float) -> float:
    """Raises the search parameter, as little as can be, until a recall is reached.

    Args:
        index: changed in place.
        measured: the recall as the index is now.
        target: 0..1.

    Returns:
        The recall that was reached: below the target only where the index itself cannot reach it
        (its codes are too coarse: doubling the work found next to nothing more).
    """
    if not index.search:
        return measured()
    (name,) = index.search
    limit, start = index.limit, max(1, index.search[name])
    low, high = 0, min(start, limit)
    index.search[name], before = high, -1.0
    while (reached := measured()) < target and high < limit:
        if reached - before < _NO_GAIN and high >= _PATIENCE * start:
            break  # coarse codes: visiting more finds nothing more
        low, high, before = high, min(2 * high, limit), reached
        index.search[name] = high
    best = (high, reached)
    while reached >= target and high - low > max(1, low // 16):
        middle = (low + high) // 2
        index.search[name] = middle
        if (found := measured()) >= target:
            high, best = middle, (middle, found)
        else:
            low = middle
    index.search[name] = best[0]
    return best[1]
