"""Splits that a source brings along: which rows are training, validation and test.

Shape legend: T interactions, U users.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from data_prep.options import PrepareOptions
from data_prep.raw_tables.raw import RawData
from recsys.arrays import Int64
from recsys.data.dataset import SplitRule
from recsys.errors import ConfigError, DataError
from recsys.extras import extra

TRAIN, VALID, TEST = 0, 1, 2


def given_rule(raw: RawData, options: PrepareOptions) -> SplitRule:
    """The split rule of a data set; `given` where the source has parts.

    Raises:
        ConfigError: another split is asked of such a source, or rows are to be added to another
            data set.
        DataError: `given` is asked of a source without parts.
    """
    split = options.split
    if raw.columns.part is None:
        if split.name == "given":
            raise DataError(
                f"{raw.table.file} does not say which rows are test; name the column of train, "
                "valid and test with part_column=NAME, or use leave-last-out"
            )
        return split
    if "name" in split.model_fields_set and split.name != "given":
        raise ConfigError(
            f"{raw.table.file} says which rows are test, so split.name={split.name} does not "
            "hold; leave it out, or leave the column of parts out"
        )
    if options.like is not None:
        raise ConfigError(
            "like takes indices from a data set that new rows are added to, and a fixed split "
            "takes no new rows; leave one of like and the column of parts out"
        )
    return split.model_copy(update={"name": "given"})


def by_parts(rows: pl.DataFrame, rule: SplitRule) -> tuple[pl.DataFrame, SplitRule]:
    """Rows with training first, then validation, then test within each user.

    Where the source has no validation rows, a share of each user's training rows is drawn: rounded
    down, and at least one of two; rows one by one, a run of neighbours, or one end of a line.

    Args:
        rows: `[T]` user_index ascending, item_index, part, and any others.
        rule: its `valid_share`, `valid_draw` and `seed`.

    Returns:
        The rows, and the rule with a `valid_share` of None where nothing was drawn.

    Raises:
        DataError: no row is test.
        InstallationError: scipy is missing, which the draw `end` needs.
    """
    users, items = rows["user_index"].to_numpy(), rows["item_index"].to_numpy()
    parts = rows["part"].to_numpy().copy()
    if not (parts == TEST).any():
        raise DataError("no interaction is of the part test; check the column of parts")
    if (parts == VALID).any():
        rule = rule.model_copy(update={"valid_share": None})
    elif rule.valid_share is not None:
        parts[_drawn(users, items, parts == TRAIN, rule)] = VALID
    order = np.lexsort((parts, users))  # stable: rows of one part keep their order
    return rows.with_columns(pl.Series("part", parts))[order.astype(np.uint32)], rule


def _drawn(
    users: npt.NDArray[np.integer],
    items: npt.NDArray[np.integer],
    train: npt.NDArray[np.bool_],
    rule: SplitRule,
) -> Int64:
    """Places of the training rows that are drawn for validation."""
    assert rule.valid_share is not None
    places = np.flatnonzero(train)
    owners = users[places]
    counts = np.bincount(owners)
    share = np.maximum(1, np.floor(counts * rule.valid_share + 1e-9))
    wanted = np.where(counts >= 2, share, 0).astype(np.int64)
    starts = np.cumsum(counts) - counts
    random = np.random.default_rng(rule.seed)
    rank = np.arange(len(places)) - starts[owners]
    if rule.valid_draw == "run":
        first = np.floor(random.random(len(counts)) * (counts - wanted + 1)).astype(np.int64)
        rank = rank - first[owners]
        run: Int64 = places[(rank >= 0) & (rank < wanted[owners])]
        return run
    if rule.valid_draw == "end":
        with extra("train", "drawing validation rows from one end"):
            from data_prep.one_end import places_along_lines
        keys = places_along_lines(owners.astype(np.int64), items[places].astype(np.int64), random)
    else:
        keys = random.random(len(places))
    order = np.lexsort((keys, owners))
    drawn: Int64 = places[order[rank < wanted[owners]]]  # owners ascend, so ranks are as before
    return drawn
