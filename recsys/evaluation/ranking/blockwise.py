"""Ranking by torch, block by block, without scores of the whole catalogue in memory.

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

from recsys.arrays import Int32, Int64
from recsys.devices import is_host, to_indices
from recsys.errors import RunError
from recsys.evaluation.metrics import MISS
from recsys.evaluation.ranking.scorer import BlockScores
from recsys.kernels.rank_order import NOTHING, item_of, key_of, level_of, turn_bits

_HIDDEN = int(NOTHING)
_LOWEST = torch.finfo(torch.float32).min
_UNSCORED = -2139095041
"""`_levels` of -inf."""


@dataclass(frozen=True)
class Shape:
    """The shape of the scores that are ranked."""

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
    known: Int64
    """`items` in the host's memory: blocks are cut without waiting for the device."""

    def within(self, lo: int, hi: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs of the items `lo..hi-1`: given order, rows, columns in the block of these items."""
        first, last = np.searchsorted(self.known, [lo, hi]).tolist()
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
    placed, known, given = (to_indices(column, device) for column in columns)
    return Places(placed, known, given, items[order].astype(np.int64))


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

    Raises:
        RunError: a target's score is NaN.
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
        above = own.new_empty((shape.num_users, hi - lo))
        for g, scores in enumerate(blocks(lo, hi)):
            if [(lo, hi)] == holding:
                _take(own[g], scores, targets.within(lo, hi))
            # Comparing into floats is three times faster than into bools, which torch does not
            # vectorize; a block is far too narrow for the sum to be inexact.
            torch.ge(scores, own[g][:, None], out=above)
            above[seen_rows, seen_columns] = 0
            counts[g] += above.sum(1).long()
    refuse_nan(bool(own.isnan().any()))
    hidden = (own == -torch.inf) | targets.among(seen, shape.num_items)
    return counts.masked_fill_(hidden, MISS)


def refuse_nan(found: bool) -> None:
    """A NaN is neither above nor below any score: a target would come first, or nowhere.

    Raises:
        RunError: where a target's score is one.
    """
    if found:
        raise RunError(
            "the score of a target is NaN, so it has no rank: vectors this long overflow float32; "
            "lower the learning rate and train again"
        )


def _take(own: Tensor, scores: Tensor, places: tuple[Tensor, Tensor, Tensor]) -> None:
    """Writes the targets' scores of a block into `own [B]`."""
    _, rows, columns = places
    own[rows] = scores[rows, columns]


def top_ranks(
    blocks: BlockScores, shape: Shape, targets: Places, seen: Places, k: int
) -> tuple[Tensor, Tensor]:
    """Ranks of any number of targets and the recommended items, from running lists of k + 1.

    The lists hold keys (`rank_order.py`), so they do not depend on how items were blocked: equal
    scores are listed by item index.

    Returns:
        `(ranks [G, M] int64, items [G, B, <= k] int64)`: ranks beyond k are `MISS`, and an item is
        -1 where a list has come to its end.

    Raises:
        RunError: a target's score is NaN.
    """
    size = (shape.sizes, shape.num_users, k + 1)
    lists = targets.rows.new_full(size, _HIDDEN)
    levels = targets.rows.new_empty((shape.sizes, len(targets.rows)))
    nan = targets.rows.new_zeros((), dtype=torch.bool)
    for lo, hi in shape.spans():
        _, seen_rows, seen_columns = seen.within(lo, hi)
        given, rows, columns = targets.within(lo, hi)
        for g, scores in enumerate(blocks(lo, hi)):
            own = scores[rows, columns]
            nan |= own.isnan().any()
            levels[g, given] = _levels(own).long()
            hidden = (seen_rows, seen_columns)
            if not is_host(scores.device):
                _merge(lists[g], scores, hidden, lo)
                continue
            floor = _floor(lists[g]) if lo else _first_floor(scores, hidden, k + 1)
            flags = scores >= floor[:, None]
            flags[hidden] = False
            _insert(lists[g], scores, flags, lo)
    refuse_nan(bool(nan))
    rows_as_given = torch.empty_like(targets.rows).index_copy_(0, targets.order, targets.rows)
    ranks = (level_of(lists[:, rows_as_given]) >= levels[:, :, None]).sum(2)
    lost = (ranks > k) | (levels <= _UNSCORED) | targets.among(seen, shape.num_items)
    items = torch.where(lists > _HIDDEN, item_of(lists), -1)
    return ranks.masked_fill_(lost, MISS), items[:, :, :k]


def _insert(lists: Tensor, scores: Tensor, flags: Tensor, first_item: int) -> None:
    """Puts the flagged items of a block into the running lists `[B, k + 1]`.

    After the first blocks few items can still enter, so only these are given keys and sorted.
    """
    rows, columns = flags.nonzero(as_tuple=True)
    if not len(rows):
        return
    lengths = torch.bincount(rows, minlength=len(lists))
    places = torch.arange(len(rows), device=rows.device) - (lengths.cumsum(0) - lengths)[rows]
    entering = lists.new_full((len(lists), int(lengths.max())), _HIDDEN)
    levels = _levels(scores[rows, columns]).long()
    entering[rows, places] = key_of(levels, columns + first_item)
    both = torch.cat((lists, entering), dim=1)
    lists.copy_(both.topk(lists.shape[1], dim=1).values)


def _merge(lists: Tensor, scores: Tensor, hidden: tuple[Tensor, Tensor], first_item: int) -> None:
    """Puts the best of a block `[B, W]` into the running lists `[B, k + 1]`.

    On a device: a whole block is sorted sooner than the host hears how few items can enter.
    """
    items = torch.arange(first_item, first_item + scores.shape[1], device=scores.device)
    keys = key_of(_levels(scores).long(), items)
    keys.masked_fill_(~(scores >= _LOWEST), _HIDDEN)
    keys[hidden] = _HIDDEN
    best = keys.topk(min(lists.shape[1], keys.shape[1]), dim=1).values
    lists.copy_(torch.cat((lists, best), dim=1).topk(lists.shape[1], dim=1).values)


def _levels(scores: Tensor) -> Tensor:
    """Whole numbers (int32) that sort like the float32 `scores`."""
    bits = (scores + 0.0).view(torch.int32)  # adding 0 turns -0 into 0: they are the same score
    levels: Tensor = turn_bits(bits)
    return levels


def _floor(lists: Tensor) -> Tensor:
    """`[B]` the score an item needs to enter a list; any finite one where there is room."""
    scores = turn_bits(level_of(lists[:, -1]).int()).view(torch.float32)
    return torch.where(lists[:, -1] == _HIDDEN, _LOWEST, scores)


def _first_floor(scores: Tensor, hidden: tuple[Tensor, Tensor], keep: int) -> Tensor:
    """`[B]` a score that at least `keep` items of the first block reach, if it is wide enough.

    Of disjoint groups of items, `keep` have their best item at or above the keep-th best of the
    groups' bests. This spares sorting a whole block where lists are still empty.
    """
    size = scores.shape[1] // (2 * keep)
    if size < 2:
        return scores.new_full((len(scores),), _LOWEST)
    shown = scores.clone()
    shown[hidden] = -torch.inf
    num_groups = scores.shape[1] // size
    best = shown[:, : num_groups * size].unflatten(1, (num_groups, size)).amax(2)
    floor: Tensor = best.topk(keep, dim=1).values[:, -1].clamp_min(_LOWEST)
    return floor
