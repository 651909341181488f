"""Lists of one batch of users with their scores, and scores of pairs, whatever the model.

Lists are those of `rank_batch`, at the last granularity.

Shape legend: B users of the batch, N items, G granularities, K length of the lists, M pairs.
"""

from __future__ import annotations

import numpy as np
import torch

from recsys.arrays import Float32, Int64
from recsys.data.histories import Histories
from recsys.devices import to_indices
from recsys.evaluation.ranking.blockwise import Shape, jagged_places, top_ranks
from recsys.evaluation.ranking.repeat_bias import RepeatRanking
from recsys.evaluation.ranking.scorer import Scorer, SharedScorer, VectorScorer
from recsys.evaluation.ranking.shared_scores import list_shared, shared_pair_scores
from recsys.kernels.rank_order import level_of, scores_of_levels


def scored_lists(
    scorer: Scorer, histories: Histories, had: Histories, hidden: Histories, k: int
) -> tuple[Int64, Float32]:
    """The best `[B, <= K]` items and their scores; -1 and -inf behind the end of a list.

    Args:
        scorer: of the model.
        histories: B of them, as the model reads them.
        had: the items of the histories among those that are scored.
        hidden: `had` itself, or what of it is taken out of the ranking.
        k: K.
    """
    if isinstance(scorer, VectorScorer) and scorer.compiled is not None:
        users, ranking = scorer.users(histories), scorer.compiled
        if scorer.repeat_bias is not None and hidden is not had:
            biased = RepeatRanking(ranking, had, scorer.repeat_bias(users).numpy())
            keys = biased.best(users, hidden, k)[-1]
        else:
            keys = ranking.best(users, hidden, k)[-1]
        # The lower half of an inverted key is the item, and -1 of one that is none.
        items = (~keys).astype(np.int32).astype(np.int64)
        return items, np.where(items < 0, -np.inf, scores_of_levels(level_of(keys))).astype(
            np.float32
        )
    if isinstance(scorer, SharedScorer):
        own = scorer.own(histories)
        items = list_shared(scorer.shared, own, hidden, k).astype(np.int64)
        rows = np.repeat(np.arange(len(items)), items.shape[1])
        found = shared_pair_scores(scorer.shared, own, rows, items.ravel().clip(0))
        return items, np.where(items < 0, -np.inf, found.reshape(items.shape)).astype(np.float32)
    return _by_blocks(scorer, histories, hidden, k)


def _by_blocks(
    scorer: Scorer, histories: Histories, hidden: Histories, k: int
) -> tuple[Int64, Float32]:
    shape = Shape(len(scorer.sizes), len(histories), scorer.num_items, scorer.width)
    nothing = hidden.last(0)
    wanted, seen = (
        jagged_places(each.items, each.offsets, scorer.device) for each in (nothing, hidden)
    )
    blocks = scorer.blocks(histories)
    _, lists = top_ranks(blocks, shape, wanted, seen, k)
    items = lists[-1].cpu().numpy()
    scores = torch.full(items.shape, -torch.inf)
    for lo, hi in shape.spans():
        *_, last = blocks(lo, hi)
        rows, places = np.nonzero((items >= lo) & (items < hi))
        at = (to_indices(rows, last.device), to_indices(items[rows, places] - lo, last.device))
        scores[to_indices(rows), to_indices(places)] = last[at].cpu()
    return items, scores.numpy()


def score_pairs(scorer: Scorer, histories: Histories, rows: Int64, items: Int64) -> Float32:
    """`[M]` scores of `items [M]` for the histories in `rows [M]`, with the bits of the lists."""
    if isinstance(scorer, VectorScorer) and scorer.compiled is not None:
        users = scorer.users(histories)
        found: Float32 = scorer.compiled.pair_scores(users, rows, items.astype(np.int32))[-1]
        return found
    if isinstance(scorer, SharedScorer):
        return shared_pair_scores(scorer.shared, scorer.own(histories), rows, items)
    blocks, scores = scorer.blocks(histories), np.empty(len(rows), np.float32)
    for lo in range(0, scorer.num_items, scorer.width):
        *_, last = blocks(lo, min(lo + scorer.width, scorer.num_items))
        mine = np.flatnonzero((items >= lo) & (items < lo + scorer.width))
        at = (to_indices(rows[mine], last.device), to_indices(items[mine] - lo, last.device))
        scores[mine] = last[at].cpu().numpy()
    return scores
