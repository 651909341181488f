"""Thresholds of routing, learned on validation users.

Shape legend: B users, K requested.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recsys.arrays import Float32, Float64, Int64
from recsys.retrieval.filters import Filters
from recsys.retrieval.funnel import Funnel
from recsys.retrieval.routing import Routing, confidence, overlaps


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
