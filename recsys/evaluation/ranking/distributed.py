"""Distributed ranking: each process scores a share of the catalogue.

The results are those of one process, to the bit: a user's vector is made by one process and told to
the others, ranks are sums of counts, and lists are merged by keys that order scores and items.

Shape legend: B users of a batch, M targets, N items, G granularities, K kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys.arrays import Float32, Int64
from recsys.data.histories import Histories
from recsys.devices import HOST
from recsys.evaluation.ranking.compiled import CompiledRanking
from recsys.granularity import Granularities
from recsys.kernels.rank_order import NOTHING
from recsys.processes import Processes

Numbers = TypeVar("Numbers", npt.NDArray[np.int64], npt.NDArray[np.float32])


@runtime_checkable
class RowVectors(Protocol):
    """A model that can compute the vectors of some items alone."""

    def item_vectors_at(self, items: Tensor) -> Tensor:
        """`[R]` int64 -> `[R, D]`; all processes call it together, with items of their own."""
        ...


class SharedRanking:
    """Like `CompiledRanking`, where each process holds a share of the catalogue."""

    def __init__(
        self,
        items: Tensor,
        num_items: int,
        granularities: Granularities,
        budget_bytes: int,
        processes: Processes,
    ) -> None:
        """Args:
        items: `[n, >= D]` of this process's share of the catalogue.
        num_items: N.
        granularities: the prefixes to rank by.
        budget_bytes: bounds the lists being made.
        processes: among whom the catalogue is shared.
        """
        self._processes, self.num_items = processes, num_items
        self._lo, self._hi = processes.share(num_items)
        self._own = CompiledRanking(items, granularities, budget_bytes)
        self._num_sizes = len(granularities)

    def count_ranks(
        self, users: Tensor, targets: Histories, seen: Histories, own: Float32 | None = None
    ) -> Int64:
        """See `CompiledRanking`."""
        if own is None:
            own = self.pair_scores(users, np.arange(len(users)), targets.items)
        if self._lo == self._hi:
            counts = np.zeros(own.shape, np.int64)
        else:
            counts = self._own.count_ranks(users, targets, self._within(seen), own=own)
        return self._sum(counts)

    def pair_scores(self, users: Tensor, rows: Int64, items: npt.NDArray[np.int32]) -> Float32:
        """See `CompiledRanking`; whoever has the item knows the score."""
        mine = (items >= self._lo) & (items < self._hi)
        found = np.zeros((self._num_sizes, len(items)), np.float32)
        if mine.any():
            found[:, mine] = self._own.pair_scores(users, rows[mine], items[mine] - self._lo)
        return self._sum(found)

    def best(self, users: Tensor, seen: Histories, keep: int) -> Int64:
        """See `CompiledRanking`."""
        keys = np.full((self._num_sizes, len(users), keep), NOTHING)
        if self._lo < self._hi:
            found = self._own.best(users, self._within(seen), keep)
            keys = np.where(found == NOTHING, NOTHING, found - self._lo)  # their items, from here
        gathered = self._processes.gather(torch.from_numpy(keys))
        merged = torch.cat(gathered, dim=2).topk(keep, dim=2).values
        ordered: Int64 = merged.numpy()
        return ordered

    def _within(self, seen: Histories) -> Histories:
        """Those of the items that stand in this share, counted from its start."""
        mine = (seen.items >= self._lo) & (seen.items < self._hi)
        before = np.concatenate([[0], np.cumsum(mine)])
        return Histories(seen.users, seen.items[mine] - self._lo, before[seen.offsets])

    def _sum(self, numbers: Numbers) -> Numbers:
        """Over all processes, in place."""
        self._processes.sum(torch.from_numpy(numbers))
        return numbers


def shared_items(model: RowVectors | object, num_items: int, processes: Processes) -> Tensor | None:
    """`[n, D]` float32 vectors of this process's share of the catalogue; None: not to be had."""
    lo, hi = processes.share(num_items)
    if not isinstance(model, RowVectors):
        return None
    device = getattr(model, "device", HOST)
    return model.item_vectors_at(torch.arange(lo, hi, device=device)).float()


def shared_users(
    user_vectors: Callable[[Histories], Tensor], processes: Processes
) -> Callable[[Histories], Tensor]:
    """Each process makes the vectors of a share of the users, and all get all of them, `[B, D]`."""

    def gathered(histories: Histories) -> Tensor:
        lo, hi = processes.share(len(histories))
        # A process without a user of its own still takes part: others look up rows that it holds.
        rows = np.arange(lo, hi) if lo < hi else np.arange(1)
        vectors = user_vectors(histories.rows(rows))[: hi - lo]
        return torch.cat(processes.gather(vectors))

    return gathered
