"""Batches of rows as arrays, for training and for scoring alike.

Shape legend: R rows and Q requests of all examples; r rows and q requests of a batch, C numbers, F
fields, L longest history of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.arrays import Arrays, Int64
from recsys.errors import DataError
from recsys.rankers.examples import Examples, Schema

READS = ("numbers", "fields", "items", "history", "owners")
"""Inputs of a network, by name; each reads some of them."""


@dataclass(frozen=True)
class Picked:
    """Rows of a batch."""

    rows: Int64
    """`[r]`."""
    starts: Int64
    """`[q + 1]`: the rows of its requests, one after another; of single rows `[0, r]`."""


def check_examples(examples: Examples, schema: Schema, *, labelled: bool) -> None:
    """Raises DataError where the arrays are not those that the schema tells of."""
    rows = int(examples.offsets[-1])
    wanted = {"numbers": (rows, len(schema.numbers)), "fields": (rows, len(schema.fields))}
    for name, shape in wanted.items():
        found = getattr(examples, name).shape
        if found != shape:
            raise DataError(
                f"{name} of these examples have the shape {found}; {shape} is expected: they were "
                "made with other features than this ranker was fitted on"
            )
    if labelled and (examples.labels is None or not rows):
        raise DataError("examples to fit on need rows and labels; make them from held-out events")


def single_rows(num_rows: int, most: int, rng: np.random.Generator | None) -> Iterator[Picked]:
    """Batches of single rows, shuffled where there is an `rng`."""
    order = np.arange(num_rows) if rng is None else rng.permutation(num_rows)
    for lo in range(0, num_rows, most):
        rows = order[lo : lo + most]
        yield Picked(rows, np.array([0, len(rows)]))


def whole_requests(offsets: Int64, most: int, rng: np.random.Generator | None) -> Iterator[Picked]:
    """Batches of whole requests of about `most` rows together."""
    num_requests = len(offsets) - 1
    order = np.arange(num_requests) if rng is None else rng.permutation(num_requests)
    sizes = np.diff(offsets)[order]
    batch = (np.cumsum(sizes) - sizes) // most
    cuts = np.flatnonzero(np.diff(batch)) + 1
    for lo, hi in zip([0, *cuts], [*cuts, num_requests], strict=True):
        starts = np.concatenate([[0], np.cumsum(sizes[lo:hi])])
        shift = np.repeat(offsets[order[lo:hi]] - starts[:-1], sizes[lo:hi])
        yield Picked(np.arange(starts[-1]) + shift, starts)


class Batches:
    """The rows of examples, as a network reads them."""

    def __init__(self, examples: Examples, reads: tuple[str, ...], longest: int) -> None:
        """Args:
        examples: R rows.
        reads: of `READS`.
        longest: items of a history that are read, the last ones.

        Raises:
            DataError: there are no items, or no histories, and the network reads them.
        """
        self.examples, self.reads, self.longest = examples, reads, longest
        if "items" in reads and examples.items is None:
            raise DataError("this ranker reads the items of rows, and these examples have none")
        if "history" in reads and examples.history_offsets is None:
            raise DataError("this ranker reads histories, and these examples have none")
        self._owners = np.repeat(np.arange(len(examples.offsets) - 1), np.diff(examples.offsets))

    def arrays(self, rows: Int64) -> Arrays:
        """The inputs of `[r]` rows, by name."""
        examples = self.examples
        found: dict[str, npt.NDArray[Any]] = {}
        if "numbers" in self.reads:
            found["numbers"] = examples.numbers[rows]
        if "fields" in self.reads:
            found["fields"] = examples.fields[rows].astype(np.int64)
        if "items" in self.reads:
            assert examples.items is not None
            found["items"] = examples.items[rows].astype(np.int64)
        if "history" in self.reads:
            requests, owners = np.unique(self._owners[rows], return_inverse=True)
            found["history"], found["owners"] = self._history(requests), owners.astype(np.int64)
        return found

    def _history(self, requests: Int64) -> Int64:
        """`[q, L]` items + 1, the latest ones, 0 in front of the first."""
        offsets, items = self.examples.history_offsets, self.examples.history_items
        assert offsets is not None and items is not None
        ends = offsets[requests + 1]
        lengths = np.minimum(ends - offsets[requests], self.longest)
        longest = max(1, int(lengths.max(initial=0)))
        back = np.arange(longest, 0, -1)
        found = np.zeros((len(requests), longest), np.int64)
        present = back <= lengths[:, None]
        found[present] = items[(ends[:, None] - back)[present]].astype(np.int64) + 1
        return found
