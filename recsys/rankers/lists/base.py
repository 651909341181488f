"""What the last stage chooses from, and what it knows of items and users.

Shape legend: B users, K candidates of each, k places of a list, N items, D coordinates, G
categories.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recsys.arrays import Bool, Float32, Float64, Int64
from recsys.errors import ConfigError, DataError

BLOCK_BYTES = 64 << 20
"""Of the largest array that a step makes at once, about."""


@dataclass(frozen=True)
class Ranked:
    """Candidates of B users, best first."""

    items: Int64
    """`[B, K]` item indices, -1 where there is nothing more."""
    scores: Float32
    """`[B, K]`, -inf where there is nothing more."""

    def rows(self, rows: slice) -> Ranked:
        """Those of some users."""
        return Ranked(self.items[rows], self.scores[rows])

    def take(self, places: Int64) -> Ranked:
        """The candidates at `places [B, k]`, in that order; -1: nothing."""
        inside = places >= 0
        at = np.where(inside, places, 0)
        items = np.where(inside, np.take_along_axis(self.items, at, 1), -1)
        scores = np.where(inside, np.take_along_axis(self.scores, at, 1), -np.inf)
        return Ranked(items, scores.astype(np.float32))


@dataclass(frozen=True)
class Known:
    """What a step may know; each says what it needs."""

    vectors: Float32 | None = None
    """`[N, D]`: items are alike by the cosine."""
    categories: Bool | None = None
    """`[N, G]`: an item may be of several, or of none."""
    category_names: tuple[str, ...] = ()
    """`[G]`."""
    tastes: Float32 | None = None
    """`[B, G]`: shares of the categories in what each user had, adding up to 1."""
    popularity: Int64 | None = None
    """`[N]` training interactions."""

    def rows(self, rows: slice) -> Known:
        """The same of some users."""
        tastes = None if self.tastes is None else self.tastes[rows]
        return Known(self.vectors, self.categories, self.category_names, tastes, self.popularity)

    def require(self, step: str, *names: str) -> None:
        """Raises ConfigError where something is not known that a step needs."""
        for name in names:
            if getattr(self, name) is None:
                raise ConfigError(
                    f"{step} needs {name} of {_OWNERS[name]}; give them, or leave it out"
                )


_OWNERS = {
    "vectors": "items",
    "categories": "items",
    "popularity": "items",
    "tastes": "users",
}


def tastes_of(items: Int64, offsets: Int64, categories: Bool) -> Float32:
    """`[B, G]`: the share of each category in histories, an item's counted in equal parts.

    A user without any category has the shares of all users together.

    Args:
        items: `[T]` items of all histories.
        offsets: `[B + 1]`.
        categories: `[N, G]`.
    """
    shares = category_shares(categories)
    owners = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    found = np.zeros((len(offsets) - 1, categories.shape[1]), np.float64)
    for category in range(categories.shape[1]):
        found[:, category] = np.bincount(owners, shares[items, category], len(found))
    totals = found.sum(axis=1, keepdims=True)
    everybody = found.sum(axis=0)
    whole = everybody / everybody.sum() if everybody.sum() else np.full(len(everybody), 0.0)
    return np.where(totals > 0, found / np.maximum(totals, 1e-12), whole).astype(np.float32)


def category_shares(categories: Bool) -> Float32:
    """`[N, G]`: equal shares of the categories of each item; zeros where it has none."""
    counts = categories.sum(axis=1, keepdims=True)
    shares: Float32 = (categories / np.maximum(counts, 1)).astype(np.float32)
    return shares


def unit_vectors(vectors: Float32, items: Int64) -> Float32:
    """`[B, K, D]` vectors of length 1 of `items [B, K]`; zeros for -1 and where a vector is 0."""
    found = vectors[np.maximum(items, 0)].astype(np.float32)
    lengths = np.sqrt((found * found).sum(-1, keepdims=True))
    found /= np.maximum(lengths, 1e-12)
    found[items < 0] = 0
    return found


def relevance(scores: Float32) -> Float64:
    """`[B, K]` scores between 0 and 1 within each user: the best is 1, the worst 0; -inf is 0.

    Scores of rankers have no scale of their own; what is weighed against them needs one.
    """
    known = np.isfinite(scores)
    clean = np.where(known, scores.astype(np.float64), np.nan)
    with np.errstate(invalid="ignore"):
        low = np.where(known.any(1), np.nanmin(np.where(known, clean, np.inf), axis=1), 0.0)
        high = np.where(known.any(1), np.nanmax(np.where(known, clean, -np.inf), axis=1), 0.0)
    spread = np.maximum(high - low, 1e-12)[:, None]
    return np.where(known, (np.nan_to_num(clean) - low[:, None]) / spread, 0.0)


def blocks(num_users: int, bytes_each: int) -> Iterator[slice]:
    """Slices of users whose arrays take about `BLOCK_BYTES` together."""
    size = max(1, BLOCK_BYTES // max(1, bytes_each))
    for lo in range(0, num_users, size):
        yield slice(lo, min(lo + size, num_users))


def check_ranked(ranked: Ranked, k: int) -> None:
    """Raises DataError or ConfigError where there is nothing to choose from."""
    if ranked.items.ndim != 2 or ranked.items.shape != ranked.scores.shape:
        raise DataError(
            f"items {ranked.items.shape} and scores {ranked.scores.shape} are to be of one shape, "
            "users by candidates"
        )
    if not 1 <= k <= ranked.items.shape[1]:
        raise ConfigError(
            f"lists of {k} out of {ranked.items.shape[1]} candidates; take k from 1 to that many"
        )
