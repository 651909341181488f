"""Ranking metrics as pure functions: ranks of targets in, one number for each user out.

Shape legend: B users, M targets of them all (jagged: those of user b are
`offsets[b]:offsets[b + 1]`, at least one each), K cutoffs, N items.

A rank is 1 for the best place; `MISS` stands for a target that is in no list at all. A user's
targets are distinct items. Definitions: Järvelin and Kekäläinen, TOIS 2002 (ndcg, binary gains);
Herlocker et al., TOIS 2004 (coverage); Castells et al., Recommender Systems Handbook 2022
(novelty as self-information).
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.arrays import Float64, Int64
from recsys.errors import ConfigError
from recsys.plugins.registry import Registry

MISS = int(np.iinfo(np.int32).max)
"""The rank of a target that can be found at no cutoff."""


def checked_cutoffs(ks: Sequence[int]) -> tuple[int, ...]:
    """Each cutoff once, ascending.

    Raises:
        ConfigError: there are none, or one is not a whole number of 1 or more.
    """
    given = [ks] if isinstance(ks, str) else list(ks)
    whole = all(isinstance(k, int | np.integer) and not isinstance(k, bool) for k in given)
    if not given or not whole or min(given) < 1:
        raise ConfigError(f"cutoffs ks are {ks!r}; whole numbers of 1 or more are expected")
    return tuple(sorted(set(map(int, given))))


def recall(ranks: Int64, offsets: Int64, ks: Sequence[int]) -> Float64:
    """Share of a user's targets with rank <= k: `[B, K]`."""
    return _per_k(ranks, offsets, ks, np.ones(len(ranks))) / np.diff(offsets)[:, None]


def precision(ranks: Int64, offsets: Int64, ks: Sequence[int]) -> Float64:
    """A user's targets with rank <= k, over k: `[B, K]`."""
    hits = _per_k(ranks, offsets, ks, np.ones(len(ranks)))
    return hits / np.asarray(ks, dtype=np.float64)


def hit(ranks: Int64, offsets: Int64, ks: Sequence[int]) -> Float64:
    """1 where any target has rank <= k: `[B, K]`."""
    return (_per_k(ranks, offsets, ks, np.ones(len(ranks))) > 0).astype(np.float64)


def ndcg(ranks: Int64, offsets: Int64, ks: Sequence[int]) -> Float64:
    """DCG with gain 1 and discount log2(rank + 1), over the best DCG: `[B, K]`."""
    gains = 1.0 / np.log2(ranks + 1.0)
    best = np.cumsum(1.0 / np.log2(np.arange(2.0, max(ks) + 2.0)))
    places = np.minimum(np.diff(offsets)[:, None], np.asarray(ks)[None, :])
    values: Float64 = _per_k(ranks, offsets, ks, gains) / best[places - 1]
    return values


def mrr(ranks: Int64, offsets: Int64, ks: Sequence[int]) -> Float64:
    """1 / rank of the user's best target, 0 where that is beyond k: `[B, K]`."""
    first = np.minimum.reduceat(ranks, offsets[:-1])
    return np.where(first[:, None] <= np.asarray(ks)[None, :], 1.0 / first[:, None], 0.0)


def average_precision(ranks: Int64, offsets: Int64, ks: Sequence[int]) -> Float64:
    """Sum of the precision at each found target, over min(k, targets): `[B, K]`."""
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    ordered = ranks[np.lexsort((ranks, rows))]
    found_so_far = np.arange(1, len(ranks) + 1) - offsets[:-1][rows]
    places = np.minimum(np.diff(offsets)[:, None], np.asarray(ks)[None, :])
    values: Float64 = _per_k(ordered, offsets, ks, found_so_far / ordered) / places
    return values


def ranks_in(
    items: Int64, scores: npt.NDArray[np.floating], targets: Int64, offsets: Int64, k: int
) -> Int64:
    """Ranks `[M]` of targets in lists that a search found: as the evaluator ranks, ties included.

    A target's rank is the number of listed items scored as high as it or higher, whatever place it
    stands at itself; `MISS` where it is not listed, or its rank is beyond k. Give lists of k + 1:
    an item behind the k-th may be scored like it. Of items that a search has not found the scores
    are not known, so they count for nothing.

    Args:
        items: `[B, n]` listed, -1 where there is nothing more.
        scores: `[B, n]` theirs, descending.
        targets: `[M]`.
        offsets: `[B + 1]`.
        k: the largest rank that counts.
    """
    rows = np.repeat(np.arange(len(items)), np.diff(offsets))
    hits = items[rows] == targets[:, None]
    own = scores[rows, hits.argmax(axis=1)]
    ranks = ((scores[rows] >= own[:, None]) & (items[rows] >= 0)).sum(axis=1)
    return np.where(hits.any(axis=1) & (ranks <= k), ranks, MISS)


