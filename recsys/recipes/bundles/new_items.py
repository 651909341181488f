"""Vectors for new items, from their features alone."""

from __future__ import annotations

from pathlib import Path

from recsys.arrays import Float32
from recsys.errors import ConfigError
from recsys.runs.loading import LoadedRun, open_run
from recsys.runs.records import RUN
from recsys.serving.item_tower import NewFeatures, open_item_tower
from recsys.serving.item_tower_export import new_item_tower
from recsys.towers.items import ItemTower


def vectors_for_new_items(source: str | Path, features: NewFeatures) -> Float32:
    """Vectors in the space of a trained run's items, without retraining.

    Args:
        source: a run folder whose config has `model.items`, or a bundle exported from one.
        features: by name, of n items each: vectors `[n, W]` of the encoder that encoded the
            training data (a row of zeros or NaN: absent), n lists of category names, n numbers.
            What is left out counts as missing.

    Returns:
        `[n, D]`: nested, as those of `item_vectors()`; scored by the same user vectors.

    Raises:
        ConfigError: the run's items are ids alone.
        DataError: features that do not fit, or a bundle without an item tower.
    """
    if not isinstance(source, LoadedRun) and not (Path(source) / RUN).is_file():
        return open_item_tower(source).vectors(features)
    table = getattr(open_run(source).model, "table", None)
    if not isinstance(table, ItemTower):
        raise ConfigError(
            f"the items of {source} are made of ids alone, and new items have no trained id; train "
            "with "
            "model.items"
        )
    return new_item_tower(table).vectors(features)
