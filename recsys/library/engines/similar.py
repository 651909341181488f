"""Items like an item, by a model's vectors or by what it recommends to whoever has had the item.

Shape legend: B items asked for, N items, D coordinates, K length of the lists.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from recsys.arrays import Float32, Int64
from recsys.data.histories import Histories
from recsys.errors import ConfigError
from recsys.kernels.best_places import best_places
from recsys.library.engines.engine import Engine, Found, in_pieces, unit_rows
from recsys.library.ids import Ids
from recsys.library.output import list_frame

_SCORES = 1 << 23
"""Cosines that are held at once."""


def similar_frame(
    engine: Engine, names: Ids, items: Int64, k: int, size: int | None
) -> pl.DataFrame:
    """item_id, similar_item_id, rank and score of the K items most like each of `items [B]`.

    Raises:
        ConfigError: the model tells no item from another.
        GranularityError: its vectors cannot be cut there.
    """
    if engine.sizes:
        found = _nearest(unit_rows(engine.item_vectors(size)), items, k)
    else:
        found = _recommended(engine, items, k, size)
    return list_frame(names.names_of(items), *found, names, "similar_item_id")


def _nearest(unit: Float32, items: Int64, k: int) -> Found:
    """By cosines of rows of length 1 `[N, D]`, without the item itself; equals by index."""
    size = (len(items), min(k, max(1, len(unit) - 1)))
    found, scores = np.empty(size, np.int64), np.empty(size, np.float32)
    everything = np.arange(len(unit))
    for rows in in_pieces(len(items), max(1, _SCORES // len(unit))):
        cosines = unit[items[rows]] @ unit.T
        cosines[np.arange(len(rows)), items[rows]] = -np.inf
        columns = np.ascontiguousarray(np.broadcast_to(everything, cosines.shape))
        places = best_places(cosines, columns, size[1])
        found[rows] = places
        scores[rows] = np.take_along_axis(cosines, places, axis=1)
    return np.where(scores > -np.inf, found, -1), scores


def _recommended(engine: Engine, items: Int64, k: int, size: int | None) -> Found:
    if not engine.personal:
        raise ConfigError(
            "this model gives everybody the same items, so none is like another; ask a model that "
            "reads histories"
        )
    alone = Histories(np.full(len(items), -1), items.astype(np.int32), np.arange(len(items) + 1))
    lister = engine.lister(k, size, None, None)
    return lister.lists(alone, own=False, k=k, filter_seen=True)
