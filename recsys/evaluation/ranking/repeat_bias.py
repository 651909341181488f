"""Ranking with a learned bias for items the user has had.

Items of the history are taken out of the scan, and put back with scores of their own.

Shape legend: B users of a batch, M targets or pairs, N items, G granularities, K kept.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch import Tensor

from recsys.arrays import Float32, Int32, Int64
from recsys.data.histories import Histories
from recsys.evaluation.ranking.blockwise import jagged_places
from recsys.evaluation.ranking.compiled import CompiledRanking
from recsys.evaluation.ranking.distributed import SharedRanking
from recsys.evaluation.ranking.scorer import BlockScores
from recsys.kernels.rank_order import NOTHING, key_of, levels_of


class RepeatRanking:
    """Another ranking with the bias added, for one batch of users."""

    def __init__(
        self,
        ranking: CompiledRanking | SharedRanking,
        histories: Histories,
        bias: Float32,
    ) -> None:
        """Args:
        ranking: scores by vectors.
        histories: B of them; what each user has had.
        bias: `[G, B]` what is added to the scores of that.
        """
        self._ranking, self._bias, self._num_users = ranking, bias, len(histories)
        self.num_items = ranking.num_items
        self._had = _pairs(histories, self.num_items)

    def pair_scores(self, users: Tensor, rows: Int64, items: Int32) -> Float32:
        """See `CompiledRanking`."""
        again = np.isin(rows * self.num_items + items, self._had)
        found = self._ranking.pair_scores(users, rows, items)
        return np.where(again, found + self._bias[:, rows], found)

    def count_ranks(self, users: Tensor, targets: Histories, seen: Histories) -> Int64:
        """See `CompiledRanking`."""
        own = self.pair_scores(users, np.arange(len(users)), targets.items)
        rows, items = self._shown(seen)
        counts = self._ranking.count_ranks(users, targets, self._with_had(seen), own=own)
        reached = self.pair_scores(users, rows, items) >= own[:, rows]
        for g, flags in enumerate(reached):
            counts[g] += np.bincount(rows[flags], minlength=len(users))
        return counts

    def best(self, users: Tensor, seen: Histories, keep: int) -> Int64:
        """See `CompiledRanking`."""
        keys = self._ranking.best(users, self._with_had(seen), keep)
        rows, items = self._shown(seen)
        places = np.arange(len(rows)) - np.searchsorted(rows, rows)
        longest = int(places.max(initial=-1)) + 1
        scores = self.pair_scores(users, rows, items)
        for g, of_size in enumerate(keys):
            had = np.full((len(of_size), longest), NOTHING)
            had[rows, places] = key_of(levels_of(scores[g]), items.astype(np.int64))
            both = np.concatenate([of_size, had], axis=1)
            keys[g] = np.sort(both, axis=1)[:, ::-1][:, :keep]
        return keys

    def _shown(self, seen: Histories) -> tuple[Int64, Int32]:
        """Rows, ascending, and items of what users have had, without what is hidden."""
        pairs = np.setdiff1d(self._had, _pairs(seen, self.num_items), assume_unique=True)
        return pairs // self.num_items, (pairs % self.num_items).astype(np.int32)

    def _with_had(self, seen: Histories) -> Histories:
        pairs = np.union1d(self._had, _pairs(seen, self.num_items))
        offsets = np.searchsorted(pairs, np.arange(self._num_users + 1) * self.num_items)
        return Histories(seen.users, (pairs % self.num_items).astype(np.int32), offsets)


def with_repeats(blocks: BlockScores, histories: Histories, bias: Tensor) -> BlockScores:
    """Block scores with `bias [G, B]` added where the item is one that the user has had."""
    had = jagged_places(histories.items, histories.offsets, bias.device)

    def block(lo: int, hi: int) -> Iterator[Tensor]:
        _, rows, columns = had.within(lo, hi)
        for scores, added in zip(blocks(lo, hi), bias, strict=True):
            biased = scores.clone()
            biased[rows, columns] = (
                scores[rows, columns] + added[rows]
            )  # written, not added: once each
            yield biased

    return block


def _pairs(histories: Histories, num_items: int) -> npt.NDArray[np.int64]:
    """`row * N + item`, distinct and ascending."""
    rows = np.repeat(np.arange(len(histories)), histories.lengths)
    return np.unique(rows * num_items + histories.items)
