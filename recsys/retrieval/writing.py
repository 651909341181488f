"""Writes a bundle: arrays block by block, so vectors may be larger than memory.

Shape legend: N items, U users, D coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.errors import DataError
from recsys.files import sha256_of
from recsys.progress import progress
from recsys.retrieval.codecs import find_codec
from recsys.retrieval.encoding import Arrays, Float32, blocks_of, check_matrix
from recsys.retrieval.manifest import (
    SCHEMA_VERSION,
    ArrayEntry,
    BundleManifest,
    FileEntry,
    SeenEntry,
    TierEntry,
    VectorsEntry,
    write_manifest,
)
from recsys.retrieval.tiers import TierSpec
from recsys.retrieval.versions import find_bundle, new_version

Matrix = npt.NDArray[Any]


@dataclass(frozen=True)
class UserSource:
    """Users to go along."""

    vectors: Matrix
    """`[U, D]`."""
    ids: pl.Series
    seen_items: npt.NDArray[np.int32]
    seen_offsets: npt.NDArray[np.int64]
    """`[U + 1]`: user u has had `seen_items[seen_offsets[u]:seen_offsets[u + 1]]`."""


@dataclass(frozen=True)
class BundleSource:
    """What a bundle is made of."""

    items: Matrix
    """`[N, D]`, may be mapped from disk."""
    item_ids: pl.Series
    sizes: tuple[int, ...]
    """Granularities, ascending."""
    normalize: bool = False
    scales: tuple[float, ...] = ()
    users: UserSource | None = None
    model: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)


Addition = Callable[[Path, BundleManifest], dict[str, Any]]
"""Writes more files into the unfinished folder, and gives the manifest fields that tell of them."""


def write_bundle(
    shelf: Path,
    source: BundleSource,
    tiers: Sequence[TierSpec],
    *,
    user_codec: str = "fp32",
    additions: Sequence[Addition] = (),
) -> Path:
    """Writes a new version, whole or not at all, and makes it current.

    Args:
        shelf: the folder of all versions.
        source: vectors, ids, histories.
        tiers: of the items; users are one mapped tier.
        user_codec: how users are stored.
        additions: tower and index.

    Returns:
        The folder of the version.

    Raises:
        DataError: the source is inconsistent, cannot be stored so, or `shelf` is something else.
    """
    _check(source)
    with new_version(shelf) as folder:
        manifest = _write_vectors(folder, source, tiers, user_codec)
        for addition in additions:
            manifest = manifest.model_copy(update=addition(folder, manifest))
        write_manifest(folder, manifest.model_copy(update={"files": _sums(folder)}))
    return find_bundle(shelf)


def _check(source: BundleSource) -> None:
    if len(source.item_ids) != len(source.items):
        raise DataError(f"{len(source.items)} item vectors, but {len(source.item_ids)} item ids")
    users = source.users
    if users and not len(users.vectors) == len(users.ids) == len(users.seen_offsets) - 1:
        raise DataError(
            f"{len(users.vectors)} user vectors, {len(users.ids)} user ids and "
            f"{len(users.seen_offsets) - 1} histories do not fit"
        )


def _write_vectors(
    folder: Path, source: BundleSource, tiers: Sequence[TierSpec], user_codec: str
) -> BundleManifest:
    dim = tiers[-1].hi
    sizes = sorted({size for size in source.sizes if size <= dim} | {tier.hi for tier in tiers})
    items, norms = write_vectors(folder, "items", source.items, tiers, sizes)
    _ids(folder, "item", source.item_ids)
    users, seen = None, None
    if source.users:
        spec = TierSpec(0, dim, user_codec, "mmap")
        entries, _ = write_vectors(folder, "users", source.users.vectors, [spec], ())
        users = VectorsEntry(count=len(source.users.ids), tiers=entries, ids="ids/users.parquet")
        _ids(folder, "user", source.users.ids)
        seen = SeenEntry(
            items=write_array(folder, "seen/items.i32", source.users.seen_items),
            offsets=write_array(folder, "seen/offsets.i64", source.users.seen_offsets),
        )
    return BundleManifest(
        schema_version=SCHEMA_VERSION,
        recsys_version=version("recsys"),
        model=source.model,
        protocol=source.protocol,
        metric="cosine" if source.normalize else "dot",
        sizes=tuple(sizes),
        scales=source.scales,
        items=VectorsEntry(count=len(source.items), tiers=items, ids="ids/items.parquet"),
        norms=norms if source.normalize else {},
        users=users,
        seen=seen,
        tower=None,
        index=None,
        rotation=None,
        stages=None,
        files={},
    )


def write_vectors(
    folder: Path, what: str, vectors: Matrix, tiers: Sequence[TierSpec], sizes: Sequence[int]
) -> tuple[tuple[TierEntry, ...], dict[int, ArrayEntry]]:
    """Writes tiers, and the norms of the stored prefixes of `sizes`.

    Returns:
        The tiers' entries, and the norms' by granularity.
    """
    entries, squares = [], np.zeros(len(vectors), np.float64)
    norms: dict[int, ArrayEntry] = {}
    with progress() as bar:
        task = bar.add_task(f"write {what}", total=len(vectors) * len(tiers))
        for tier in tiers:
            writer = _TierWriter(folder / what, tier, vectors)
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
            entries.append(writer.close(folder))
            for size, values in by_size.items():
                norms[size] = write_array(folder, f"{what}/norm-{size:04d}.f32", values)
    return tuple(entries), norms


class _TierWriter:
    """One tier's files, appended to block by block."""

    def __init__(self, folder: Path, spec: TierSpec, vectors: Matrix) -> None:
        self.spec, self.codec = spec, find_codec(spec.codec)
        self.slice = vectors[:, spec.lo : spec.hi]
        self.shared = self.codec.fit(self.slice)
        self.folder = folder / f"{spec.lo:04d}-{spec.hi:04d}-{spec.codec}"
        self.folder.mkdir(parents=True)
        self.written: dict[str, ArrayEntry] = {}
        self.lost = self.total = self.largest = 0.0

    def write(self, rows: slice) -> Float32:
        """Encodes and appends `rows`; gives them as they will be read."""
        block = check_matrix(self.slice[rows])
        arrays = self.codec.encode(block, self.shared)
        for name, array in arrays.items():
            with (self.folder / name).open("ab") as stream:
                stream.write(np.ascontiguousarray(array).data)
            shape = (len(self.slice), *array.shape[1:])
            self.written[name] = ArrayEntry(file=name, dtype=array.dtype.str, shape=shape)
        stored = self.codec.decode(arrays, self.shared, block.shape[1])
        difference = stored.astype(np.float64) - block
        self.largest = max(self.largest, float(np.abs(difference).max()))
        self.lost += float(np.square(difference).sum())
        self.total += float(np.square(block, dtype=np.float64).sum())
        return stored

    def close(self, root: Path) -> TierEntry:
        """The tier's entry in the manifest."""
        at = self.folder.relative_to(root).as_posix()
        return TierEntry(
            lo=self.spec.lo,
            hi=self.spec.hi,
            codec=self.spec.codec,
            residence=self.spec.residence,
            rows={
                name: entry.model_copy(update={"file": f"{at}/{name}"})
                for name, entry in self.written.items()
            },
            shared=_shared(root, at, self.shared),
            max_abs_error=self.largest,
            relative_error=(self.lost / self.total) ** 0.5 if self.total else 0.0,
        )


def _shared(root: Path, at: str, arrays: Arrays) -> dict[str, ArrayEntry]:
    return {name: write_array(root, f"{at}/shared-{name}", array) for name, array in arrays.items()}


def write_array(root: Path, file: str, array: Matrix) -> ArrayEntry:
    """Writes the elements of an array and nothing else."""
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    np.ascontiguousarray(array).tofile(root / file)
    return ArrayEntry(file=file, dtype=array.dtype.str, shape=array.shape)


def _ids(folder: Path, what: str, ids: pl.Series) -> None:
    (folder / "ids").mkdir(exist_ok=True)
    frame = ids.alias(f"{what}_id").to_frame().with_row_index(f"{what}_index")
    frame.cast({f"{what}_index": pl.Int32}).write_parquet(folder / f"ids/{what}s.parquet")


def _sums(folder: Path) -> dict[str, FileEntry]:
    return {
        path.relative_to(folder).as_posix(): FileEntry(
            size=path.stat().st_size, sha256=sha256_of(path)
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
