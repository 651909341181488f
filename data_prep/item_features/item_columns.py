"""`recsys columns`: categories and numbers from columns of items.parquet.

Shape legend: N items.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl

from data_prep.item_features.attach import item_ids
from recsys.data.dataset import ITEMS
from recsys.data.features.columns import DELIMITER, read_categories
from recsys.data.features.manifest import FeatureManifest, FeatureOrigin, check_feature_name
from recsys.data.features.writing import write_categories, write_numbers
from recsys.errors import DataError

YEAR = "year"
_YEAR_IN_TITLE = r"\((\d{4})\)\s*$"


def featurize_columns(
    folder: str | Path,
    columns: Iterable[str],
    *,
    delimiter: str = DELIMITER,
    min_count: int = 2,
) -> list[FeatureManifest]:
    """Turns content columns into features of the same names.

    Columns of numbers become numbers. Text becomes categories, several where `delimiter` stands
    between them; so do columns of lists. `year` is taken from a title like `Heat (1995)` where
    the data set has no such column.

    Args:
        folder: the dataset folder.
        columns: names of columns of items.parquet.
        delimiter: what separates the categories of one item in a text.
        min_count: a category of fewer items is left out: of what a single item has alone, nothing
            can be learnt for others.

    Raises:
        DataError: a column is not there, cannot be a feature, or has no value at all.
    """
    folder = Path(folder)
    item_ids(folder)  # the check that this is a whole dataset folder
    frame = pl.read_parquet(folder / ITEMS, glob=False).sort("item_index")
    written = []
    for column in columns:
        name = re.sub(r"\W+", "_", column.lower())
        check_feature_name(name)
        values, source = _values(folder, frame, column)
        if values.dtype.is_numeric():
            written.append(_numbers(folder, name, values, source))
        else:
            written.append(_categories(folder, name, values, source, delimiter, min_count))
    return written


def _values(folder: Path, frame: pl.DataFrame, column: str) -> tuple[pl.Series, str]:
    """A column and what to say of where it came from."""
    if column in frame.columns and column not in ("item_index", "item_id"):
        return frame[column], f"column {column} of {ITEMS}"
    if column == YEAR and frame.schema.get("title") == pl.String:
        years = frame["title"].str.extract(_YEAR_IN_TITLE).cast(pl.Float32, strict=False)
        return years, f"year in brackets at the end of column title of {ITEMS}"
    content = [name for name in frame.columns if name not in ("item_index", "item_id")]
    raise DataError(
        f"{folder} has no content column {column!r}; it has {', '.join(content) or 'none'}. "
        "Prepare the data set with item content (item_file=FILE)"
    )


def _numbers(folder: Path, name: str, values: pl.Series, source: str) -> FeatureManifest:
    numbers = values.cast(pl.Float64).to_numpy()
    present = np.isfinite(numbers)
    if not present.any():
        raise DataError(f"{source} holds no number; leave it out")
    return write_numbers(folder, name, numbers, present, FeatureOrigin(source=source))


def _categories(
    folder: Path, name: str, values: pl.Series, source: str, delimiter: str, min_count: int
) -> FeatureManifest:
    found = read_categories(values, delimiter=delimiter, min_count=min_count)
    if not found.names:
        raise DataError(
            f"{source} holds no category of at least {min_count} items; leave it out, or lower "
            "the minimum"
        )
    notes = []
    if found.left_out:
        notes.append(
            f"{found.left_out:,} of {len(found.names) + found.left_out:,} categories of fewer than "
            f"{min_count} items are left out"
        )
    origin = FeatureOrigin(source=source, notes=tuple(notes))
    return write_categories(folder, name, found.values, found.offsets, found.names, origin)
