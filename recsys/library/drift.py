"""`recsys bundle diff`: how far two versions of a bundle are from each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recsys.arrays import Int64
from recsys.library.engines.engine import unit_rows
from recsys.library.recommender import Recommender
from recsys.library.sources.bundles import recommender_of_bundle

_SAMPLE = 1_000
"""Users, and items, that are compared."""


@dataclass(frozen=True)
class Drift:
    """What changed from one version to another."""

    items: tuple[int, int, int]
    """In both, in the first alone, in the second alone."""
    users: tuple[int, int, int]
    """Likewise."""
    cosine: dict[int, float]
    """Granularity -> mean cosine of an item's vector with its later one. Versions that were trained
    apart have spaces of their own: then it says little, and the overlaps say what changed."""
    neighbours: float | None
    """Share of the ten items most like an item that stay, by the full width."""
    lists: float | None
    """Share of the first ten of users' lists that stay; None: no user is in both."""
    coverage: tuple[float, float] | None
    """Share of each version's items that stand in any of these lists."""


def drift_of(first: str | Path, second: str | Path, k: int = 10) -> Drift:
    """Compares two versions by what they have in common.

    Raises:
        DataError, ChecksumError: one of them cannot be read.
    """
    one, other = recommender_of_bundle(first), recommender_of_bundle(second)
    items, users = _common(one.items, other.items), _common(one.users, other.users)
    cosine = {}
    for size in sorted(set(one.sizes) & set(other.sizes)):
        pair = [unit_rows(_rows(model, items, size)) for model in (one, other)]
        cosine[size] = float(np.einsum("nd,nd->n", *pair).mean()) if len(items) else 1.0
    lists = coverage = neighbours = None
    if len(items) > 1:
        asked = _sample(items)
        found = [model.similar_items(asked, k) for model in (one, other)]
        neighbours = _overlap(found[0], found[1], "item_id", "similar_item_id")
    if len(users):
        found = [model.recommend(_sample(users), k=k) for model in (one, other)]
        lists = _overlap(found[0], found[1], "user_id", "item_id")
        shares = [each["item_id"].n_unique() for each in found]
        coverage = (shares[0] / len(one.items), shares[1] / len(other.items))
    return Drift(
        _counts(one.items, other.items, items),
        _counts(one.users, other.users, users),
        cosine,
        neighbours,
        lists,
        coverage,
    )


def _common(one: pl.Series, other: pl.Series) -> pl.Series:
    text = one.cast(pl.String)
    return text.filter(text.is_in(other.cast(pl.String).implode()))


def _counts(one: pl.Series, other: pl.Series, both: pl.Series) -> tuple[int, int, int]:
    return len(both), len(one) - len(both), len(other) - len(both)


def _rows(
    model: Recommender, ids: pl.Series, size: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    names, vectors = model.item_vectors(size)
    place = {name: index for index, name in enumerate(names.cast(pl.String))}
    rows: Int64 = np.array([place[name] for name in ids], np.int64)
    return vectors[rows]


def _sample(ids: pl.Series) -> pl.Series:
    return ids.gather_every(max(1, len(ids) // _SAMPLE))


def _overlap(one: pl.DataFrame, other: pl.DataFrame, who: str, what: str) -> float:
    columns = [pl.col(who).cast(pl.String), pl.col(what).cast(pl.String)]
    kept = one.select(columns).join(other.select(columns), on=[who, what], how="inner")
    return len(kept) / max(1, len(one))
