"""Whom lists are asked for: users by id, or histories in any form, as indices.

Shape legend: B users or histories, T items of all histories.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import Bool, Int32, Int64
from recsys.data.parsing.frames import Order, as_frame, times_of
from recsys.data.parsing.times import whole_seconds
from recsys.errors import DataError
from recsys.library.ids import Ids, as_series, id_series, unknown_frame
from recsys.library.user_table import UserTable, check_column, read_users, told_of
from recsys.serving.user_columns import ColumnUsers

_NONE = pl.Series([], dtype=pl.String)
_KEY = "user_id"


@dataclass(frozen=True)
class Asked:
    """Users, or histories, in the order in which they were given, each id once."""

    ids: pl.Series
    """`[B]` as given, named user_id."""
    users: Int64
    """`[B]` indices; -1: unknown."""
    unknown: pl.DataFrame
    """What is not known: kind, id, rows."""
    items: Int32 | None = None
    """`[T]` items of the histories that were given; None: users were asked for, by their own."""
    offsets: Int64 | None = None
    """`[B + 1]`."""
    times: Int64 | None = None
    """`[T]` seconds, where the histories came with times."""
    columns: pl.DataFrame | None = None
    """`[B]` rows: what the model reads of users, as it was given with them; None: nothing was."""
    listed: Bool | None = None
    """`[B]` who is among the histories; the others were told of by columns beside them. None: all
    are.
    """

    def __len__(self) -> int:
        return len(self.users)

    @property
    def told(self) -> Bool:
        """`[B]`: of whom columns tell anything."""
        if self.columns is None:
            return np.zeros(len(self), np.bool_)
        return told_of(self.columns)

    @property
    def stays(self) -> Bool:
        """`[B]`: known users who stand beside histories without one: they are as they are."""
        if self.listed is None:
            return np.zeros(len(self), np.bool_)
        found: Bool = ~self.listed & (self.users >= 0)
        return found

    def rows(self, rows: Int64) -> Asked:
        """Some of them."""
        ids, users = self.ids.gather(pl.Series(rows)), self.users[rows]
        columns = None if self.columns is None else self.columns[rows]
        if self.items is None or self.offsets is None:
            return Asked(ids, users, self.unknown, columns=columns)
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        times = None if self.times is None else self.times[places]
        listed = None if self.listed is None else self.listed[rows]
        return Asked(ids, users, self.unknown, self.items[places], offsets, times, columns, listed)

    def slice(self, lo: int, hi: int) -> Asked:
        """Those from `lo` to before `hi`; nothing is copied."""
        ids, users = self.ids.slice(lo, hi - lo), self.users[lo:hi]
        columns = None if self.columns is None else self.columns.slice(lo, hi - lo)
        if self.items is None or self.offsets is None:
            return Asked(ids, users, self.unknown, columns=columns)
        edges = self.offsets[lo : hi + 1]
        items = self.items[edges[0] : edges[-1]]
        times = None if self.times is None else self.times[edges[0] : edges[-1]]
        listed = None if self.listed is None else self.listed[lo:hi]
        offsets = edges - edges[0]
        return Asked(ids, users, self.unknown, items, offsets, times, columns, listed)

    def parts(self, size: int) -> Iterator[Asked]:
        """All, in pieces of `size`."""
        for lo in range(0, len(self), size):
            yield self.slice(lo, min(lo + size, len(self)))


def asked_users(users: Any, known: Ids, columns: ColumnUsers | None = None) -> Asked:
    """Users by id, known or told by columns; see `read_users`.

    Args:
        users: ids, or ids with columns.
        known: the users that the model knows.
        columns: what the model reads of users; None: nothing.

    Raises:
        DataError: they cannot be read.
    """
    read = read_users(users, columns)
    found = known.find(read.text)
    lost = found < 0
    if read.columns is not None:
        lost &= ~told_of(read.columns)
    unknown = unknown_frame(read.text.filter(pl.Series(lost)), _NONE)
    return Asked(read.ids, found, unknown, columns=read.columns)


def asked_histories(
    histories: Any, order: Order | None, users: Ids, items: Ids, about: UserTable | None = None
) -> Asked:
    """Histories: a mapping of user id -> item ids, oldest first, or a frame.

    A frame has the columns user_id and item_id, and timestamp or order='given'; lists of items in
    item_id are taken in their order.

    Args:
        histories: of B users.
        order: `given`: rows of a frame stand in their order.
        users: those that the model knows.
        items: likewise.
        about: what is known of the users of the histories, and of others: they have an empty one,
            and those of them whom the model knows stay as they are.

    Raises:
        DataError: it is none of these, an id is none, or nothing says how rows are ordered.
    """
    times: Int64 | None = None
    if isinstance(histories, Mapping):
        given, owners, ids = _of_mapping(histories)
    else:
        given, owners, ids, times = _of_frame(histories, order)
    text = id_series(given, "users of the histories")
    listed = text.n_unique()
    if about is not None:
        given = _joined(given, about.ids)
        text = pl.concat([text, about.text.alias(text.name)])
    first = text.is_first_distinct()
    distinct = text.filter(first)
    index = Ids(distinct, "user").find(text)
    owners = index[owners]
    found = items.find(ids)
    stays = np.argsort(owners, kind="stable")
    stays = stays[found[stays] >= 0]
    lengths = np.bincount(owners[stays], minlength=len(distinct))
    return Asked(
        given.filter(first).alias("user_id"),
        users.find(distinct),
        unknown_frame(_NONE, ids.filter(pl.Series(found < 0))),
        found[stays].astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        None if times is None else times[stays],
        None if about is None else _columns_of(about, distinct),
        None if about is None else np.arange(len(distinct)) < listed,
    )


def _joined(given: pl.Series, more: pl.Series) -> pl.Series:
    """One series of ids; as text where they are of two types."""
    if given.dtype != more.dtype:
        given, more = given.cast(pl.String), more.cast(pl.String)
    return pl.concat([given, more.alias(given.name)])


def _columns_of(about: UserTable, text: pl.Series) -> pl.DataFrame | None:
    """Columns of users in another order; null of those who are not among them."""
    if about.columns is None:
        return None
    keyed = about.columns.with_columns(about.text.alias(_KEY))
    wanted = text.alias(_KEY).to_frame()
    return wanted.join(keyed, on=_KEY, how="left", maintain_order="left").drop(_KEY)


def _of_mapping(histories: Mapping[Any, Any]) -> tuple[pl.Series, Int64, pl.Series]:
    """Ids of users `[B]`, and of each item its user's place and its own id."""
    lists = list(histories.values())
    for owner, listed in histories.items():
        if isinstance(listed, str | bytes) or not isinstance(listed, Iterable):
            raise DataError(
                f"the history of {owner!r} is {listed!r}; a list of item ids is expected"
            )
    rows = [list(listed) for listed in lists]
    owners = np.repeat(np.arange(len(rows)), [len(row) for row in rows]).astype(np.int64)
    ids = id_series(list(chain.from_iterable(rows)), "items of the histories")
    return as_series(list(histories), "users of the histories"), owners, ids


