"""Rows of a data set that a run was fitted on already.

Shape legend: T rows of the new data set, U its users.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.arrays import Int64
from recsys.data.dataset import Dataset
from recsys.data.histories import Histories, select
from recsys.errors import RunError
from recsys.runs.loading import LoadedRun

_BLOCK = 1 << 20
"""Rows compared at once, about (histories are not cut)."""

Mask = npt.NDArray[np.bool_]


def trained_rows(parent: LoadedRun, dataset: Dataset) -> Mask:
    """`[T]`: whether the parent was fitted on a row: same user, item and time, each row once.

    Raises:
        RunError: the data set does not keep the indices of the parent's.
    """
    check_indices(parent, dataset)
    old, end = parent.dataset, parent.split.fit_end(parent.fit_on)
    found = np.zeros(len(dataset.items), np.bool_)
    for users in _blocks(dataset, old.num_users):
        now = select(dataset, users, dataset.offsets[users], dataset.offsets[users + 1])
        before = select(old, users, parent.split.start[users], end[users])
        first = int(dataset.offsets[users[0]])
        found[first : first + len(now.items)] = _matched(now, before)
    return found


def _blocks(dataset: Dataset, known: int) -> Iterator[Int64]:
    """The users that both know, in blocks of about as many rows."""
    part = dataset.offsets[:known] // _BLOCK
    edges = np.flatnonzero(np.diff(part, prepend=-1, append=-1))
    for lo, hi in itertools.pairwise(edges):
        yield np.arange(lo, hi)


def _matched(now: Histories, before: Histories) -> Mask:
    """Which rows of `now` stand in `before`, of equal ones the first so many."""
    frames = []
    for histories in (now, before):
        owners = np.repeat(histories.users, histories.lengths)
        columns = {"user": owners, "item": histories.items}
        if now.timestamps is not None and before.timestamps is not None:
            assert histories.timestamps is not None
            columns["time"] = histories.timestamps
        frame = pl.DataFrame(columns)
        number = pl.int_range(pl.len()).over(frame.columns).alias("number")
        frames.append(frame.with_columns(number))
    keys = frames[0].columns
    marked = frames[1].with_columns(found=pl.lit(True))
    joined = frames[0].join(marked, on=keys, how="left", maintain_order="left")
    return joined["found"].fill_null(False).to_numpy()


def check_indices(parent: LoadedRun, dataset: Dataset) -> None:
    """Refuses data whose users or items are numbered otherwise than the parent's.

    Raises:
        RunError: naming the first index that differs.
    """
    pairs = (
        ("user", parent.dataset.user_frame()["user_id"], dataset.user_frame()["user_id"]),
        ("item", parent.dataset.item_frame()["item_id"], dataset.item_frame()["item_id"]),
    )
    for kind, old, new in pairs:
        texts = old.cast(pl.String), new.head(len(old)).cast(pl.String)
        if len(texts[1]) == len(texts[0]) and (texts[0] == texts[1]).all():
            continue
        place = len(texts[1])
        differ = np.flatnonzero((texts[0].head(place) != texts[1]).to_numpy())
        place = int(differ[0]) if len(differ) else place
        now = repr(texts[1][place]) if place < len(texts[1]) else "absent"
        raise RunError(
            f"{kind} {place} is {texts[0][place]!r} in the data of {parent.folder} and {now} in "
            f"{dataset.folder}, so the run's rows would be given to others; prepare the data with "
            f"like={parent.dataset.folder}, which keeps every index"
        )