Metric = Callable[[Int64, Int64, Sequence[int]], Float64]
"""`(ranks [M], offsets [B + 1], ks) -> [B, K]`, a number for each user and cutoff.

Higher is better. The value at a cutoff k depends on ranks up to k alone.
"""


def _lacks(found: Any) -> list[str]:
    """What an object lacks to be a metric."""
    try:
        inspect.signature(found).bind(None, None, None)
    except (TypeError, ValueError):
        return ["a call as metric(ranks, offsets, ks) -> [B, K]"]
    return []


METRICS: Registry[Metric] = Registry(
    "metric",
    "recsys.metrics",
    {
        "recall": "recsys.evaluation.metrics:recall",
        "ndcg": "recsys.evaluation.metrics:ndcg",
        "mrr": "recsys.evaluation.metrics:mrr",
        "hit": "recsys.evaluation.metrics:hit",
        "map": "recsys.evaluation.metrics:average_precision",
        "precision": "recsys.evaluation.metrics:precision",
    },
    _lacks,
)
"""Every metric that is a mean over users, by name."""

DEFAULT_METRICS = ("recall", "ndcg", "mrr", "hit", "map")
"""What is always measured for a final table."""


def user_values(name: str, ranks: Int64, offsets: Int64, ks: Sequence[int]) -> Float64:
    """`[B, K]` values of the metric of that name.

    Raises:
        ConfigError: there is none, or it does not give one finite number for each user and cutoff.
    """
    values = np.asarray(METRICS.find(name)(ranks, offsets, ks), np.float64)
    wanted = (len(offsets) - 1, len(ks))
    if values.shape != wanted or not np.isfinite(values).all():
        raise ConfigError(
            f"metric {name} gave values of shape {values.shape}; finite ones of {wanted} are "
            "expected, one for each user and cutoff"
        )
    return values


def checked_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Each name once, in the order given.

    Raises:
        ConfigError: there is no metric of one of the names, or it cannot be used.
    """
    given = [names] if isinstance(names, str) else list(names)
    for name in given:
        METRICS.find(name)
    return tuple(dict.fromkeys(given))


SAME_OF_ONE_TARGET = {"hit": "recall", "map": "mrr"}
"""Metrics that are another one where every user has a single target."""


def _per_k(ranks: Int64, offsets: Int64, ks: Sequence[int], gains: Float64) -> Float64:
    """Sum of `gains` over each user's targets with rank <= k: `[B, K]`."""
    columns = [np.add.reduceat(np.where(ranks <= k, gains, 0.0), offsets[:-1]) for k in ks]
    return np.stack(columns, axis=1)


def coverage(counts: Int64) -> float:
    """Share of the catalogue that was recommended to anyone; `counts [N]` recommendations."""
    return float(np.count_nonzero(counts) / len(counts))


def gini(counts: Int64) -> float:
    """Inequality of the recommendations among the items of the catalogue.

    0: every item is recommended equally often; (N - 1) / N: one item takes them all. NaN where
    nothing was recommended.
    """
    total, num_items = counts.sum(), len(counts)
    if total == 0:
        return float("nan")
    places = 2.0 * np.arange(1, num_items + 1) - num_items - 1
    return float((places * np.sort(counts)).sum() / (num_items * float(total)))


def novelty(counts: Int64, popularity: Int64) -> float:
    """Mean self-information, in bits, of a recommended item.

    Args:
        counts: `[N]` how often each item was recommended.
        popularity: `[N]` its training interactions; one is added to each, so that an item that
            was never seen is very novel, not infinitely so.
    """
    if counts.sum() == 0:
        return float("nan")
    share = (popularity + 1.0) / (popularity.sum() + len(popularity))
    return float((counts * -np.log2(share)).sum() / float(counts.sum()))