def _of_frame(table: Any, order: Order | None) -> tuple[pl.Series, Int64, pl.Series, Int64 | None]:
    """As `_of_mapping`, and the seconds of each row where there is a column timestamp."""
    frame = as_frame(table, "the histories")
    for column in ("user_id", "item_id"):
        check_column(frame, column, "histories")
    if frame.schema["item_id"].is_nested():
        return *_of_lists(frame), None
    rows, seconds = np.arange(len(frame)), None
    if "timestamp" in frame.columns:
        times, _ = times_of(frame, None)
        if order != "given":
            rows = np.argsort(times.to_physical().to_numpy(), kind="stable")
        seconds = whole_seconds(times).to_numpy()[rows]
    elif order != "given":
        raise DataError(
            f"nothing says in which order the histories' rows are to be taken; found "
            f"{frame.columns}: give a column timestamp, or say --order given (order='given')"
        )
    ids = id_series(frame["item_id"], "items of the histories")
    return frame["user_id"], rows, ids.gather(pl.Series(rows)), seconds


def _of_lists(frame: pl.DataFrame) -> tuple[pl.Series, Int64, pl.Series]:
    """Of rows with lists of items, each in its order."""
    lists = frame["item_id"]
    if isinstance(lists.dtype, pl.Array):
        lists = lists.arr.to_list()
    if not isinstance(lists.dtype, pl.List):
        raise DataError(
            f"item_id of the histories holds {lists.dtype}; ids, or lists of ids, are expected"
        )
    lengths = lists.list.len().fill_null(0)
    items = id_series(lists.filter(lengths > 0).explode(), "items of the histories")
    return frame["user_id"], np.repeat(np.arange(len(frame)), lengths.to_numpy()), items
