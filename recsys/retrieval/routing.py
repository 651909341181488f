"""Routing: users whose list stands out from the rest stop at a shorter prefix.

After the adaptive classification of Kusupati et al., Matryoshka Representation Learning, NeurIPS
2022 (section 4.2.1), with score gaps in place of class probabilities: a threshold for every stage
but the last is learned on validation users.

Shape legend: B users, S stages, n items kept, K asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.retrieval.codecs.base import Float32
from recsys.retrieval.filters import Filters, Int64

if TYPE_CHECKING:
    from recsys.retrieval.funnel import Funnel

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Routing:
    """How sure a stage must be of a user's list for the search to end there."""

    thresholds: tuple[float, ...]
    """For every stage but the last; inf: never."""


def confidence(scores: Float32, k: int) -> Float64:
    """`[B]` by how much the first K of `scores [B, n]`, descending, stand out.

    The gap between the mean of the first K and that of the K behind them, in standard deviations
    of all; 0 where there are no more than K.
    """
    shown = np.isfinite(scores)
    values = np.where(shown, scores, 0).astype(np.float64)
    if scores.shape[1] <= k:
        return np.zeros(len(scores))
    first, behind = values[:, :k].mean(1), values[:, k : 2 * k].mean(1)
    full = shown[:, : 2 * k].all(axis=1)
    spread = values.std(axis=1)
    return np.where(full & (spread > 0), (first - behind) / np.maximum(spread, 1e-12), 0.0)


def learn_routing(
    funnel: Funnel,
    users: Float32,
    filters: Filters,
    k: int,
    *,
    keep: float = 0.99,
    quality: Callable[[Int64, Float32], Float64] | None = None,
) -> Routing:
    """Thresholds that let as many users stop early as the quality allows, stage by stage.

    Each stage may spend an equal part of what may be lost.

    Args:
        funnel: without routing.
        users: `[B, D]` of validation.
        filters: of these users.
        k: length of the lists.
        keep: share of the whole funnel's mean quality that must be kept.
        quality: items and scores `[B, <= K + 1]` of lists -> `[B]`, say ndcg against the held-out
            truth (what stands behind the K-th may be scored like it); None: the share of the whole
            funnel's list.
    """
    stages = funnel.trace(users, filters)
    lists = [(found.items[:, : k + 1], found.scores[:, : k + 1]) for found in stages]
    whole = lists[-1][0][:, :k]
    judge = quality or (lambda items, _: overlaps(items[:, :k], whole))
    final = judge(*lists[-1])
    budget = (1 - keep) * float(final.sum()) / max(1, len(stages) - 1)
    going = np.arange(len(users))
    thresholds = []
    for found, listed in zip(stages[:-1], lists[:-1], strict=True):
        sure = confidence(found.scores[going], k)
        # What a shorter prefix finds by chance does not pay for what it loses.
        lost = np.maximum(final - judge(*listed), 0)[going]
        threshold = _threshold(sure, lost, budget)
        thresholds.append(threshold)
        going = going[sure < threshold]
    return Routing(tuple(thresholds))


def _threshold(sure: Float64, lost: Float64, budget: float) -> float:
    """The lowest confidence at which all who are as sure lose no more than the budget."""
    order = np.argsort(-sure, kind="stable")
    spent = np.cumsum(lost[order])
    # Users who are equally sure stop together.
    last_of_equals = np.append(np.diff(sure[order]) < 0, True)
    allowed = np.flatnonzero((spent <= budget) & last_of_equals & (sure[order] > 0))
    return float(sure[order[allowed[-1]]]) if len(allowed) else float("inf")


def overlaps(found: Int64, wanted: Int64) -> Float64:
    """`[B]` share of each row of `wanted` that is in the same row of `found`."""
    rows = np.arange(len(wanted))[:, None] << 32
    hits = np.isin(rows + wanted, np.where(found >= 0, rows + found, -1)) & (wanted >= 0)
    shares: Float64 = hits.sum(axis=1) / np.maximum((wanted >= 0).sum(axis=1), 1)
    return shares
