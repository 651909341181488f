"""What the last stage knows of a run's items and users.

Shape legend: U users measured, N items, G categories.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import torch

from recsys.arrays import Bool
from recsys.data.dataset import Dataset
from recsys.data.histories import Histories, item_counts
from recsys.errors import ConfigError
from recsys.rankers.lists.base import Known, tastes_of
from recsys.recipes.last_stage.config import LastStageConfig
from recsys.runs.loading import LoadedRun

MOST_CELLS = 1 << 30
"""Items times categories: bytes of the table of which item has which."""


def known_of(loaded: LoadedRun, histories: Histories, config: LastStageConfig) -> Known:
    """Vectors of the model, categories of the data set, tastes and popularity of the histories.

    Raises:
        ConfigError: the data set has no such column.
    """
    with torch.inference_mode():
        vectors = loaded.model.item_vectors().float().cpu().numpy()
    split = loaded.split
    popularity = item_counts(loaded.dataset, split.start, split.fit_end(loaded.fit_on))
    if config.categories is None:
        return Known(vectors=vectors, popularity=popularity)
    categories, names = item_categories(loaded.dataset, config.categories, config.separator)
    tastes = tastes_of(histories.items.astype(np.int64), histories.offsets, categories)
    return Known(vectors, categories, names, tastes, popularity)


def item_categories(dataset: Dataset, column: str, separator: str) -> tuple[Bool, tuple[str, ...]]:
    """`[N, G]` which categories each item has, and their names.

    Raises:
        ConfigError: there is no such column, or it is empty, or it names too many categories.
    """
    items = dataset.item_frame()
    if column not in items.columns:
        known = ", ".join(items.drop("item_index", "item_id").columns) or "none"
        raise ConfigError(
            f"{dataset.folder} has no column {column!r} of items; found {known}: name the one of "
            "categories (categories=...), or say categories=null"
        )
    values = items.select("item_index", value=pl.col(column))
    if not isinstance(values["value"].dtype, pl.List):
        values = values.with_columns(pl.col("value").cast(pl.String).str.split(separator))
    single = values.explode("value").drop_nulls()
    single = single.with_columns(pl.col("value").cast(pl.String).str.strip_chars())
    single = single.filter(pl.col("value") != "")
    names = single["value"].unique().sort()
    if not len(names):
        raise ConfigError(f"column {column!r} of {dataset.folder} names no category")
    if len(items) * len(names) > MOST_CELLS:
        raise ConfigError(
            f"column {column!r} of {dataset.folder} names {len(names):,} categories of "
            f"{len(items):,} items; {MOST_CELLS // len(items):,} can be held of so many: name a "
            "coarser column (categories=...), or say categories=null"
        )
    found = np.zeros((len(items), len(names)), bool)
    found[single["item_index"].to_numpy(), names.search_sorted(single["value"]).to_numpy()] = True
    return found, tuple(names.to_list())
