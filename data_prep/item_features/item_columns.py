"""`recsys columns`: categories and numbers from columns of items.parquet.

Shape legend: N items.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from data_prep.item_features.attach import item_ids
from recsys.data.dataset import ITEMS
from recsys.data.features.columns import DELIMITER, ColumnCategories, read_categories, read_numbers
from recsys.data.features.manifest import FeatureManifest, FeatureOrigin, check_feature_name
from recsys.data.features.writing import write_categories, write_numbers
from recsys.errors import DataError
from recsys.progress import console

Kind = Literal["categories", "numbers"]
YEAR = "year"
_YEAR_IN_TITLE = r"\((\d{4})\)\s*$"


def featurize_columns(
    folder: str | Path,
    columns: Iterable[str],
    *,
    delimiter: str = DELIMITER,
    min_count: int = 2,
    kind: Kind | None = None,
) -> list[FeatureManifest]:
    """Turns content columns into features of the same names.

    Columns of numbers become numbers. Text becomes categories, several where `delimiter` stands
    between them; so do columns of lists. `kind` decides otherwise: every column of a CSV file is
    text, and one whose values are numbers may be meant as numbers (a price) or as categories (a
    code). `year` is taken from a title like `Heat (1995)` where the data set has no such column.

    Args:
        folder: the dataset folder.
        columns: names of columns of items.parquet.
        delimiter: what separates the categories of one item in a text.
        min_count: a category of fewer items is left out: of what a single item has alone, nothing
            can be learnt for others.
        kind: what all these columns are taken for; None: each for what it is stored as.

    Raises:
        DataError: a column is not there, cannot be a feature or be read as `kind`, or has no value
            at all.
    """
    folder = Path(folder)
    item_ids(folder)  # the check that this is a whole dataset folder
    frame = pl.read_parquet(folder / ITEMS, glob=False).sort("item_index")
    written = []
    for column in columns:
        name = re.sub(r"\W+", "_", column.lower())
        check_feature_name(name)
        values, source = _values(folder, frame, column)
        if (kind or _stored_kind(values)) == "numbers":
            written.append(_numbers(folder, name, values, source))
            continue
        hint = kind is None and _are_numbers(values)
        found = read_categories(values, delimiter=delimiter, min_count=min_count)
        written.append(_categories(folder, name, found, source, min_count, hint))
    for manifest in written:
        for note in manifest.origin.notes:
            console.print(f"{manifest.name}: {note}", style="yellow", markup=False, soft_wrap=True)
    return written


def _stored_kind(values: pl.Series) -> Kind:
    return "numbers" if values.dtype.is_numeric() else "categories"


def _are_numbers(values: pl.Series) -> bool:
    """Whether text could be read as numbers."""
    try:
        return bool(np.isfinite(read_numbers(values, "")).any())
    except DataError:
        return False


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
    numbers = read_numbers(values, source, "make it categories (--as categories)")
    present = np.isfinite(numbers)
    if not present.any():
        raise DataError(f"{source} holds no number; leave it out")
    return write_numbers(folder, name, numbers, present, FeatureOrigin(source=source))


def _categories(
    folder: Path, name: str, found: ColumnCategories, source: str, min_count: int, hint: bool
) -> FeatureManifest:
    if not found.names:
        other = ", or make it numbers (--as numbers)" if hint else ""
        raise DataError(
            f"{source} holds no category of at least {min_count} items; leave it out, or lower "
            f"the minimum{other}"
        )
    notes = ["text, each value a number; --as numbers reads it as numbers"] if hint else []
    if found.left_out:
        notes.append(
            f"{found.left_out:,} of {len(found.names) + found.left_out:,} categories of fewer than "
            f"{min_count} items are left out"
        )
    origin = FeatureOrigin(source=source, notes=tuple(notes))
    return write_categories(folder, name, found.values, found.offsets, found.names, origin)
