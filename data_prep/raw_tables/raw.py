"""Raw interactions: the lazy table that every reader returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
import polars.selectors as cs

from data_prep.checks.id_patterns import CHECKS, IdCheck
from recsys.errors import DataError


def column(name: str) -> pl.Expr:
    """A column by its very name: `pl.col` takes `*` and `^...$` for patterns."""
    return cs.by_name(name).as_expr()


@dataclass(frozen=True)
class Table:
    """A file as a lazy frame, and how to name its rows to a person."""

    file: str
    """The name shown in errors."""
    frame: pl.LazyFrame
    """Raw columns, rows in the order of the file."""
    where: Callable[[int], str]
    """Row number (from 0) -> e.g. "ratings.csv line 12"."""
    explain: Callable[[], str | None] = lambda: None
    """Finds the first malformed row of a file that polars refused to read."""

    def columns(self) -> pl.Schema:
        """Names and types.

        Raises:
            DataError: the file cannot be read.
        """
        try:
            return self.frame.collect_schema()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self.unreadable(error) from error

    def collect(self, frame: pl.LazyFrame) -> pl.DataFrame:
        """Runs a query on this table with the streaming engine.

        Raises:
            DataError: a row of the file is malformed; the message names it.
        """
        try:
            return frame.collect(engine="streaming")
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self.unreadable(error) from error

    def unreadable(self, error: Exception) -> DataError:
        """The error for a file that polars refused."""
        found = self.explain() or f"{self.file} cannot be read: {str(error).splitlines()[0]}"
        return DataError(f"{found}; correct or remove the row, or name the format and delimiter")


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table."""

    user: str
    item: str
    time: str | None = None
    order: str | None = None
    weight: str | None = None
    part: str | None = None
    """train, valid or test in every row."""


@dataclass(frozen=True)
class RawData:
    """A raw data set, ready to be read."""

    table: Table
    columns: Columns
    items: pl.DataFrame | pl.LazyFrame | None
    """item_id and content columns; lazy where only kept items should come into memory."""
    source: str
    """For the manifest: address, package or file name; never a local path."""
    licence: str
    id_checks: tuple[IdCheck, ...] = CHECKS
    """What no id should be."""
    users: pl.DataFrame | None = None
    """user_id and content columns."""
    notes: tuple[str, ...] = ()
    """What was left out while reading; stands before the filters in the manifest."""
    ordered: bool = True
    """Whether the order of a history means anything."""
