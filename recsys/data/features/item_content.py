"""Content of items (titles, genres ...) and of users (age, country ...), joined by id.

Shape legend: N items or users.
"""

from __future__ import annotations

import polars as pl

from recsys.data.parsing.ids import read_ids, some
from recsys.errors import DataError


def join_content(
    item_ids: pl.Series, content: pl.DataFrame, what: str = "item"
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Content of the items (or of the users), ordered as they are.

    Args:
        item_ids: `[N]` as the data set has them; met as text.
        content: item_id (any type that ids may have) and content columns; of rows of one id the
            first is taken, rows of no item or without an id are left out.
        what: item or user, as the columns are called.

    Returns:
        `[N]` item_id (text) and content, null where there is none; and what to say of it.

    Raises:
        DataError: there is no column item_id, or no item has content.
    """
    name = f"{what}_id"
    if name not in content.columns:
        raise DataError(f"{what} content has no column {name}; it has {', '.join(content.columns)}")
    item_ids = read_ids(item_ids, name).text
    read = read_ids(content[name], f"{what} content: column {name}")
    theirs = content.with_columns(read.text.alias(name)).drop(f"{what}_index", strict=False)
    theirs = theirs.drop_nulls(name)
    distinct = theirs.unique(name, keep="first", maintain_order=True)
    found = int(item_ids.is_in(distinct[name].implode()).sum())
    if not found:
        raise DataError(
            f"no id of the {what} content is {'an item' if what == 'item' else 'a user'} of the "
            f"interactions: it has {some(distinct[name])}, they have {some(item_ids)}. Name the "
            "right column of ids, or leave the content out"
        )
    notes = [*read.notes, f"content found for {found:,} of {len(item_ids):,} {what}s"]
    if again := len(theirs) - len(distinct):
        whose = "an item's" if what == "item" else "a user's"
        notes.append(f"{again:,} second rows of {whose} content are left out")
    joined = (
        item_ids.alias(name).to_frame().join(distinct, on=name, how="left", maintain_order="left")
    )
    return joined, tuple(notes)
