"""Ranks of targets among the whole catalogue, without ever holding its scores.

Two ways that agree: `count_ranks` (one target per user: its rank is the number of items scored
as high) and `top_ranks` (any number of targets, and the recommended items as well).

Shape legend: B users of the batch, M targets, S seen items, G granularities, N items, K kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys.data.dataset import Int32, Int64
from recsys.evaluation.metrics import MISS
from recsys.evaluation.scoring import BlockScores

_LOW_BITS = 0xFFFFFFFF
_HIDDEN = torch.iinfo(torch.int64).min
_UNSCORED = -2139095041
"""`_levels` of -inf."""


@dataclass(frozen=True)
class Shape:
    """The extent of the scores that are ranked."""

    sizes: int
    """G, the number of granularities."""
    num_users: int
    num_items: int
    width: int
    """Items in a block."""

    def spans(self) -> Iterator[tuple[int, int]]:
        """The blocks `[lo, hi)` of the catalogue."""
        for lo in range(0, self.num_items, self.width):
            yield lo, min(lo + self.width, self.num_items)


@dataclass(frozen=True)
class Places:
    """(row, item) pairs of a batch: its seen items, or its targets."""

    rows: Tensor
    """`[S]` int64 rows of the batch, in the order of `items`."""
    items: Tensor
    """`[S]` int64, ascending."""
    order: Tensor
    """`[S]` int64: where each pair stood when it was given."""

    def within(self, lo: int, hi: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs of the items `lo..hi-1`: given order, rows, columns in the block of these items."""
        edges = torch.tensor([lo, hi], device=self.items.device)
        first, last = torch.searchsorted(self.items, edges).tolist()
        return self.order[first:last], self.rows[first:last], self.items[first:last] - lo

    def among(self, others: Places, num_items: int) -> Tensor:
        """`[M]` bool, in the order these pairs were given: is the pair one of `others` as well?"""
        inside = torch.isin(
            self.rows * num_items + self.items, others.rows * num_items + others.items
        )
        return torch.empty_like(inside).index_copy_(0, self.order, inside)


def make_places(rows: npt.NDArray[Any], items: npt.NDArray[Any], device: torch.device) -> Places:
    """Sorts pairs `rows [S]`, `items [S]` by item."""
    order = np.argsort(items, kind="stable")
    columns = (rows[order], items[order], order)
    return Places(*(torch.from_numpy(column.astype(np.int64)).to(device) for column in columns))


def jagged_places(items: Int32, offsets: Int64, device: torch.device) -> Places:
    """The pairs of `items [S]`, those of row b at `offsets[b]:offsets[b + 1]`."""
    return make_places(np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)), items, device)


def count_ranks(blocks: BlockScores, shape: Shape, targets: Places, seen: Places) -> Tensor:
    """Ranks of one target per user (given in row order), by counting the items scored as high.

    The target's own score must be known before anything is compared with it, and must be the very
    number that stands in the block, or ties would be decided by rounding. So the blocks that hold
    targets are computed once more, unless one block holds them all; users ordered by target keep
    them few.

    Returns:
        `[G, B]` int64, exact up to N; `MISS` where the target cannot be recommended.
    """
    own = torch.full((shape.sizes, shape.num_users), torch.nan, device=seen.rows.device)
    counts = torch.zeros_like(own, dtype=torch.int64)
    spans = list(shape.spans())
    holding = [span for span in spans if len(targets.within(*span)[0])]
    if len(holding) > 1:
        for span in holding:
            for g, scores in enumerate(blocks(*span)):
                _take(own[g], scores, targets.within(*span))
    for lo, hi in holding + [span for span in spans if span not in set(holding)]:
        _, seen_rows, seen_columns = seen.within(lo, hi)
        above = counts.new_zeros((shape.num_users, -(-(hi - lo) // 8) * 8), dtype=torch.bool)
        for g, scores in enumerate(blocks(lo, hi)):
            if [(lo, hi)] == holding:
                _take(own[g], scores, targets.within(lo, hi))
            torch.ge(scores, own[g][:, None], out=above[:, : hi - lo])
            above[seen_rows, seen_columns] = False
            counts[g] += count_true(above)
    hidden = (own == -torch.inf) | targets.among(seen, shape.num_items)
    return counts.masked_fill_(hidden, MISS)


def _take(own: Tensor, scores: Tensor, places: tuple[Tensor, Tensor, Tensor]) -> None:
    """Writes the targets' scores of a block into `own [B]`."""
    _, rows, columns = places
    own[rows] = scores[rows, columns]


def count_true(flags: Tensor) -> Tensor:
    """Number of True in each row of `flags [B, 8 * n]`, n <= 255: `[B]` int64.

    Eight flags are added in one go, as the bytes of an int64; no byte can overflow within 255
    summands. A plain sum of bools first writes every one of them as an int64.
    """
    lanes = flags.view(torch.int64).sum(1, keepdim=True)
    return lanes.view(torch.uint8).sum(1)


def top_ranks(
    blocks: BlockScores, shape: Shape, targets: Places, seen: Places, k: int
) -> tuple[Tensor, Tensor]:
    """Ranks of any number of targets and the recommended items, from running lists of k + 1.

    An item's key is its score in the upper and its index in the lower 32 bits, so lists do not
    depend on how items were blocked: equal scores are listed by item index.

    Returns:
        `(ranks [G, M] int64, items [G, B, <= k] int64)`: ranks beyond k are `MISS`, and an item is
        -1 where a list has come to its end.
    """
    levels = targets.rows.new_empty((shape.sizes, len(targets.rows)))
    best: list[Tensor | None] = [None] * shape.sizes
    for lo, hi in shape.spans():
        _, seen_rows, seen_columns = seen.within(lo, hi)
        given, rows, columns = targets.within(lo, hi)
        for g, scores in enumerate(blocks(lo, hi)):
            keys = _keys(scores, lo)
            levels[g, given] = keys[rows, columns] >> 32
            keys[seen_rows, seen_columns] = _HIDDEN
            best[g] = _merge(best[g], keys, k + 1)
    lists = torch.stack([keys for keys in best if keys is not None])
    rows_as_given = torch.empty_like(targets.rows).index_copy_(0, targets.order, targets.rows)
    ranks = (lists[:, rows_as_given] >> 32 >= levels[:, :, None]).sum(2)
    lost = (ranks > k) | (levels <= _UNSCORED) | targets.among(seen, shape.num_items)
    items = torch.where(lists >> 32 > _UNSCORED, _LOW_BITS - (lists & _LOW_BITS), -1)
    return ranks.masked_fill_(lost, MISS), items[:, :, :k]


def _keys(scores: Tensor, first_item: int) -> Tensor:
    """`[B, W]` int64 keys that sort like (score, lower item index first)."""
    bits = (scores + 0.0).view(torch.int32)  # adding 0 turns -0 into 0: they are the same score
    levels = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # negative floats sort backwards by their bits
    items = torch.arange(first_item, first_item + scores.shape[1], device=scores.device)
    return (levels.to(torch.int64) << 32) | (_LOW_BITS - items)


def _merge(best: Tensor | None, keys: Tensor, keep: int) -> Tensor:
    top = keys.topk(min(keep, keys.shape[1]), dim=1).values
    if best is None:
        return top
    both = torch.cat((best, top), dim=1)
    return both.topk(min(keep, both.shape[1]), dim=1).values
