"""Ranking by compiled kernels: float32 vectors on a CPU.

Shape legend: B users of a batch, M targets, N items, G granularities, D coordinates, K kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from recsys.arrays import Float32, Int64
from recsys.data.histories import Histories
from recsys.granularity import Granularities
from recsys.kernels import ranking
from recsys.kernels.lanes import LANES
from recsys.kernels.logsumexp import SWEEP_COLUMNS
from recsys.kernels.products import ROWS
from recsys.kernels.rank_order import NOTHING
from recsys.kernels.threads import run_shares, shares
from recsys.prefixes import prefix_norms

BATCH_USERS = 1024
"""Enough that making tiles of the item vectors is a small part of multiplying them."""
SPARE_PLACES = 896
"""Places of a list beside the K kept: how often it is shortened while it is made."""


class CompiledRanking:
    """Item vectors prepared for ranking by the compiled kernels."""

    def __init__(
        self, items: torch.Tensor, granularities: Granularities, budget_bytes: int
    ) -> None:
        """`items [N, >= D]` float32 on a CPU; `budget_bytes` bounds the lists being made."""
        dim = granularities.embedding_dim
        self.num_items, self.dim, self.budget_bytes = len(items), dim, budget_bytes
        self.items = np.ascontiguousarray(items[:, :dim].numpy()).ravel()
        self.edges = np.array([0, *granularities.sizes])
        self.factors = np.ones((len(granularities), len(items)), np.float32)
        if granularities.normalize:
            self.factors = (1.0 / prefix_norms(items, granularities)).numpy()

    def count_ranks(
        self,
        users: torch.Tensor,
        targets: Histories,
        seen: Histories,
        own: Float32 | None = None,
    ) -> Int64:
        """Ranks `[G, B]` of one target per user: the unseen items scored as high or higher.

        A target that is itself among the seen items is not told apart here. `own [G, B]`: the
        scores of the targets, where they are known and the targets are not items of these.
        """
        batch = _Batch.of(users, self.dim, seen)
        if own is None:
            own = self.pair_scores(users, np.arange(len(users)), targets.items)
        missing = batch.num_users - len(users)
        own = np.pad(own, ((0, 0), (0, missing)), constant_values=np.inf)
        parts = shares(-(-self.num_items // SWEEP_COLUMNS))
        counts = np.zeros((len(parts), *own.shape), np.int64)

        def count(number: int, part: tuple[int, int]) -> None:
            ranking.count_better(
                batch.vectors, self.items, self.factors.ravel(), own.ravel(),
                batch.seen, batch.seen_offsets, self.edges, part, counts[number].ravel(),
            )  # fmt: skip

        run_shares(count, parts)
        total: Int64 = counts.sum(0)[:, : len(users)]
        return total

    def pair_scores(
        self, users: torch.Tensor, rows: Int64, items: npt.NDArray[np.int32]
    ) -> Float32:
        """`[G, M]` scores of pairs, with the very bits they have in ranks and lists."""
        found = np.empty((len(self.edges) - 1, len(rows)), np.float32)
        ranking.pair_scores(
            _flat(users, self.dim), self.items, self.factors.ravel(), self.num_items,
            rows, items.astype(np.int64), self.edges, found.ravel(),
        )  # fmt: skip
        return found

    def best(self, users: torch.Tensor, seen: Histories, keep: int) -> Int64:
        """`[G, B, keep]` keys of the best unseen items, best first (`rank_order.py`)."""
        num_sizes = len(self.edges) - 1
        room = -(-keep // LANES) * LANES + SPARE_PLACES
        most = max(ROWS, self.budget_bytes // (8 * num_sizes * room) // ROWS * ROWS)
        batch = _Batch.of(users, self.dim, seen)
        found = np.full((num_sizes, batch.num_users, keep), NOTHING)

        # Each thread has users of its own: their lists grow over all items and are never merged.
        def collect(_: int, part: tuple[int, int]) -> None:
            step = max(ROWS, most // len(parts) // ROWS * ROWS)
            for lo in range(part[0] * ROWS, part[1] * ROWS, step):
                rows = slice(lo, min(lo + step, part[1] * ROWS))
                found[:, rows] = self._best(batch, rows, keep, room)

        parts = shares(batch.num_users // ROWS)
        run_shares(collect, parts)
        return found[:, : len(users)]

    def _best(self, batch: _Batch, rows: slice, keep: int, room: int) -> Int64:
        num_sizes, num_users = len(self.edges) - 1, rows.stop - rows.start
        lengths = np.zeros(num_sizes * num_users, np.int64)
        scores = np.empty(len(lengths) * room, np.float32)
        numbers = np.empty_like(scores)
        ranking.collect_best(
            batch.vectors[rows.start * self.dim : rows.stop * self.dim], self.items,
            self.factors.ravel(), batch.seen, batch.seen_offsets[rows.start : rows.stop + 1],
            self.edges, keep, room, lengths, scores, numbers,
        )  # fmt: skip
        keys = np.full((len(lengths), ranking.longest_list(keep)), ~NOTHING)
        ranking.write_keys(scores.view(np.int32), numbers.view(np.int32), lengths, room, keys)
        keys.sort(axis=1)
        return ~keys[:, :keep].reshape(num_sizes, num_users, keep)


@dataclass(frozen=True)
class _Batch:
    """Users in the form the kernels expect: padded to a multiple of eight, flat."""

    vectors: Float32
    """`[B' * D]`; zeros for the users that are none."""
    seen: npt.NDArray[np.int32]
    """Ascending for each user."""
    seen_offsets: Int64
    """`[B' + 1]`."""

    @property
    def num_users(self) -> int:
        """B'."""
        return len(self.seen_offsets) - 1

    @staticmethod
    def of(users: torch.Tensor, dim: int, seen: Histories) -> _Batch:
        """Pads `users [B, >= D]` and sorts the items they have seen."""
        missing = -len(users) % ROWS
        vectors = np.concatenate([_flat(users, dim), np.zeros(missing * dim, np.float32)])
        rows = np.repeat(np.arange(len(seen)), seen.lengths)
        ordered = seen.items[np.lexsort((seen.items, rows))]
        return _Batch(vectors, ordered, np.pad(seen.offsets, (0, missing), mode="edge"))


def _flat(vectors: torch.Tensor, dim: int) -> Float32:
    return np.ascontiguousarray(vectors[:, :dim].numpy()).ravel()
