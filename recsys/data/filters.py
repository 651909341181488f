"""Filters of interactions: minimum weight, repeated pairs, iterative k-core.

All take a frame of any library with columns user_id and item_id (any type without nulls) whose rows
stand in the order of the histories, and give a polars frame in that order.
Shape legend: T interactions.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.data.parsing.frames import FrameLike, as_frame
from recsys.data.vocabulary import Vocabulary
from recsys.errors import DataError

Deduplicate = Literal["none", "first", "last"]
_WHAT = "the interactions"


def apply_filters(
    table: FrameLike,
    *,
    min_weight: float | None = None,
    deduplicate: Deduplicate = "none",
    min_user_count: int = 1,
    min_item_count: int = 1,
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Applies the filters asked for: weight, then repetitions, then k-core.

    Returns:
        What is left, and one line for every filter that was applied.

    Raises:
        DataError: there is no weight to filter by, or nothing is left.
    """
    frame, lines = as_frame(table, _WHAT), []
    if min_weight is not None:
        frame = at_least(frame, min_weight)
        lines.append(f"weight >= {min_weight:g}")
    if deduplicate != "none":
        frame = without_repetitions(frame, deduplicate)
        lines.append(f"of repeated (user, item) pairs the {deduplicate}")
    if min_user_count > 1 or min_item_count > 1:
        frame = k_core(frame, min_user_count, min_item_count)
        lines.append(
            f"k-core: every user >= {min_user_count}, every item >= {min_item_count} "
            "interactions, repeated until nothing changes"
        )
    if frame.is_empty():
        applied = "; ".join(lines) or "no filter"
        raise DataError(f"no interactions are left after filtering ({applied}); loosen the filters")
    return frame, tuple(lines)


def at_least(table: FrameLike, min_weight: float) -> pl.DataFrame:
    """Rows whose weight is at least `min_weight`.

    Raises:
        DataError: there is no column weight.
    """
    frame = as_frame(table, _WHAT)
    if "weight" not in frame.columns:
        raise DataError(
            f"a minimum rating of {min_weight:g} is given, but the data has no ratings; "
            "name the column of the ratings, or leave min_rating out"
        )
    return frame.filter(pl.col("weight") >= min_weight)


def without_repetitions(table: FrameLike, keep: Literal["first", "last"]) -> pl.DataFrame:
    """Of every repeated (user, item) pair the first or the last row alone."""
    frame = as_frame(table, _WHAT)
    users, items = _codes(frame["user_id"]), _codes(frame["item_id"])
    width = int(items.max()) + 1 if len(items) else 1
    # One integer a pair: hashing it needs a third of the memory of hashing a struct.
    pairs = pl.Series(users.astype(np.int64) * width + items)
    return frame.filter(pairs.is_first_distinct() if keep == "first" else pairs.is_last_distinct())


def k_core(table: FrameLike, min_user_count: int, min_item_count: int) -> pl.DataFrame:
    """The largest part where every user and every item has its minimum of rows.

    Dropping a user can push an item below its minimum and the other way round, so passes are
    repeated up to the fixed point; repeated pairs count as often as they occur.
    """
    frame = as_frame(table, _WHAT)
    users, items = _codes(frame["user_id"]), _codes(frame["item_id"])
    kept = np.arange(len(frame), dtype=np.uint32)
    while len(kept):
        enough = np.bincount(users)[users] >= min_user_count
        enough &= np.bincount(items)[items] >= min_item_count
        if enough.all():
            break
        kept, users, items = kept[enough], users[enough], items[enough]
    return frame if len(kept) == len(frame) else frame[kept]


def _codes(ids: pl.Series) -> npt.NDArray[np.integer]:
    """`[T]` small non-negative integers, equal where the ids are equal."""
    if ids.dtype.is_integer() and len(ids):
        codes = ids.to_numpy()
        if codes.min() >= 0 and codes.max() < 4 * len(codes) + 1024:
            return codes
    return Vocabulary.of(ids).encode(ids)
