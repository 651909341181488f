"""Item content (titles, genres ...) joined to the items by id, in `items.parquet`.

Shape legend: N items.
"""

from __future__ import annotations

import polars as pl

from recsys.data.parsing.ids import read_ids, some
from recsys.errors import DataError


def join_content(
    item_ids: pl.Series, content: pl.DataFrame
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Content of the items, ordered as they are.

    Args:
        item_ids: `[N]` as the data set has them; met as text.
        content: item_id (any type that ids may have) and content columns; of rows of one id the
            first is taken, rows of no item or without an id are left out.

    Returns:
        `[N]` item_id (text) and content, null where there is none; and what to say of it.

    Raises:
        DataError: there is no column item_id, or no item has content.
    """
    if "item_id" not in content.columns:
        raise DataError(f"item content has no column item_id; it has {', '.join(content.columns)}")
    item_ids = read_ids(item_ids, "item_id").text
    read = read_ids(content["item_id"], "item content: column item_id")
    theirs = content.with_columns(read.text.alias("item_id")).drop("item_index", strict=False)
    theirs = theirs.drop_nulls("item_id")
    distinct = theirs.unique("item_id", keep="first", maintain_order=True)
    found = int(item_ids.is_in(distinct["item_id"].implode()).sum())
    if not found:
        raise DataError(
            f"no id of the item content is an item of the interactions: it has "
            f"{some(distinct['item_id'])}, they have {some(item_ids)}. Name the right column of "
            "ids, or leave the content out"
        )
    notes = [*read.notes, f"content found for {found:,} of {len(item_ids):,} items"]
    if again := len(theirs) - len(distinct):
        notes.append(f"{again:,} second rows of an item's content are left out")
    joined = (
        item_ids.alias("item_id")
        .to_frame()
        .join(distinct, on="item_id", how="left", maintain_order="left")
    )
    return joined, tuple(notes)
