"""What the log of run-time items says, for one version of the bundle.

An item that the version holds is served as it stands there. Others are encoded for this version:
from features by its item tower, or by the vector that was given. One that cannot be encoded waits
for a version that can. Deleted items stay deleted in every version until they are put again.

Shape legend: A added items, D coordinates.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.arrays import Float32
from recsys.errors import DataError, RecsysError
from recsys.server.answering.added import Added
from recsys.server.answering.served import Served
from recsys.server.answering.stock import Stock
from recsys.server.items.encoding import Content, check_columns, encode, fitted
from recsys.server.items.log import ItemLog, Mark, Record
from recsys.server.settings import ItemSettings

_AT_ONCE = 1_000
"""Items that are encoded together."""
logger = logging.getLogger("recsys.server")


class FullError(RecsysError):
    """There are as many run-time items as the operator allows."""


@dataclass(frozen=True)
class _Entry:
    vector: Float32
    row: dict[str, Any]


class ItemState:
    """The run-time items of one version; one thread at a time uses it."""

    def __init__(self, served: Served, settings: ItemSettings, log: ItemLog) -> None:
        """Nothing is read yet."""
        self.served, self.settings, self.log = served, settings, log
        self._clear()

    def _clear(self) -> None:
        self.number, self._mark = 0, Mark()
        self._digests: dict[str, bytes] = {}
        self._added: dict[str, _Entry] = {}
        self._waiting: dict[str, str] = {}
        self._deleted: set[str] = set()
        self._unread: dict[str, Content] = {}

    def behind(self) -> bool:
        """Whether the log holds more than was read."""
        return self.log.changed(self._mark)

    def read(self) -> None:
        """Takes what others have written.

        Raises:
            ChecksumError: the log is damaged.
        """
        with self.log.locked(alone=False):
            self._catch_up()

    def change(self, put: Mapping[str, Content], delete: Sequence[str]) -> list[dict[str, str]]:
        """Puts and deletes items: all of them, or none. When it returns, they are on disk.

        Args:
            put: id -> content. What stands there already is not written again.
            delete: ids, known or not.

        Returns:
            `item_id` and `state` of each: `added`, `bundle` (the version holds it) or `deleted`.

        Raises:
            DataError: this version cannot serve an item.
            FullError: there are too many.
            ChecksumError: the log is damaged.
            OSError: the log cannot be written.
        """
        with self.log.locked(alone=True):
            self._catch_up()
            named = {
                name: dict(content, space=self.served.space) if "vector" in content else content
                for name, content in put.items()
            }
            new = {
                name: content
                for name, content in named.items()
                if self._digests.get(name) != _digest(content) or name in self._waiting
            }
            gone = [name for name in delete if name not in self._deleted]
            if new or gone:
                self._check(new)
                self._check_room(new, gone)
                record: Record = {"number": self.number + 1, "put": new, "delete": gone}
                self._mark = self.log.append(record, self._mark)
                self._take(record)
                self._encode()
        told = [(name, "added" if name in self._added else "bundle") for name in put]
        told += [(name, "deleted") for name in delete]
        return [{"item_id": name, "state": state} for name, state in told]

    def stock(self) -> Stock:
        """The items of this moment."""
        added = None
        if self._added:
            whole = self.served.items.names.dtype.is_integer()
            names = [int(name) if whole and _is_whole(name) else name for name in self._added]
            entries = self._added.values()
            vectors = np.stack([entry.vector for entry in entries])
            added = Added(self.served, names, vectors, [entry.row for entry in entries])
        places = self.served.items.find(list(self._deleted))
        return Stock(self.served, added, np.sort(places[places >= 0]), len(self._waiting))

    def why_waiting(self, name: str) -> str | None:
        """Why an item that was put is not served; None: it does not wait."""
        return self._waiting.get(name)

    def _catch_up(self) -> None:
        if self.log.replaced(self._mark):
            self._clear()
        for record, mark in self.log.records(self._mark):
            self._mark = mark
            self._take(record)
            if len(self._unread) >= _AT_ONCE:
                self._encode()
        self._encode()

    def _take(self, record: Record) -> None:
        self.number = record["number"]
        for name, content in record["put"].items():
            self._deleted.discard(name)
            self._digests[name] = _digest(content)
            self._unread[name] = content
        for name in record["delete"]:
            self._deleted.add(name)
            for known in (self._digests, self._added, self._waiting, self._unread):
                known.pop(name, None)

    def _encode(self) -> None:
        """Encodes what was taken, if the version does not hold it."""
        unread, self._unread = self._unread, {}
        strangers = self._strangers(unread)
        schema = self.served.content.frame.schema
        for name in unread:
            self._added.pop(name, None)
            self._waiting.pop(name, None)
        found = encode(self.served, [unread[name] for name in strangers]) if strangers else []
        for name, vector in zip(strangers, found, strict=True):
            if isinstance(vector, DataError):
                self._waiting[name] = str(vector)
            else:
                row = fitted(unread[name].get("columns", {}), schema)
                self._added[name] = _Entry(vector, row)
        if waiting := [name for name in unread if name in self._waiting]:
            logger.warning(
                "%d run-time items wait for another version, %r first: %s",
                len(waiting), waiting[0], self._waiting[waiting[0]],
            )  # fmt: skip

    def _strangers(self, names: Mapping[str, Content]) -> list[str]:
        """Those that the version does not hold."""
        places = self.served.items.find(list(names))
        return [name for name, place in zip(names, places, strict=True) if place < 0]

    def _check(self, new: Mapping[str, Content]) -> None:
        """Raises DataError unless this version can serve all of these."""
        strangers = self._strangers(new)
        schema, names = self.served.content.frame.schema, self.served.items.names
        for name in strangers:
            if names.dtype.is_integer() and not _is_whole(name):
                raise DataError(
                    f"item {name!r} is no whole number, as the ids of the bundle are ({names[:1]})"
                )
            try:
                check_columns(new[name].get("columns", {}), schema)
            except DataError as error:
                raise DataError(f"item {name!r}: {error}") from error
        found = encode(self.served, [new[name] for name in strangers]) if strangers else []
        for name, vector in zip(strangers, found, strict=True):
            if isinstance(vector, DataError):
                raise DataError(f"item {name!r}: {vector}") from vector

    def _check_room(self, new: Mapping[str, Content], gone: Sequence[str]) -> None:
        after = (self._added.keys() | set(self._strangers(new))) - set(gone)
        most = self.settings.most
        if len(after) > max(most, len(self._added)):
            raise FullError(
                f"{len(self._added)} items were added to {self.served.version}, {most} are allowed "
                "(items.most); export a version that holds them, or delete some"
            )
        if new and self.log.size > self.settings.bytes:
            raise FullError(
                f"{self.log.path} has {self.log.size:,} bytes, {self.settings.bytes:,} are allowed "
                "(items.bytes); stop the server and take the file away once an exported version "
                "holds its items"
            )


def _is_whole(name: str) -> bool:
    """Whether it is a number as it would be written: 3, not 03."""
    digits = name.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) < 19 and str(int(name)) == name


def _digest(content: Content) -> bytes:
    text = json.dumps(content, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=16).digest()
