"""Texts of items from content columns.

Shape legend: N items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from recsys.arrays import Int64
from recsys.data.dataset import ITEMS
from recsys.data.manifest import load_manifest
from recsys.errors import DataError

TEXT_COLUMNS = ("title", "brand", "categories", "genres", "text", "description")
"""Taken where a data set has them and nothing else is said, in this order."""


class TextInputs:
    """`Heat (1995). Action, Crime`: values of the columns, those that are there."""

    def __init__(self, folder: Path, columns: Sequence[str] = ()) -> None:
        """Reads and joins the columns.

        Raises:
            DataError: a column is not there or holds no text, or no usual one is there.
        """
        load_manifest(folder)
        frame = pl.read_parquet(folder / ITEMS, glob=False).sort("item_index")
        content = [name for name in frame.columns if name not in ("item_index", "item_id")]
        chosen = tuple(columns) or tuple(name for name in TEXT_COLUMNS if name in content)
        absent = [name for name in chosen if name not in content]
        if absent or not chosen:
            what = f"no column {absent[0]!r}" if absent else f"none of {', '.join(TEXT_COLUMNS)}"
            raise DataError(
                f"{folder} has {what}; its content columns are {', '.join(content) or 'none'}. "
                "Name some with --columns, or prepare the data set with item content"
            )
        texts = frame.select(
            pl.concat_str(
                [_as_text(name, frame.schema[name]) for name in chosen],
                separator=". ",
                ignore_nulls=True,
            )
        ).to_series()
        self._texts: list[str] = texts.fill_null("").to_list()
        self.items: Int64 = np.flatnonzero([bool(text) for text in self._texts])
        self.source = f"columns {', '.join(chosen)} of {ITEMS}"
        self.fingerprint = hashlib.sha256("\0".join(self._texts).encode()).hexdigest()
        without = len(frame) - len(self.items)
        note = f"{without:,} of {len(frame):,} items have no text"
        self.notes: tuple[str, ...] = (note,) if without else ()

    def load(self, item: int) -> str:
        """The text of one item."""
        return self._texts[item]


def _as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    value = pl.col(name)
    if isinstance(dtype, pl.List):
        value = value.cast(pl.List(pl.String)).list.join(", ")
    elif dtype == pl.String:
        value = value.str.replace_all("|", ", ", literal=True)
    elif not dtype.is_numeric():
        raise DataError(f"column {name!r} holds {dtype}, which is not text; name another column")
    text = value.cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)
