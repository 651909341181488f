"""Refusal of ids that stand for a reading mistake, with cause and row."""

from __future__ import annotations

import polars as pl

from data_prep.checks.id_patterns import IdCheck
from data_prep.raw_tables.raw import RawData
from recsys.errors import DataError

_IDS = ("user_id", "item_id")


def check_ids(raw: RawData, frame: pl.DataFrame) -> None:
    """Looks at every id once.

    Args:
        raw: the raw data set, with its checks.
        frame: user_id and item_id (categories), rows as in the file.

    Raises:
        DataError: an id is likely none.
    """
    named = {"user_id": raw.columns.user, "item_id": raw.columns.item}
    for target in _IDS:
        distinct = frame[target].unique()
        texts = distinct.cast(pl.String)
        for check in raw.id_checks:
            wrong = distinct.filter(texts.str.contains(check.pattern))
            if len(wrong):
                raise _refused(raw, frame[target], named[target], wrong, check)


def _refused(
    raw: RawData, ids: pl.Series, column: str, wrong: pl.Series, check: IdCheck
) -> DataError:
    where = ids.is_in(wrong.implode())
    row = int(where.arg_max() or 0)
    return DataError(
        f"{raw.table.where(row)}: column {column!r} holds {ids[row]!r} "
        f"({int(where.sum()):,} such rows), {check.cause}"
    )
