"""Rows that a ranker scores: one row for each candidate of each request, with its features.

Shape legend: Q requests, R rows (candidates of all requests, one request after the other), C
numeric features, F categorical fields, T interactions of all histories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.arrays import Float32, Int32, Int64
from recsys.data.histories import jagged_positions


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

    @property
    def num_requests(self) -> int:
        """Q."""
        return len(self.offsets) - 1

    @property
    def owners(self) -> Int64:
        """`[R]` the request that each row belongs to."""
        return np.repeat(np.arange(self.num_requests), np.diff(self.offsets))


def take(examples: Examples, requests: Int64) -> Examples:
    """The rows of some requests, in that order."""
    rows, offsets = jagged_positions(examples.offsets[requests], examples.offsets[requests + 1])
    history_items, history_offsets = examples.history_items, examples.history_offsets
    if history_items is not None and history_offsets is not None:
        had, history_offsets = jagged_positions(
            history_offsets[requests], history_offsets[requests + 1]
        )
        history_items = history_items[had]
    return Examples(
        numbers=examples.numbers[rows],
        fields=examples.fields[rows],
        offsets=offsets,
        items=None if examples.items is None else examples.items[rows],
        history_items=history_items,
        history_offsets=history_offsets,
        labels=None if examples.labels is None else examples.labels[rows],
        weights=None if examples.weights is None else examples.weights[rows],
    )


def joined(parts: Sequence[Examples]) -> Examples:
    """Requests of several parts, one part after another; at least one part.

    What one part lacks (labels, histories), all lack.
    """

    def rows(name: str) -> np.ndarray | None:
        found = [getattr(part, name) for part in parts]
        return None if any(each is None for each in found) else np.concatenate(found)

    def edges(name: str) -> Int64 | None:
        found = [getattr(part, name) for part in parts]
        if any(each is None for each in found):
            return None
        lengths = np.concatenate([np.diff(each) for each in found])
        return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    offsets = edges("offsets")
    assert offsets is not None
    return Examples(
        numbers=np.concatenate([part.numbers for part in parts]),
        fields=np.concatenate([part.fields for part in parts]),
        offsets=offsets,
        items=rows("items"),
        history_items=rows("history_items"),
        history_offsets=edges("history_offsets"),
        labels=rows("labels"),
        weights=rows("weights"),
    )
