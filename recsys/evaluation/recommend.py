"""Recommendations of a model, by the same ranking as its figures."""

from __future__ import annotations

import numpy as np
import torch

from recsys.arrays import Int64
from recsys.data.histories import Histories
from recsys.errors import DataError
from recsys.evaluation.ranking.dispatch import rank_batch
from recsys.evaluation.ranking.make_scorer import DEFAULT_BUDGET, make_scorer
from recsys.granularity import Granularities
from recsys.model_protocols import ScoreModel, VectorModel
from recsys.retrieval.checks import checked_count, checked_jagged


def recommend(
    model: VectorModel | ScoreModel,
    histories: Histories,
    num_items: int,
    *,
    k: int,
    filter_seen: bool,
    granularities: Granularities | None = None,
    budget_bytes: int = DEFAULT_BUDGET,
) -> Int64:
    """The best k of the whole catalogue for each history, best first, equals by item index.

    Args:
        model: in evaluation mode.
        histories: B of them, each at least one interaction long.
        num_items: N.
        k: length of the lists.
        filter_seen: leave out the items of the history.
        granularities: rank by the last of these instead of the model's full width;
            what it does not name, such as `normalize`, is the model's own.
        budget_bytes: for blocks of scores.

    Returns:
        `[B, k]` item indices; -1 where nothing more can be recommended.

    Raises:
        DataError: a history is empty, or holds an item outside 0..N-1.
        ConfigError: k is no whole number of 1 or more.
        GranularityError: the model cannot be cut there.
        RunError: the model is of another catalogue or gives no finite numbers.
    """
    k = checked_count(k, "k")
    _check(histories, num_items)
    lists = np.full((len(histories), k), -1, np.int64)
    with torch.inference_mode():
        scorer = make_scorer(
            model, num_items, granularities=granularities, budget_bytes=budget_bytes
        )
        for rows in scorer.batches(np.arange(len(histories))):
            batch = histories.rows(rows)
            nothing = batch.last(0)
            _, found = rank_batch(scorer, batch, nothing, batch if filter_seen else nothing, k)
            if found is not None:
                lists[rows, : found.shape[2]] = found[-1]
    return lists


def _check(histories: Histories, num_items: int) -> None:
    checked_jagged(histories.items, histories.offsets, num_items, "histories", len(histories))
    empty = np.flatnonzero(histories.lengths == 0)
    if len(empty):
        raise DataError(
            f"the history in row {empty[0]} is empty, {len(empty):,} in all; a list starts from an "
            "item: leave these users out, or give them popular items"
        )
