"""Writing of tiers, block by block.

Shape legend: N rows, D coordinates, d coordinates of a tier.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.arrays import Float32
from recsys.errors import ConfigError
from recsys.progress import progress
from recsys.retrieval.bundle.array_files import Format, gather_parquet, gather_safetensors
from recsys.retrieval.bundle.manifest import ArrayEntry, TierEntry
from recsys.retrieval.bundle.tiers import TierSpec
from recsys.retrieval.codecs.base import blocks_of, check_matrix
from recsys.retrieval.codecs.registry import find_codec

Matrix = npt.NDArray[Any]


def write_vectors(
    folder: Path,
    what: str,
    vectors: Matrix,
    ids: pl.Series,
    tiers: Sequence[TierSpec],
    sizes: Sequence[int],
    form: Format = "raw",
) -> tuple[tuple[TierEntry, ...], dict[int, ArrayEntry]]:
    """Writes tiers, and the norms of the stored prefixes of `sizes`.

    Args:
        folder: of the bundle.
        what: `items` or `users`: the folder inside.
        vectors: `[N, D]`, may be mapped from disk.
        ids: `[N]`, with the name of their column.
        tiers: which slices, and how.
        sizes: granularities that norms are needed for.
        form: of the files.

    Returns:
        The tiers' entries, and the norms' by granularity.

    Raises:
        ConfigError: a tier shall be mapped from a form that cannot be.
        DataError: values that a codec cannot store.
    """
    for tier in tiers:
        if form == "parquet" and tier.residence == "mmap":
            raise ConfigError(
                f"tier {tier} cannot be mapped from parquet; end it with :ram, or choose the "
                "format raw or safetensors"
            )
    entries, squares = [], np.zeros(len(vectors), np.float64)
    norms: dict[int, ArrayEntry] = {}
    with progress() as bar:
        task = bar.add_task(f"write {what}", total=len(vectors) * len(tiers))
        for tier in tiers:
            writer = _TierWriter(folder, what, tier, vectors)
            inner = [size for size in sizes if tier.lo < size <= tier.hi]
            by_size = {size: np.empty(len(vectors), np.float32) for size in inner}
            for rows in blocks_of(len(vectors)):
                stored = writer.write(rows)
                edge = tier.lo
                for size in inner:
                    part = stored[:, edge - tier.lo : size - tier.lo]
                    squares[rows] += np.square(part, dtype=np.float64).sum(axis=1)
                    by_size[size][rows] = np.sqrt(squares[rows]).clip(1e-12)
                    edge = size
                bar.advance(task, len(stored))
            entries.append(writer.close(form, ids))
            for size, values in by_size.items():
                norms[size] = write_array(folder, f"{what}/norm-{size:04d}.f32", values)
    return tuple(entries), norms


class _TierWriter:
    """One tier's files, appended to block by block."""

    def __init__(self, root: Path, what: str, spec: TierSpec, vectors: Matrix) -> None:
        self.root, self.spec, self.codec = root, spec, find_codec(spec.codec)
        self.slice = vectors[:, spec.lo : spec.hi]
        self.shared = self.codec.fit(self.slice)
        self.at = f"{what}/{spec.lo:04d}-{spec.hi:04d}-{spec.codec}"
        (root / self.at).mkdir(parents=True)
        self.written: dict[str, ArrayEntry] = {}
        self.lost = self.total = self.largest = 0.0

    def write(self, rows: slice) -> Float32:
        """Encodes and appends `rows`; gives them as they will be read."""
        block = check_matrix(self.slice[rows])
        arrays = self.codec.encode(block, self.shared)
        for name, array in arrays.items():
            file = f"{self.at}/{name}"
            with (self.root / file).open("ab") as stream:
                stream.write(np.ascontiguousarray(array).data)
            shape = (len(self.slice), *array.shape[1:])
            self.written[name] = ArrayEntry(file=file, dtype=array.dtype.str, shape=shape)
        stored = self.codec.decode(arrays, self.shared, block.shape[1])
        difference = stored.astype(np.float64) - block
        self.largest = max(self.largest, float(np.abs(difference).max()))
        self.lost += float(np.square(difference).sum())
        self.total += float(np.square(block, dtype=np.float64).sum())
        return stored

    def close(self, form: Format, ids: pl.Series) -> TierEntry:
        """The tier's entry in the manifest, its files in their last form."""
        shared = {
            f"shared-{name}": write_array(self.root, f"{self.at}/shared-{name}", array)
            for name, array in self.shared.items()
        }
        rows = self.written
        if form == "safetensors":
            file = f"{self.at}/tier.safetensors"
            moved = gather_safetensors(self.root, file, rows | shared, self.codec.name)
            rows, shared = ({name: moved[name] for name in part} for part in (rows, shared))
        elif form == "parquet":
            rows = gather_parquet(self.root, f"{self.at}/tier.parquet", rows, ids)
        return TierEntry(
            lo=self.spec.lo,
            hi=self.spec.hi,
            codec=self.spec.codec,
            residence=self.spec.residence,
            rows=rows,
            shared={name.removeprefix("shared-"): entry for name, entry in shared.items()},
            max_abs_error=self.largest,
            relative_error=(self.lost / self.total) ** 0.5 if self.total else 0.0,
        )


def write_array(root: Path, file: str, array: Matrix) -> ArrayEntry:
    """Writes the elements of an array and nothing else."""
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    # Unlike `tofile`, it tells why a write has failed.
    (root / file).write_bytes(np.ascontiguousarray(array).data)
    return ArrayEntry(file=file, dtype=array.dtype.str, shape=array.shape)
