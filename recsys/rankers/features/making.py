"""Rows with features from requests: the one way, in training, in evaluation and in serving.

Shape legend: Q requests, K candidates, R rows, C numeric features, F categorical fields, N items.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np

from recsys.arrays import Int64
from recsys.data.histories import Histories
from recsys.progress import progress
from recsys.rankers.examples import Examples, Schema, joined
from recsys.rankers.features.columns import Block, Columns
from recsys.rankers.features.config import FeaturesConfig
from recsys.rankers.features.knowledge import Knowledge
from recsys.rankers.features.popularity import add_history, add_pairs, add_popularity
from recsys.rankers.features.requests import Requests
from recsys.rankers.features.scores import add_scores
from recsys.rankers.features.tables import add_context, add_items, add_users
from recsys.retrieval.funnel import Searchable

HISTORY = 50
"""Most recent items of a history that go along with the rows."""
_BLOCK = 1 << 14
"""Rows to work on at once."""
_LONG = 100
"""Blocks that take more than a few seconds."""
_GROUPS = (
    add_scores,
    add_popularity,
    add_pairs,
    add_history,
    add_items,
    add_users,
    add_context,
)


class FeatureMaker:
    """Turns requests into rows, by what is known at one moment."""

    def __init__(self, config: FeaturesConfig, knowledge: Knowledge, items: Searchable) -> None:
        """Args:
        config: the groups of features.
        knowledge: of the same items.
        items: what the funnel searches, whose vectors give the scores.
        """
        self.config, self.knowledge, self.items = config, knowledge, items
        columns = self._columns(_no_requests(items.items.dim))
        self.schema = Schema(
            numbers=tuple(columns.numbers),
            fields=tuple(field for _, field in columns.categories.values()),
            num_items=knowledge.num_items,
        )

    def examples(self, requests: Requests) -> Examples:
        """One row for each candidate, request by request in the funnel's order; without labels."""
        at_once = max(1, _BLOCK // max(1, requests.candidates.shape[1]))
        pieces = [
            np.arange(lo, min(lo + at_once, len(requests)))
            for lo in range(0, len(requests), at_once)
        ]
        parts = []
        with progress() if len(pieces) > _LONG else nullcontext() as bar:
            task = bar.add_task("features", total=len(pieces)) if bar else None
            for rows in pieces:
                parts.append(self._rows(requests.rows(rows)))
                if bar and task is not None:
                    bar.advance(task)
        return joined(parts) if parts else self._rows(requests)

    def _rows(self, requests: Requests) -> Examples:
        columns, present = self._columns(requests), requests.present
        numbers = np.empty((int(present.sum()), len(columns.numbers)), np.float32)
        for place, values in enumerate(columns.numbers.values()):
            numbers[:, place] = np.broadcast_to(values, present.shape)[present]
        fields = np.empty((len(numbers), len(columns.categories)), np.int32)
        for place, (codes, _) in enumerate(columns.categories.values()):
            fields[:, place] = np.broadcast_to(codes, present.shape)[present]
        recent = requests.histories.last(HISTORY)
        return Examples(
            numbers=numbers,
            fields=fields,
            offsets=_offsets(present.sum(axis=1)),
            items=requests.candidates[present].astype(np.int32),
            history_items=recent.items.astype(np.int32, copy=False),
            history_offsets=recent.offsets,
        )

    def _columns(self, requests: Requests) -> Columns:
        columns = Columns()
        block = Block(requests, self.config, self.knowledge, self.items)
        for add in _GROUPS:
            add(block, columns)
        return columns


def _offsets(lengths: Int64) -> Int64:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _no_requests(dim: int) -> Requests:
    """None at all: what columns there are does not depend on them."""
    nobody = np.empty(0, np.int64)
    histories = Histories(nobody, nobody.astype(np.int32), np.zeros(1, np.int64))
    return Requests(np.empty((0, dim), np.float32), histories, np.empty((0, 1), np.int64))
