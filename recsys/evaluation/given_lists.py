"""Lists that were made elsewhere, as the evaluator takes its own: ranks of targets, what is listed.

Shape legend: R rows of lists, U users measured, M targets (jagged), K cutoffs, N items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from recsys.arrays import Int64
from recsys.data.dataset import Dataset
from recsys.evaluation.held_out import HeldOut
from recsys.evaluation.metrics import MISS

_USERS = 1 << 14


@dataclass(frozen=True)
class GivenLists:
    """Lists of measured users."""

    rows: Int64
    """`[R]` places among the users that are measured, ascending."""
    items: Int64
    """`[R]` item indices, in the order of their list."""
    ranks: Int64
    """`[R]` how many of the list are scored as high."""
    num_seen: int
    """Rows that were taken out, as their user had the item before."""
    longest: int
    """Rows of the longest list, with those."""

    @property
    def places(self) -> Int64:
        """`[R]` from 1, equal scores as given."""
        starts = np.searchsorted(self.rows, self.rows)
        found: Int64 = np.arange(len(self.rows)) - starts + 1
        return found

    def target_ranks(self, held: HeldOut, num_items: int, largest: int) -> Int64:
        """`[M]`: the rank of each target; `MISS` where it is not listed or beyond `largest`."""
        keys = self.rows * num_items + self.items
        order = np.argsort(keys)
        owners = np.repeat(np.arange(len(held.users)), np.diff(held.offsets))
        wanted = owners * num_items + held.targets
        at = np.searchsorted(keys[order], wanted).clip(max=max(0, len(keys) - 1))
        if not len(keys):
            return np.full(len(wanted), MISS)
        found = keys[order][at] == wanted
        ranks = self.ranks[order][at]
        return np.where(found & (ranks <= largest), ranks, MISS)

    def counts(self, ks: tuple[int, ...], num_items: int) -> Int64:
        """`[1, K, N]`: how often an item is among the first k."""
        kept = [np.bincount(self.items[self.places <= k], minlength=num_items) for k in ks]
        return np.stack(kept)[None].astype(np.int64)


def given_lists(
    users: Int64, items: Int64, scores: pl.Series, held: HeldOut, dataset: Dataset, *, seen: bool
) -> GivenLists:
    """Puts rows in order.

    Args:
        users: `[R]` user indices.
        items: `[R]` item indices.
        scores: `[R]`, higher is better; those of ranks are their negatives.
        held: who is measured; rows of others are left out.
        dataset: the histories.
        seen: take out what a user had before.
    """
    row_of = np.full(dataset.num_users, -1)
    row_of[held.users] = np.arange(len(held.users))
    rows = row_of[users]
    kept = rows >= 0
    longest = int(np.bincount(rows[kept], minlength=1).max())
    if seen:
        kept &= ~_had(rows, items, kept, held, dataset)
    num_seen = int(((rows >= 0) & ~kept).sum())
    frame = pl.DataFrame({"row": rows, "item": items, "score": scores}).filter(pl.Series(kept))
    frame = frame.sort("row", -pl.col("score"), maintain_order=True)
    ranks = frame.select(pl.col("score").rank("max", descending=True).over("row"))
    return GivenLists(
        frame["row"].to_numpy(),
        frame["item"].to_numpy(),
        ranks.to_series().cast(pl.Int64).to_numpy(),
        num_seen,
        longest,
    )


def _had(
    rows: Int64, items: Int64, kept: np.ndarray, held: HeldOut, dataset: Dataset
) -> np.ndarray:
    """`[R]` whether a row's user had its item before the held-out part."""
    found = np.zeros(len(rows), bool)
    for lo in range(0, len(held.users), _USERS):
        some = np.arange(lo, min(lo + _USERS, len(held.users)))
        histories = held.histories(dataset, some)
        owners = np.repeat(some, histories.lengths)
        mine = np.flatnonzero(kept & (rows >= lo) & (rows <= some[-1]))
        asked = rows[mine] * dataset.num_items + items[mine]
        found[mine] = np.isin(asked, owners * dataset.num_items + histories.items)
    return found
