"""Rows of a MetricTable from ranks and recommendation counts.

Shape legend: U users, M targets (jagged), G granularities, K cutoffs, N items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.arrays import Int64
from recsys.evaluation.bootstrap import intervals
from recsys.evaluation.metrics import SAME_OF_ONE_TARGET, coverage, gini, novelty, user_values

Row = dict[str, Any]
Members = npt.NDArray[np.bool_]
Sizes = tuple[int | None, ...]

HEAD_SHARE = 0.2
"""The share of the catalogue, most popular first, that is called its head."""


def segments_of(popularity: Int64, *, with_cold: bool) -> dict[str, Members]:
    """Which items belong to which segment, each `[N]` bool.

    head: the most popular fifth of the catalogue (equals by item index); tail: the rest.
    cold: items without a training row; warm: the rest.
    """
    everything = np.ones(len(popularity), bool)
    head = np.zeros(len(popularity), bool)
    by_popularity = np.argsort(-popularity, kind="stable")
    head[by_popularity[: math.ceil(HEAD_SHARE * len(popularity))]] = True
    segments = {"all": everything, "head": head, "tail": ~head}
    if with_cold:
        segments |= {"cold": popularity == 0, "warm": popularity > 0}
    return segments


def user_rows(
    ranks: Int64,
    offsets: Int64,
    *,
    segment: str,
    sizes: Sizes,
    metrics: Sequence[str],
    ks: Sequence[int],
    seed: int | None,
) -> list[Row]:
    """Means over users, with intervals where a seed is given.

    Args:
        ranks: `[G, M]`.
        offsets: `[U + 1]`, every user with at least one target.
        segment: the name of the targets that are left in `ranks`.
        sizes: G granularities.
        metrics: names in `METRICS`.
        ks: K cutoffs.
        seed: of the bootstrap; None: no intervals.
    """
    # With one target a user some metrics are one and the same: they are taken once.
    single = len(offsets) == ranks.shape[1] + 1
    same = {a: b for a, b in SAME_OF_ONE_TARGET.items() if single and b in metrics}
    taken = [name for name in metrics if name not in same]
    values = np.concatenate(
        [user_values(name, one, offsets, ks) for one in ranks for name in taken], axis=1
    )
    columns = np.arange(values.shape[1]).reshape(len(sizes), len(taken), len(ks))
    places = columns[:, [taken.index(same.get(name, name)) for name in metrics]].ravel()
    means = values.mean(axis=0)[places]
    low, high = (None, None)
    if seed is not None:
        low, high = (bound[places] for bound in intervals(values, seed=seed))
    keys = [(size, name, k) for size in sizes for name in metrics for k in ks]
    return [
        {
            "segment": segment,
            "granularity": size,
            "metric": name,
            "k": k,
            "value": float(means[p]),
            "low": None if low is None else float(low[p]),
            "high": None if high is None else float(high[p]),
            "num_users": len(values),
        }
        for p, (size, name, k) in enumerate(keys)
    ]


def keep_targets(ranks: Int64, offsets: Int64, keep: Members) -> tuple[Int64, Int64]:
    """Ranks and offsets of the targets with `keep [M]`, and of the users that have any of them."""
    lengths = np.add.reduceat(keep.astype(np.int64), offsets[:-1])
    left = np.concatenate([[0], np.cumsum(lengths[lengths > 0])]).astype(np.int64)
    return ranks[:, keep], left


def catalogue_rows(
    counts: Int64, popularity: Int64, *, sizes: Sizes, ks: Sequence[int], num_users: int
) -> list[Row]:
    """Coverage, Gini and novelty of what was recommended, `counts [G, K, N]`."""
    rows = []
    for size, of_size in zip(sizes, counts, strict=True):
        for k, of_k in zip(ks, of_size, strict=True):
            values = {
                "coverage": coverage(of_k),
                "gini": gini(of_k),
                "novelty": novelty(of_k, popularity),
            }
            rows += [
                {
                    "segment": "all",
                    "granularity": size,
                    "metric": name,
                    "k": k,
                    "value": value,
                    "low": None,
                    "high": None,
                    "num_users": num_users,
                }
                for name, value in values.items()
            ]
    return rows
