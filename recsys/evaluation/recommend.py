"""Recommendations of a model, by the same ranking as its figures.

Shape legend: B users, N items, G granularities, K length of the lists, M pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.data.histories import Histories
from recsys.devices import reading
from recsys.errors import DataError
from recsys.evaluation.ranking.allowed_items import histories_of_some, model_of_some
from recsys.evaluation.ranking.make_scorer import DEFAULT_BUDGET, make_scorer
from recsys.evaluation.ranking.scored_lists import score_pairs, scored_lists
from recsys.granularity import Granularities
from recsys.model_protocols import ScoreModel, VectorModel
from recsys.retrieval.checks import checked_count, checked_jagged


@dataclass(frozen=True)
class Lists:
    """What is recommended, best first, equals by item index."""

    items: Int64
    """`[B, K]` item indices; -1 where nothing more can be recommended."""
    scores: Float32
    """`[B, K]`; -inf where nothing more can be recommended."""


class Recommendations:
    """A model made ready once, to make lists for any number of batches."""

    def __init__(
        self,
        model: VectorModel | ScoreModel,
        num_items: int,
        *,
        granularities: Granularities | None = None,
        allowed: Int64 | None = None,
        budget_bytes: int = DEFAULT_BUDGET,
    ) -> None:
        """Takes the item vectors.

        Args:
            model: in evaluation mode.
            num_items: N.
            granularities: rank by the last of these instead of the model's full width;
                what it does not name, such as `normalize`, is the model's own.
            allowed: ascending indices, the only items that are recommended; None: all.
            budget_bytes: for blocks of scores.

        Raises:
            GranularityError: the model cannot be cut there.
            RunError: the model is of another catalogue or gives no finite numbers.
        """
        self._num_items, self._allowed = num_items, allowed
        ranked = model if allowed is None else model_of_some(model, allowed)
        self._model = model
        with reading(model):
            self._scorer = make_scorer(
                ranked,
                num_items if allowed is None else len(allowed),
                granularities=granularities,
                budget_bytes=budget_bytes,
            )

    def lists(self, histories: Histories, k: int, *, filter_seen: bool) -> Lists:
        """The best k for each history.

        Args:
            histories: B of them, each at least one interaction long, unless columns tell of the
                user (`added`).
            k: K.
            filter_seen: leave out the items of the history.

        Raises:
            DataError: a history is empty, or holds an item outside 0..N-1.
            ConfigError: k is no whole number of 1 or more.
        """
        k = checked_count(k, "k")
        _check(histories, self._num_items)
        size = (len(histories), k)
        lists = Lists(np.full(size, -1, np.int64), np.full(size, -np.inf, np.float32))
        # Neighbours in length share a batch: what is padded, is padded little.
        order = np.argsort(histories.lengths, kind="stable")
        with reading(self._model):
            for rows in self._scorer.batches(order):
                batch = histories.rows(rows)
                had = self._inside(batch)
                hidden = had if filter_seen else had.last(0)
                items, scores = scored_lists(self._scorer, batch, had, hidden, k)
                lists.items[rows, : items.shape[1]] = self._outside(items)
                lists.scores[rows, : items.shape[1]] = scores
        return lists

    def pair_scores(self, histories: Histories, rows: Int64, items: Int64) -> Float32:
        """`[M]` scores of `items [M]` for the histories in `rows [M]`.

        Items of a model that has been cut to some are places among these.
        """
        found = np.empty(len(rows), np.float32)
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        with reading(self._model):
            for batch in self._scorer.batches(np.arange(len(histories))):
                lo, hi = np.searchsorted(ordered, [batch[0], batch[-1] + 1])
                mine = order[lo:hi]
                if len(mine):
                    found[mine] = score_pairs(
                        self._scorer, histories.rows(batch), rows[mine] - batch[0], items[mine]
                    )
        return found

    def _inside(self, histories: Histories) -> Histories:
        if self._allowed is None:
            return histories
        return histories_of_some(histories, self._allowed, self._num_items)

    def _outside(self, places: Int64) -> Int64:
        if self._allowed is None or not len(self._allowed):
            return places
        return np.where(places < 0, -1, self._allowed[places])


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
        ConfigError: k is not a whole number of 1 or more.
        GranularityError: the model cannot be cut there.
        RunError: the model is of another catalogue or gives no finite numbers.
    """
    k = checked_count(k, "k")
    _check(histories, num_items)
    ready = Recommendations(
        model, num_items, granularities=granularities, budget_bytes=budget_bytes
    )
    return ready.lists(histories, k, filter_seen=filter_seen).items


def _check(histories: Histories, num_items: int) -> None:
    checked_jagged(histories.items, histories.offsets, num_items, "histories", len(histories))
    empty = np.flatnonzero(histories.lengths == 0)
    if len(empty) and histories.added is None:
        raise DataError(
            f"the history in row {empty[0]} is empty, {len(empty):,} in all; a list starts from an "
            "item: leave these users out, or give them popular items"
        )
