"""Vocabularies that only grow: new rows are numbered as an existing data set numbers its own.

Every user and item of the existing data set keeps its index, also one that the new rows do not
have. New ids come after them, in the order in which the new rows name them. So whatever was trained
by index on the existing data set stays right on the new one.

Shape legend: T rows, n ids.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from recsys.data.content_hash import INTERACTIONS, ITEMS, USERS
from recsys.data.manifest import load_manifest
from recsys.data.parsing.frames import Arranged, Order
from recsys.errors import DataError


@dataclass(frozen=True)
class Grown:
    """Rows by the indices of an existing data set, and the content that it has of its items."""

    arranged: Arranged
    content: pl.DataFrame | None
    """item_id and the content columns of the existing data set; None: it has none."""

    def content_with(self, given: pl.DataFrame | None) -> pl.DataFrame | None:
        """Content of both; of an item that both know, the given row."""
        return _of_both(given, self.content, "item")


def _of_both(
    given: pl.DataFrame | None, known: pl.DataFrame | None, what: str
) -> pl.DataFrame | None:
    """New content, and behind it that of the existing data set: the first row of an id holds."""
    if given is None or known is None:
        return known if given is None else given
    text = pl.col(f"{what}_id").cast(pl.String)
    try:
        return pl.concat(
            [each.with_columns(text) for each in (given, known)], how="diagonal_relaxed"
        )
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"the {what} content does not go with that of the existing data set ({error}); give "
            "each column the type it has there"
        ) from error


def grow(arranged: Arranged, folder: str | Path, *, append: Order | None) -> Grown:
    """Numbers rows like an existing data set.

    Args:
        arranged: new rows, numbered on their own.
        folder: the existing data set, which stays as it is.
        append: also take its own rows: `time`: sorted in by time, before new ones of the same time;
            `given`: before the new ones of the same user. None: the new rows alone.

    Raises:
        DataError: there is no such data set, or with `append` it has other columns.
    """
    folder = Path(folder)
    manifest = load_manifest(folder)
    people = pl.read_parquet(folder / USERS, glob=False).sort("user_index").drop("user_index")
    old_users = people["user_id"]
    catalogue = pl.read_parquet(folder / ITEMS, glob=False).sort("item_index")
    users, user_places = _merged(old_users, arranged.users)
    items, item_places = _merged(catalogue["item_id"], arranged.items)
    rows = arranged.rows.with_columns(
        pl.Series("user_index", user_places[arranged.rows["user_index"].to_numpy()], pl.Int32),
        pl.Series("item_index", item_places[arranged.rows["item_index"].to_numpy()], pl.Int32),
    )
    if append:
        old = pl.read_parquet(folder / INTERACTIONS, glob=False)
        rows = pl.concat([old, rows.select(_same_columns(old, rows, folder))])
    rows = rows.sort("user_index", *["timestamp"] * (append == "time"), maintain_order=True)
    added = len(users) - len(old_users), len(items) - len(catalogue)
    note = (
        f"indices are those of {manifest.name} ({manifest.content_hash[:12]}), which keeps its "
        f"{len(old_users):,} users and {len(catalogue):,} items; {added[0]:,} users and "
        f"{added[1]:,} items are appended"
    )
    if append:
        note += f"; its {manifest.num_interactions:,} rows stand before the new ones"
    content = catalogue.drop("item_index")
    return Grown(
        replace(
            arranged,
            rows=rows,
            users=users,
            items=items,
            notes=(*arranged.notes, note),
            user_content=_of_both(
                arranged.user_content, people if people.width > 1 else None, "user"
            ),
        ),
        content if content.width > 1 else None,
    )


def _merged(old: pl.Series, new: pl.Series) -> tuple[pl.Series, np.ndarray]:
    """All ids, the old ones first; and the index among them of each new one `[n]`.

    Ids meet as text. They keep the old type where every new id can have it.
    """
    texts = old.cast(pl.String), new.cast(pl.String)
    known = pl.DataFrame({"id": texts[0]}).with_row_index("index")
    found = pl.DataFrame({"id": texts[1]}).join(known, on="id", how="left", maintain_order="left")
    places = found["index"].cast(pl.Int64).to_numpy(allow_copy=True)
    strange = found["index"].is_null().to_numpy()
    places = np.where(strange, len(old) + np.cumsum(strange) - 1, np.nan_to_num(places))
    merged = pl.concat([texts[0], texts[1].filter(pl.Series(strange))])
    if old.dtype.is_integer():
        numbers = merged.cast(old.dtype, strict=False)
        if bool((numbers.cast(pl.String) == merged).fill_null(False).all()):
            merged = numbers
    return merged, places.astype(np.int64)


def _same_columns(old: pl.DataFrame, new: pl.DataFrame, folder: Path) -> list[pl.Expr]:
    """The new rows' columns in the order and with the types of the old ones.

    Raises:
        DataError: they are others.
    """
    if set(old.columns) != set(new.columns):
        raise DataError(
            f"{folder} has the columns {', '.join(old.columns)}, the new rows have "
            f"{', '.join(new.columns)}, so they cannot be appended; give the same columns (times, "
            "weights) as there"
        )
    return [pl.col(name).cast(old.schema[name]) for name in old.columns]
