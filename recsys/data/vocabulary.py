"""Vocabularies: external ids to indices 0..n-1, in the order of first appearance.

Shape legend: T values, n distinct ids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.errors import DataError

_BLOCK = 1 << 22


@dataclass(frozen=True)
class Vocabulary:
    """The ids of users or of items; the position of an id is its index."""

    ids: pl.Series
    """`[n]` distinct external ids."""

    @classmethod
    def of(cls, values: pl.Series) -> Vocabulary:
        """The distinct values of `[T]`, in the order in which they first appear."""
        return cls(values.unique(maintain_order=True))

    def __len__(self) -> int:
        return len(self.ids)

    def encode(self, values: pl.Series) -> npt.NDArray[np.int32]:
        """Indices `[T]` of external ids `[T]`.

        Raises:
            DataError: an id is not in the vocabulary.
        """
        known = pl.DataFrame({"id": self.ids}).with_row_index("index")
        asked = pl.DataFrame({"id": values}).join(
            known, on="id", how="left", maintain_order="left", nulls_equal=True
        )
        found = asked["index"]
        if found.null_count():
            unknown = values[int(found.is_null().arg_max() or 0)]
            raise DataError(
                f"{unknown!r} is not among the {len(self)} known ids; "
                "use an id of this data set, or prepare the data set again"
            )
        return found.cast(pl.Int32).to_numpy()

    def decode(self, indices: npt.NDArray[np.integer]) -> pl.Series:
        """External ids `[T]` of indices `[T]`.

        Raises:
            DataError: an index is outside 0..n-1.
        """
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(self):
            raise DataError(
                f"an index is outside 0..{len(self) - 1}; take indices of this data set"
            )
        return self.ids.gather(pl.Series(indices))


def compact(
    codes: npt.NDArray[np.integer],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Renumbers codes without gaps, in the order of first appearance.

    Args:
        codes: `[T]`, small and not negative: memory grows with the largest.

    Returns:
        The new codes `[T]`, and the row in which each of the n new codes first appears `[n]`.
    """
    first = np.full(int(codes.max()) + 1 if len(codes) else 0, len(codes), dtype=np.int64)
    # From the back: of a repeated index numpy keeps the value assigned last, so the earliest
    # position stays. Block by block, so that no second array of T positions is made.
    for stop in range(len(codes), 0, -_BLOCK):
        start = max(0, stop - _BLOCK)
        first[codes[start:stop][::-1]] = np.arange(stop - 1, start - 1, -1)
    rows = np.sort(first[first < len(codes)])
    new = np.zeros(len(first), dtype=np.int32)
    new[codes[rows]] = np.arange(len(rows), dtype=np.int32)
    return new[codes], rows


def places_by_id(ids: pl.Series) -> npt.NDArray[np.int32]:
    """The place of each id when they are sorted: whole numbers by value, then text by letter.

    Args:
        ids: `[n]` distinct; text or whole numbers.

    Returns:
        `[n]`, each of 0..n-1 once.
    """
    text = pl.col("id").cast(pl.String)
    number = text.str.contains(r"^(0|[1-9][0-9]*)$")
    length = pl.when(number).then(text.str.len_bytes())
    keys = ids.rename("id").to_frame().select(text=text, word=~number, length=length)
    order = keys.with_row_index().sort("word", "length", "text")["index"].to_numpy()
    places = np.empty(len(order), dtype=np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    return places
