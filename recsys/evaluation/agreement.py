"""Comparison of two rankings up to float32 rounding.

Shape legend: B users, I interests of a user, N items, D coordinates, d of a prefix, K length of the
lists, n listed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.arrays import Float32, Float64, Int64
from recsys.errors import RunError
from recsys.evaluation.tradeoff.sweep import Queries
from recsys.retrieval.filters import Filters, rows_of

Floats = npt.NDArray[np.floating]

_UNIT = 2.0**-24
"""Half the distance of float32 numbers around 1: what one operation may be off by, as a share."""
_EXTRA = 4
"""Roundings of a score beside its products and sums: the norm, the division by it, the length of
the user's prefix and what is added for repeats."""


def rounding(size: int) -> float:
    """What float32 may be off by in the score of a prefix, as a share of the sizes it adds up.

    A product and a sum for every coordinate, in any order, each rounded: Higham, Accuracy and
    Stability of Numerical Algorithms, 2002, section 3.1 (`gamma_n`).
    """
    steps = (size + _EXTRA) * _UNIT
    return steps / (1 - steps)


@dataclass(frozen=True)
class Agreement:
    """Comparison of lists with the expected lists."""

    same: int
    """Users whose lists are the same, item by item."""
    close: int
    """Users whose lists differ only where float32 cannot tell the scores apart."""
    num_users: int
    worst: str
    """The user whose lists differ most, in words; empty where none differ beyond rounding."""

    @property
    def holds(self) -> bool:
        """Whether no list differs by more than rounding."""
        return self.same + self.close == self.num_users

    def __str__(self) -> str:
        text = f"the same for {self.same:,} of {self.num_users:,} users"
        if self.close:
            text += f", and for {self.close:,} but for scores that float32 cannot tell apart"
        return text


def agreement(
    found: Int64, wanted: Int64, queries: Queries, items: Float32, norms: Floats | None
) -> Agreement:
    """Compares two lists of every user, place by place.

    Both rank by float32 scores that are off by `rounding` at most, so what stands at one place of
    both has true scores within four times that of each other.

    Args:
        found: `[B, K]`, -1 behind the end.
        wanted: `[B, K]` likewise.
        queries: whose lists they are.
        items: `[N, d]` that are scored.
        norms: `[N]`, where scores are cosines.
    """
    rows, num_close, largest, worst = np.flatnonzero((found != wanted).any(axis=1)), 0, 0.0, ""
    for row in rows:
        user = queries.users[row, ..., : items.shape[1]].astype(np.float64)
        one = rows_of(queries.filters, np.array([row]))
        gain = _gain(one, user, norms)
        pairs = [_scored(items, norms, user, x[row], one.seen, gain) for x in (found, wanted)]
        (a, sizes), (b, others) = pairs
        with np.errstate(invalid="ignore"):
            gaps = np.where(a == b, 0.0, np.abs(a - b))
        place = int(gaps.argmax())
        allowed = 4 * rounding(user.shape[-1]) * float(max(sizes.max(), others.max()))
        num_close += gaps[place] <= allowed
        if gaps[place] > max(allowed, largest):
            largest = gaps[place]
            worst = (
                f"row {row}, place {place + 1}: item {found[row, place]} scores {a[place]:.7g}, "
                f"item {wanted[row, place]} {b[place]:.7g}; float32 explains {allowed:.1e}"
            )
    return Agreement(len(found) - len(rows), int(num_close), len(found), worst)


def score_difference(
    items: Float32,
    norms: Floats | None,
    users: Float32,
    listed: Int64,
    scores: Float32,
    size: int,
    filters: Filters,
) -> float:
    """Largest difference of `scores [B, n]` from dot products in float64, -1 left out.

    A share of the sum of the sizes of what was added up: what float32 can promise. To that belongs
    what the model adds to the score of what a user has had, where that is not filtered.

    Raises:
        RunError: a score is not finite.
    """
    worst = 0.0
    histories = np.split(filters.seen, filters.offsets[1:-1])
    given_rows = zip(users[..., :size].astype(np.float64), listed, scores, histories, strict=True)
    for user, row, given, had in given_rows:
        shown = row >= 0
        if not np.isfinite(given[shown]).all():
            raise RunError("the bundle gives scores that are not finite; export it again")
        gain = _gain(filters, user, norms)
        wanted, sizes = _scored(items, norms, user, row[shown], had, gain)
        gaps = np.abs(wanted - given[shown])
        worst = max(worst, float((gaps / np.maximum(sizes, 1e-30)).max(initial=0)))
    return worst


def _gain(filters: Filters, user: Float64, norms: Floats | None) -> float:
    """What the model adds to the score of what a user `[d]` or `[I, d]` has had, where it is not
    filtered.
    """
    added = filters.added(user.shape[-1])
    return added if norms is None or user.ndim == 2 else added * float(np.linalg.norm(user))


def _scored(
    items: Float32, norms: Floats | None, user: Float64, listed: Int64, had: Int64, gain: float
) -> tuple[Float64, Float64]:
    """Scores of `listed [n]` by a user `[d]` in float64, and the sizes added up; -inf, 0 for -1.

    Of several interests `[I, d]`: the best score, and the largest of the sizes.
    """
    index, shown = listed.clip(0), listed >= 0
    gains = gain * np.isin(listed, had)
    if user.ndim == 2:
        own = user if norms is None else user / np.linalg.norm(user, axis=1, keepdims=True)
        parts = [_scored(items, norms, each, listed, had, gain) for each in own]
        return np.max([scores for scores, _ in parts], 0), np.max([sizes for _, sizes in parts], 0)
    products = items[index, : len(user)] * user
    factors = 1.0 if norms is None else 1.0 / norms[index].astype(np.float64)
    scores = np.where(shown, products.sum(axis=1) * factors + gains, -np.inf)
    return scores, np.where(shown, np.abs(products).sum(axis=1) * factors + np.abs(gains), 0.0)
