"""Users, histories and targets of an evaluation part.

Shape legend: U users measured, M targets of them all (jagged).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.arrays import Int32, Int64
from recsys.data.dataset import Dataset
from recsys.data.histories import Histories, jagged_positions, select
from recsys.data.read_only import freeze_arrays
from recsys.data.splitting import Split
from recsys.errors import DataError
from recsys.retrieval.checks import checked_count


@dataclass(frozen=True)
class HeldOut:
    """The users that are measured: those with a history and a target."""

    users: Int64
    """`[U]` user indices, ascending."""
    start: Int64
    """`[U]` positions into `Dataset.items` where the history starts ..."""
    end: Int64
    """`[U]` ... and ends."""
    targets: Int32
    """`[M]` distinct items, ascending within each user."""
    offsets: Int64
    """`[U + 1]`: the targets of row u are `targets[offsets[u]:offsets[u + 1]]`."""
    asked_at: Int64 | None = None
    """`[U]` the time of the first interaction of the part, where the data set has times."""

    def __post_init__(self) -> None:
        freeze_arrays(self, "users", "start", "end", "targets", "offsets", "asked_at")

    def rows(self, rows: Int64) -> HeldOut:
        """The users in `rows`, with their targets."""
        places, offsets = self.targets_of(rows)
        kept = self.users[rows], self.start[rows], self.end[rows]
        asked_at = None if self.asked_at is None else self.asked_at[rows]
        return HeldOut(*kept, self.targets[places], offsets, asked_at)

    def spread(self, most: int) -> HeldOut:
        """At most so many of the users, evenly spread."""
        return self.rows(spread_over(len(self.users), most))

    @property
    def single(self) -> bool:
        """Whether every user has exactly one target."""
        return len(self.targets) == len(self.users)

    @property
    def by_target(self) -> Int64:
        """`[U]` the rows in the order of their targets, where there is one each: counting block by
        block is cheaper for users whose targets are neighbours in the catalogue.
        """
        return (
            np.argsort(self.targets, kind="stable") if self.single else np.arange(len(self.users))
        )

    @property
    def by_length(self) -> Int64:
        """`[U]` the rows by the length of their history: a batch is padded to its longest."""
        return np.argsort(self.end - self.start, kind="stable")

    def histories(self, dataset: Dataset, rows: Int64) -> Histories:
        """What is known of the users in `rows [B]`, asked for when the part begins."""
        found = select(dataset, self.users[rows], self.start[rows], self.end[rows])
        return found.at(None if self.asked_at is None else self.asked_at[rows])

    def targets_of(self, rows: Int64) -> tuple[Int64, Int64]:
        """Positions into `targets` of the users in `rows [B]`, and their offsets `[B + 1]`."""
        return jagged_positions(self.offsets[rows], self.offsets[rows + 1])


def held_out(dataset: Dataset, split: Split, part: str) -> HeldOut:
    """The users of `part` with at least one interaction before it and one in it.

    Raises:
        DataError: there are none.
        ProtocolError: there is no such part.
    """
    lo, hi = split.targets(part)
    users = np.flatnonzero((hi > lo) & (lo > split.start))
    if not len(users):
        raise DataError(
            f"no user of {dataset.manifest.name} has both a history and a target in {part}; "
            "choose another split, or a data set with longer histories"
        )
    rows = np.repeat(np.arange(len(users)), (hi - lo)[users])
    items = dataset.items_at(jagged_positions(lo[users], hi[users])[0])
    distinct = np.unique(rows * dataset.num_items + items)
    lengths = np.bincount(distinct // dataset.num_items)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    targets = (distinct % dataset.num_items).astype(np.int32)
    asked_at = dataset.timestamps_at(lo[users])
    return HeldOut(users, split.start[users], lo[users], targets, offsets, asked_at)


def spread_over(count: int, wanted: int | None) -> Int64:
    """At most so many of `0..count-1`, evenly spread, ascending; None: all.

    Raises:
        ConfigError: it is not a whole number of 1 or more.
    """
    if wanted is not None:
        checked_count(wanted, "the number of users")
    if wanted is None or wanted >= count:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, wanted).astype(np.int64))


def describe_untrained(held: HeldOut, trained: npt.NDArray[np.bool_], counts: Int64) -> str:
    """A line for the protocol card: who and what training has not seen; empty where all was.

    Args:
        held: who is measured.
        trained: `[U]` the users of the data set with a training row.
        counts: `[N]` training rows of each item.
    """
    users = int((~trained[held.users]).sum())
    targets = int((counts[held.targets] == 0).sum())
    if not users and not targets:
        return ""
    told = (
        f"{users:,} of {len(held.users):,} users and {targets:,} of {len(held.targets):,} targets "
        "have no training row"
    )
    if not users:
        return told
    return (
        f"{told}; a model that knows users by index ranks the same items for all of them: "
        "two_tower those of the mean user, bpr those with the highest bias"
    )


def fit_histories(
    dataset: Dataset, split: Split, fit_on: str, *, most: int | None = None
) -> Histories:
    """The rows a model may be fitted on, one history for every user (some may be empty).

    Args:
        dataset: users and items.
        split: its parts.
        fit_on: which of them.
        most: about how many rows are wanted: of a larger data set fewer users, evenly spread, so
            that what is not wanted is not read. None: all.

    Raises:
        ProtocolError: `fit_on` is neither train, train+valid nor all.
    """
    start, end = split.start, split.fit_end(fit_on)
    step = 1 if most is None else max(1, -(-int((end - start).sum()) // most))
    users = np.arange(0, dataset.num_users, step)
    return select(dataset, users, start[users], end[users])
