"""Pushed vectors as two growing files, which index libraries build from.

A block counts when both files hold it: what a kill left of a half-written block is cut off.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from recsys.arrays import Float32, Int64
from recsys.files.atomic import atomic_path
from recsys.stores.plan import Plan, Rows
from recsys.stores.store import Hits, ItemId


class RowFiles:
    """`prefix.f32` and `full.f32` in a folder: float32, row by row, little-endian."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        """Opens them; they may be missing."""
        self._widths = {folder / "prefix.f32": plan.prefix, folder / "full.f32": plan.full}

    def count(self) -> int:
        """Rows that are whole in both; anything behind them is cut off."""
        for path in self._widths:
            path.touch()
        rows = min(path.stat().st_size // (4 * dim) for path, dim in self._widths.items())
        for path, dim in self._widths.items():
            os.truncate(path, rows * 4 * dim)
        return rows

    def append(self, rows: Rows) -> None:
        """Writes a block to the disk."""
        for (path, _), block in zip(self._widths.items(), (rows.prefix, rows.full), strict=True):
            with path.open("ab") as stream:
                stream.write(np.ascontiguousarray(block, "<f4").data)
                stream.flush()
                os.fsync(stream.fileno())

    def mapped(self) -> tuple[Float32, Float32]:
        """`[N, d]` and `[N, D]`, mapped."""
        prefix, full = (
            np.memmap(path, "<f4", "r", shape=(path.stat().st_size // (4 * dim), dim))
            for path, dim in self._widths.items()
        )
        return prefix, full

    def remove(self) -> None:
        """Removes both."""
        for path in self._widths:
            path.unlink(missing_ok=True)


class ItemFile:
    """`items.parquet` of a version: row, external id, what is told of the item."""

    def __init__(self, folder: Path) -> None:
        """Of the folder of a version."""
        self._path = folder / "items.parquet"

    def write(self, plan: Plan) -> None:
        """Writes it, if it is missing."""
        if not self._path.is_file():
            with atomic_path(self._path) as temporary:
                plan.items.write_parquet(temporary)

    @cached_property
    def _ids(self) -> list[ItemId]:
        return pl.read_parquet(self._path, columns=["item_id"])["item_id"].to_list()

    @cached_property
    def _row_of(self) -> dict[ItemId, int]:
        return {each: row for row, each in enumerate(self._ids)}

    def rows(self, ids: Sequence[ItemId]) -> Int64:
        """Rows of external ids."""
        return np.array([self._row_of[each] for each in ids], np.int64)

    def hits(self, rows: Int64, scores: Float32) -> Hits:
        """External ids of rows, with their scores."""
        return [(self._ids[row], float(s)) for row, s in zip(rows, scores, strict=True)]
