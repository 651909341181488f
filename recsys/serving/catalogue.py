"""Search of a bundle by external ids: histories and filters in, lists out.

    catalogue = Catalogue(load_bundle("bundles/beauty"))
    items, offsets = catalogue.histories([["B004MKGFLG", "B001E6OXB4"], ["B0015TGA4Y"]])
    filters = catalogue.filters(items, offsets)
    found = funnel.search(tower.user_vectors(items, offsets), filters=filters)
    catalogue.ids(found.items)

Shape legend: B users, T items of all histories, K length of the lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.arrays import Int64
from recsys.errors import DataError
from recsys.retrieval.bundle.loading import Bundle, check_bundle
from recsys.retrieval.bundle.manifest import REMEDY
from recsys.retrieval.checks import checked_indices, checked_jagged
from recsys.retrieval.filters import Filters, make_filters

ItemId = str | int
_SHOWN = 3


class Catalogue:
    """A bundle that is searched by external ids; the map of all ids is kept in memory."""

    def __init__(self, bundle: Bundle) -> None:
        """Reads the ids of a bundle.

        Raises:
            DataError: it is not a bundle, or an id stands for two items.
        """
        self.bundle = check_bundle(bundle)
        column = bundle.ids("item")["item_id"]
        self._kind: type = int if column.dtype.is_integer() else str
        self._names = np.array([*column.to_list(), None], object)
        self._index = {each: index for index, each in enumerate(self._names[:-1])}
        if len(self._index) != bundle.num_items:
            raise DataError(f"an item id of {bundle.folder} occurs twice; {REMEDY}")

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, item: object) -> bool:
        """Whether the bundle has this item: `[each for each in history if each in catalogue]`."""
        return self._fits(item) and item in self._index

    def indices(self, ids: Iterable[ItemId]) -> Int64:
        """Item indices of external ids, in their order.

        Raises:
            DataError: an id is of another type than the bundle's, or unknown.
        """
        if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
            raise DataError(f"{ids!r} is not a list of item ids; give [{ids!r}] for a single item")
        given = list(ids)
        if strange := [each for each in given if not self._fits(each)]:
            raise DataError(
                f"item ids of {self.bundle.folder} are {self._told()}; {_shown(strange)} given; "
                "indices go to `make_filters` and `UserTower` as they are"
            )
        if unknown := [each for each in given if each not in self._index]:
            raise DataError(
                f"{self.bundle.folder} has no item {_shown(unknown)}; leave out what it has not "
                "(`id in catalogue` tells), or export a run that knows them"
            )
        return np.array([self._index[each] for each in given], np.int64)

    def histories(self, histories: Sequence[Iterable[ItemId]]) -> tuple[Int64, Int64]:
        """Items `[T]` and offsets `[B + 1]` of B lists of external ids, oldest first.

        Raises:
            DataError: as `indices`.
        """
        if isinstance(histories, str | bytes) or not isinstance(histories, Iterable):
            raise DataError(
                f"{histories!r} are not histories; a list of item ids for each user is expected"
            )
        rows = [self.indices(history) for history in histories]
        items = np.concatenate([np.empty(0, np.int64), *rows])
        return items, np.cumsum([0, *map(len, rows)], dtype=np.int64)

    def filters(
        self,
        items: npt.NDArray[np.integer],
        offsets: npt.NDArray[np.integer],
        *,
        allowed: Iterable[ItemId] | None = None,
        blocked: Iterable[ItemId] | None = None,
        filter_seen: bool | None = None,
    ) -> Filters:
        """Filters of B users, for a search as the figures of the bundle's run were measured.

        Args:
            items: `[T]` indices of what they have had.
            offsets: `[B + 1]`, as `histories` gives them.
            allowed: external ids, the only ones anyone shall get; None: all.
            blocked: external ids that nobody shall get.
            filter_seen: whether users get nothing they have had; None: as the protocol of the run
                says (vectors from elsewhere name none: they get nothing they have had).

        Raises:
            DataError: an id is unknown, or the offsets do not fit the items.
        """
        manifest = self.bundle.manifest
        items, offsets = checked_jagged(items, offsets, len(self), "histories")
        if filter_seen is None:
            filter_seen = bool(manifest.protocol.get("filter_seen", True))
        allow, block = (
            None if given is None else self.indices(given) for given in (allowed, blocked)
        )
        return make_filters(
            len(offsets) - 1,
            len(self),
            seen=(items, offsets),
            allowed=allow,
            blocked=block,
            repeats=None if filter_seen else manifest.repeats,
        )

    def ids(self, items: npt.NDArray[np.integer]) -> list[Any]:
        """External ids of `[K]` or `[B, K]` indices, as lists; None where there is none (-1)."""
        found = np.asarray(items)
        if found.ndim not in (1, 2):
            raise DataError(f"items have the shape {found.shape}; [K] or [users, K] is expected")
        flat = checked_indices(found.reshape(-1), len(self), "items", least=-1)
        named = self._names[flat]  # -1: None, the last of them
        return list(named.reshape(found.shape).tolist())

    def _fits(self, item: object) -> bool:
        kinds = str if self._kind is str else (int, np.integer)
        return isinstance(item, kinds) and not isinstance(item, bool | np.bool_)

    def _told(self) -> str:
        example = f", such as {self._names[0]!r}" if len(self) else ""
        return ("text" if self._kind is str else "whole numbers") + example


def _shown(items: Sequence[object]) -> str:
    text = ", ".join(repr(each) for each in items[:_SHOWN])
    more = len(items) - _SHOWN
    return f"{text} and {more:,} more" if more > 0 else text
