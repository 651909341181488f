"""Parquet as a lazy table of text columns."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pyarrow.parquet as pq

from data_prep.raw_tables.packing import Part
from data_prep.raw_tables.raw import Table, column


def scan_parquet(part: Part) -> Table:
    """A parquet file, streamed; categories and byte strings are text, fixed lists are lists.

    Raises:
        DataError: the file is damaged, or two columns bear one name.
    """
    frame = pl.scan_parquet(part.path.absolute(), glob=False, hive_partitioning=False)
    table = Table(part.name, frame, lambda row: f"{part.name} row {row}", lambda: _fault(part))
    plain = {name: _plain(name, dtype) for name, dtype in table.columns().items()}
    changed = {name: value for name, value in plain.items() if value is not None}
    return Table(part.name, frame.with_columns(**changed), table.where, table.explain)


def _plain(name: str, dtype: pl.DataType) -> pl.Expr | None:
    value = column(name)
    if isinstance(dtype, pl.Categorical | pl.Enum | pl.Binary):
        return value.cast(pl.String)
    if isinstance(dtype, pl.Array):
        value, dtype = value.arr.to_list(), pl.List(dtype.inner)
    if isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Categorical | pl.Enum | pl.Binary):
        return value.cast(pl.List(pl.String))
    return value if isinstance(dtype, pl.List) else None


def _fault(part: Part) -> str | None:
    try:
        names = pq.read_schema(part.path).names
    except Exception as error:  # a damaged file may raise anything
        return f"{part.name} cannot be read ({str(error).splitlines()[0]})"
    twice = [name for name, count in Counter(names).items() if count > 1]
    return f"{part.name} has the column {twice[0]!r} twice" if twice else None
