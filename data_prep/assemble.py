"""The dataset folder from raw interactions: sorted, filtered, indexed.

Everything runs on columns of 4 to 8 bytes a row; ids are text only in the two small tables.
Shape legend: T interactions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from data_prep.checks.columns import id_text, read_interactions
from data_prep.checks.id_checks import check_ids
from data_prep.given_parts import by_parts, given_rule
from data_prep.options import PrepareOptions
from data_prep.raw_tables.raw import RawData
from recsys.arrays import Int64
from recsys.data.dataset import Dataset, DatasetOrigin, write_arranged, write_grown
from recsys.data.filters import apply_filters
from recsys.data.parsing.frames import Arranged
from recsys.data.parsing.times import whole_seconds
from recsys.data.vocabulary import compact, places_by_id
from recsys.errors import DataError
from recsys.progress import progress

_SHOWN = 3
_STEPS = ("read", "sort", "filter", "write and hash")


def assemble(name: str, raw: RawData, options: PrepareOptions, out: Path) -> Dataset:
    """Reads a raw data set and writes its dataset folder.

    Raises:
        DataError: the data is malformed, or nothing is left after filtering.
    """
    split = given_rule(raw, options)
    if split.name == "global-time" and raw.columns.time is None:
        raise DataError(
            f"{raw.table.file} has no times, so it cannot be split by global-time; "
            "name the column with time_column=NAME, or use leave-last-out"
        )
    with progress() as bar:
        task = bar.add_task(f"prepare {name}: {_STEPS[0]}", total=len(_STEPS))

        def step(number: int) -> None:
            bar.update(task, completed=number, description=f"prepare {name}: {_STEPS[number]}")

        read = read_interactions(raw, options.time_format)
        check_ids(raw, read.frame)
        frame, ids = _as_codes(read.frame)
        step(1)
        frame = _in_order(frame, ids.users)
        step(2)
        frame, filters = apply_filters(
            frame,
            min_weight=options.min_rating,
            deduplicate=options.deduplicate,
            min_user_count=options.min_user_count,
            min_item_count=options.min_item_count,
        )
        frame, ids = _indexed(frame, ids)
        if split.name == "given":
            frame, split = by_parts(frame, split)
        step(3)
        notes = tuple(read.notes)
        arranged = Arranged(frame, ids.users, ids.items, _tie_rule(raw), notes, raw.users)
        origin = DatasetOrigin(
            source=raw.source,
            licence=options.licence or raw.licence,
            filters=(*raw.notes, *filters),
            ordered=raw.ordered,
        )
        content = _content(raw.items, ids.items)
        if options.like is not None:
            return _like(arranged, raw, options, content, origin, out)
        return write_arranged(
            out,
            arranged,
            name=options.dataset_name or name,
            items=content,
            origin=origin,
            split=split,
        )


def _like(
    arranged: Arranged,
    raw: RawData,
    options: PrepareOptions,
    content: pl.DataFrame | None,
    origin: DatasetOrigin,
    out: Path,
) -> Dataset:
    """By the indices of an existing data set, with its rows where they are asked for."""
    assert options.like is not None
    by_time = raw.columns.order is None and raw.columns.time is not None
    return write_grown(
        out,
        arranged,
        like=options.like,
        append=("time" if by_time else "given") if options.append else None,
        name=options.dataset_name,
        items=content,
        origin=origin,
        split=options.split if "split" in options.model_fields_set else None,
    )


@dataclass(frozen=True)
class _Ids:
    """External ids by code."""

    users: pl.Series
    items: pl.Series


def _content(items: pl.DataFrame | pl.LazyFrame | None, kept: pl.Series) -> pl.DataFrame | None:
    """Content of items that are left; of a lazy frame no others come into memory."""
    if not isinstance(items, pl.LazyFrame):
        return items
    ids = kept.rename("item_id").to_frame().lazy()
    text = id_text("item_id", items.collect_schema()["item_id"])
    found = items.with_columns(text).join(ids, on="item_id", how="semi").collect(engine="streaming")
    # Of content that nobody has, a few rows: what the error shows.
    return found if len(found) else items.head(_SHOWN).collect(engine="streaming")


def _as_codes(frame: pl.DataFrame) -> tuple[pl.DataFrame, _Ids]:
    """Integer codes instead of ids, in the order of first appearance in the file."""
    users, items = frame["user_id"], frame["item_id"]
    user_codes, user_rows = compact(users.to_physical().to_numpy())
    item_codes, item_rows = compact(items.to_physical().to_numpy())
    ids = _Ids(_texts(users, user_rows), _texts(items, item_rows))
    codes = {"user_id": pl.Series(user_codes), "item_id": pl.Series(item_codes)}
    return frame.with_columns(**codes), ids


def _texts(ids: pl.Series, rows: Int64) -> pl.Series:
    return ids.gather(pl.Series(rows)).cast(pl.String)


def _in_order(frame: pl.DataFrame, users: pl.Series) -> pl.DataFrame:
    """Sorted by user, then by order or time: equal ones keep the order of the file.

    With either, users stand in the order of their ids, so that the order of the file matters for
    equal ones alone; without, as they first appear. `users`: ids by code.
    """
    codes = frame["user_id"].to_numpy()
    key = next((name for name in ("order", "timestamp") if name in frame.columns), None)
    if key is None:
        rows = np.argsort(codes, kind="stable")
    else:
        codes = places_by_id(users)[codes]
        rows = np.lexsort((frame[key].to_physical().to_numpy(), codes))
    if (np.diff(rows) != 1).any():
        frame = frame[rows.astype(np.uint32)]
    return frame.drop("order", strict=False)


def _indexed(frame: pl.DataFrame, ids: _Ids) -> tuple[pl.DataFrame, _Ids]:
    """Indices 0..n-1 of what is left, and columns as the dataset folder has them."""
    old_users, old_items = frame["user_id"].to_numpy(), frame["item_id"].to_numpy()
    users, user_rows = compact(old_users)
    items, item_rows = compact(old_items)
    rows = pl.DataFrame({"user_index": users, "item_index": items})
    if "timestamp" in frame.columns:
        rows = rows.with_columns(whole_seconds(frame["timestamp"]))
    rows = rows.with_columns(frame[name] for name in ("weight", "part") if name in frame.columns)
    left = _Ids(
        ids.users.gather(pl.Series(old_users[user_rows])),
        ids.items.gather(pl.Series(old_items[item_rows])),
    )
    return rows, left


def _tie_rule(raw: RawData) -> str:
    if not raw.ordered:
        return "none: histories have no order"
    if raw.columns.order is not None:
        return f"order given by column {raw.columns.order} of the source file"
    if raw.columns.time is not None:
        return "given order of the source file (stable sort by user, then time)"
    return "given order of the source file (no times)"
