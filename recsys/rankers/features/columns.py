"""Columns of features for a block of requests, before they become rows.

Shape legend: Q requests, K candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from recsys.arrays import Bool, Float32, Int32, Int64
from recsys.rankers.examples import Field
from recsys.rankers.features.config import FeaturesConfig
from recsys.rankers.features.knowledge import Knowledge
from recsys.rankers.features.requests import Requests, recent_items
from recsys.retrieval.funnel import Searchable

DAY = 86_400.0


@dataclass
class Columns:
    """Named columns; numbers `[Q, K]` or `[Q, 1]`, categories likewise with their fields."""

    numbers: dict[str, Float32] = field(default_factory=dict)
    categories: dict[str, tuple[Int32, Field]] = field(default_factory=dict)

    def add(self, name: str, values: npt.NDArray[np.generic]) -> None:
        """A number for each candidate `[Q, K]`, or for each request `[Q]`."""
        shaped = values[:, None] if values.ndim == 1 else values
        self.numbers[name] = shaped.astype(np.float32, copy=False)

    def add_category(self, field: Field, values: npt.NDArray[np.integer]) -> None:
        """A category for each candidate `[Q, K]`, or for each request `[Q]`; 0: missing."""
        shaped = values[:, None] if values.ndim == 1 else values
        self.categories[field.name] = shaped.astype(np.int32, copy=False), field


@dataclass(frozen=True)
class Block:
    """Some requests, and what is known."""

    requests: Requests
    config: FeaturesConfig
    knowledge: Knowledge
    items: Searchable

    @property
    def present(self) -> Bool:
        """`[Q, K]`."""
        return self.requests.present

    @cached_property
    def candidates(self) -> Int64:
        """`[Q, K]`, 0 where there is none."""
        return self.requests.candidates.clip(0)

    @cached_property
    def moments(self) -> Int64 | None:
        """`[Q]` of the requests; where they are not known, behind all that is known."""
        if self.requests.moments is not None or self.knowledge.events is None:
            return self.requests.moments
        return np.full(len(self.requests), self.knowledge.events.end)

    def recent(self, last: int) -> Int64:
        """`[Q, L]` last items of the histories, the most recent first, -1 behind the end."""
        return recent_items(self.requests.histories, last)


def mean_of(values: Float32, recent: Int64) -> Float32:
    """`[Q]` means of item numbers `values [N]` over `recent [Q, L]`; NaN where nothing is known."""
    found = np.where(recent >= 0, values[recent.clip(0)], np.nan)
    known = ~np.isnan(found)
    counts = known.sum(axis=1)
    sums = np.where(known, found, 0).sum(axis=1)
    means: Float32 = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)
    return means
