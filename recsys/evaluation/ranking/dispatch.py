"""Ranks and lists of a batch of users, by the compiled, blockwise or shared ranker.

Shape legend: B users of the batch, M targets (jagged), G granularities, K length of the lists.
"""

from __future__ import annotations

import numpy as np
import torch

from recsys.arrays import Int32, Int64
from recsys.data.histories import Histories
from recsys.evaluation.metrics import MISS
from recsys.evaluation.ranking.blockwise import (
    Shape,
    count_ranks,
    jagged_places,
    refuse_nan,
    top_ranks,
)
from recsys.evaluation.ranking.compiled import CompiledRanking
from recsys.evaluation.ranking.distributed import SharedRanking
from recsys.evaluation.ranking.repeat_bias import RepeatRanking
from recsys.evaluation.ranking.scorer import Scorer, SharedScorer, VectorScorer
from recsys.evaluation.ranking.shared_scores import list_shared, rank_shared
from recsys.kernels.rank_order import levels_of
from recsys.kernels.ranking import count_levels


def rank_batch(
    scorer: Scorer, histories: Histories, targets: Histories, hidden: Histories, k: int | None
) -> tuple[Int64, Int32 | None]:
    """Where the targets stand in the whole catalogue, and what stands first.

    Args:
        scorer: of the model.
        histories: B of them.
        targets: what is to be found (any number for each user).
        hidden: items that are taken out of the ranking.
        k: make lists of this length; None: rank by counting, one target per user.

    Returns:
        `(ranks [G, M], lists [G, B, <= k])`: with lists, ranks beyond k are `MISS`; -1 in a list
        where it has come to its end.

    Raises:
        RunError: a target's score is NaN.
    """
    if isinstance(scorer, VectorScorer) and scorer.compiled is not None:
        return _by_kernels(scorer, scorer.compiled, histories, targets, hidden, k)
    if isinstance(scorer, SharedScorer):
        own = scorer.own(histories)
        found = rank_shared(scorer.shared, own, targets, hidden)[None]
        if k is None:
            return found, None
        listed = list_shared(scorer.shared, own, hidden, k)[None]
        return np.where(found > k, MISS, found), listed
    shape = Shape(len(scorer.sizes), len(histories), scorer.num_items, scorer.width)
    wanted = jagged_places(targets.items, targets.offsets, scorer.device)
    seen = jagged_places(hidden.items, hidden.offsets, scorer.device)
    if k is None:
        return count_ranks(scorer.blocks(histories), shape, wanted, seen).cpu().numpy(), None
    ranks, lists = top_ranks(scorer.blocks(histories), shape, wanted, seen, k)
    return ranks.cpu().numpy(), lists.to(torch.int32).cpu().numpy()


def _by_kernels(
    scorer: VectorScorer,
    vectors: CompiledRanking | SharedRanking,
    histories: Histories,
    targets: Histories,
    hidden: Histories,
    k: int | None,
) -> tuple[Int64, Int32 | None]:
    users = scorer.users(histories)
    ranking: CompiledRanking | SharedRanking | RepeatRanking = vectors
    if scorer.repeat_bias is not None and hidden is not histories:
        ranking = RepeatRanking(vectors, histories, scorer.repeat_bias(users).numpy())
    rows = np.repeat(np.arange(len(targets)), targets.lengths)
    lost = _among(rows, targets.items, hidden, scorer.num_items)
    if k is None:
        counts = ranking.count_ranks(users, targets, hidden)
        refuse_nan(bool(((counts == 0) & ~lost).any()))  # whatever is a number reaches itself
        return np.where(lost, MISS, counts), None
    keys = ranking.best(users, hidden, k + 1)
    own = ranking.pair_scores(users, rows, targets.items)
    refuse_nan(bool(np.isnan(own).any()))
    levels = levels_of(own)
    ranks = np.empty_like(levels)
    for of_size, level, rank in zip(keys, levels, ranks, strict=True):
        count_levels(of_size, rows, level, rank)
    # The lower half of an inverted key is the item, and -1 of one that is none.
    lists = (~keys[:, :, :k]).astype(np.int32)
    return np.where(lost | (ranks > k), MISS, ranks), lists


def _among(
    rows: Int64,
    items: np.ndarray[tuple[int], np.dtype[np.int32]],
    others: Histories,
    num_items: int,
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """`[M]` is the pair (row, item) one of `others` as well?"""
    other_rows = np.repeat(np.arange(len(others)), others.lengths)
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = np.isin(
        rows * num_items + items, other_rows * num_items + others.items
    )
    return found
