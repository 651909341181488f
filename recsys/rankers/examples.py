"""Rows that a ranker scores: one row for each candidate of each request, with its features.

Shape legend: Q requests, R rows (candidates of all requests, one request after the other), C
numeric features, F categorical fields, T interactions of all histories.
"""

from __future__ import annotations

from dataclasses import dataclass

from recsys.arrays import Float32, Int32, Int64


@dataclass(frozen=True)
class Field:
    """A categorical feature."""

    name: str
    size: int
    """Number of categories, 0 among them: 0 marks a value that is missing or was never seen."""
    group: str = ""
    """Fields of one group are one feature of several values (genres, say), spread over columns:
    they have the same categories, and 0 is no value. Empty: a feature of its own."""


@dataclass(frozen=True)
class Schema:
    """Names and kinds of the features of rows, in the order of their columns."""

    numbers: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    num_items: int = 0
    """Items that `Examples.items` and histories may name; 0: there are none of either."""


@dataclass(frozen=True)
class Examples:
    """R rows of Q requests."""

    numbers: Float32
    """`[R, C]`; NaN: missing."""
    fields: Int32
    """`[R, F]`; 0: missing or never seen."""
    offsets: Int64
    """`[Q + 1]`: request q has the rows `offsets[q]` to `offsets[q + 1]`."""
    items: Int32 | None = None
    """`[R]` item index of each row."""
    history_items: Int32 | None = None
    """`[T]` what the requests' users had before, oldest first."""
    history_offsets: Int64 | None = None
    """`[Q + 1]`."""
    labels: Float32 | None = None
    """`[R]` 1: the row is a target (or was clicked), 0: it is not. None where rows are served."""
    weights: Float32 | None = None
    """`[R]` weights of the rows in training; None: all 1."""
