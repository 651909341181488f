"""Opening of a bundle: tiers in memory or mapped, ids, histories.

A bundle is a folder of plain arrays, parquet, ONNX and an index; nothing in it is a pickle.

Shape legend: N items, U users, K interests of a user, D coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.arrays import Arrays, Float32, Int32, Int64
from recsys.errors import ChecksumError, DataError, GranularityError
from recsys.files.checksums import faults
from recsys.files.named import inside
from recsys.retrieval.bundle.array_files import open_array
from recsys.retrieval.bundle.manifest import (
    MANIFEST,
    REMEDY,
    SEAL,
    ArrayEntry,
    BundleManifest,
    TierEntry,
    VectorsEntry,
    read_manifest,
)
from recsys.retrieval.bundle.tiers import Tier, Tiers, TierSpec
from recsys.retrieval.bundle.versions import find_bundle
from recsys.retrieval.codecs.base import Encoded
from recsys.retrieval.codecs.registry import find_codec


def verify_bundle(path: str | Path) -> list[str]:
    """Compares every byte of a bundle with what was written.

    Returns:
        What is wrong, one line each; empty where all is well.
    """
    try:
        folder = find_bundle(path)
        manifest = read_manifest(folder)
    except DataError as error:
        return [str(error)]
    return list(_differences(folder, manifest))


def _differences(folder: Path, manifest: BundleManifest) -> Iterator[str]:
    for file, fault in faults(folder, manifest.files, verify=True):
        yield f"{file} {fault}"
    known = {MANIFEST, SEAL, *manifest.files}
    for path in sorted(folder.rglob("*")):
        file = path.relative_to(folder).as_posix()
        if (path.is_symlink() or not path.is_dir()) and file not in known:
            yield f"{file} was not written by the export"


class Bundle:
    """One version of a bundle."""

    def __init__(self, folder: Path, manifest: BundleManifest, *, mapped: bool = False) -> None:
        """Use `load_bundle`."""
        self.folder, self.manifest, self._all_mapped = folder, manifest, mapped
        self._norms: dict[int, Float32] = {}
        self.items: Tiers = self._tiers(manifest.items)

    @property
    def num_items(self) -> int:
        """N."""
        return self.manifest.items.count

    @property
    def dim(self) -> int:
        """D."""
        return self.items.dim

    @property
    def sizes(self) -> tuple[int, ...]:
        """Granularities that can be stages."""
        return self.manifest.sizes

    @property
    def normalize(self) -> bool:
        """Whether a prefix's scores are divided by the norm of the item's prefix."""
        return self.manifest.metric == "cosine"

    def check_size(self, size: int) -> int:
        """`size`, if it can be a stage.

        Raises:
            GranularityError: it cannot.
        """
        if size not in self.sizes:
            raise GranularityError(
                f"granularity {size} is not among {self.sizes} in {self.folder}; choose "
                "one of these, or export with a tier that ends there"
            )
        return size

    def norms(self, size: int) -> Float32 | None:
        """`[N]` norms of the items' stored prefixes, mapped; None where the metric is dot."""
        if not self.normalize:
            return None
        if size not in self._norms:
            self._norms[size] = self._mapped(self.manifest.norms[self.check_size(size)])
        return self._norms[size]

    @cached_property
    def users(self) -> Tiers:
        """User vectors, `[U, D]`; of several interests `[U * K, D]` (`user_vectors` joins them).

        Raises:
            DataError: none were exported.
        """
        if self.manifest.users is None:
            raise DataError(f"{self.folder} holds no user vectors; {REMEDY} and --users")
        return self._tiers(self.manifest.users, self.interests)

    @property
    def interests(self) -> int:
        """K, vectors of each user."""
        return self.manifest.interests

    def user_vectors(self, rows: Any, size: int) -> Float32:
        """`[n, size]` prefixes of the users `rows`, a slice or indices; `[n, K, size]` with K
        interests above 1.

        Raises:
            DataError: none were exported.
        """
        count = self.interests
        if count == 1:
            return self.users.decode(rows, 0, size)
        users = np.arange(len(self.users) // count)[rows]
        flat = (users[:, None] * count + np.arange(count)).reshape(-1)
        return self.users.decode(flat, 0, size).reshape(len(users), count, size)

    @cached_property
    def seen(self) -> tuple[Int32, Int64]:
        """Items and offsets `[U + 1]` of what each exported user has had.

        Raises:
            DataError: none were exported.
        """
        if self.manifest.seen is None:
            raise DataError(f"{self.folder} holds no histories; {REMEDY} and --users")
        seen = self.manifest.seen
        return self._mapped(seen.items), self._mapped(seen.offsets)

    @cached_property
    def seen_times(self) -> Int64 | None:
        """When each of the items of `seen` was; None: the bundle does not tell."""
        if self.manifest.seen is None or self.manifest.seen.times is None:
            return None
        return self._mapped(self.manifest.seen.times)

    @cached_property
    def popularity(self) -> Int64:
        """`[N]` interactions of every item.

        Raises:
            DataError: nothing is known of them.
        """
        entry = self.manifest.popularity
        if entry is not None:
            return self._mapped(entry)
        if self.manifest.seen is None:  # of an earlier version
            raise DataError(f"{self.folder} does not say how often items were taken; {REMEDY}")
        return np.bincount(self.seen[0], minlength=self.num_items)

    @property
    def columns(self) -> pl.DataFrame:
        """`[N]` rows of what is told of the items; without columns where nothing is."""
        entry = self.manifest.columns
        if entry is None:
            return pl.DataFrame()
        return pl.read_parquet(inside(self.folder, entry.file), glob=False)

    @property
    def rotation(self) -> Float32 | None:
        """`[D, D]` that new user vectors must be multiplied by; None: as they are."""
        entry = self.manifest.rotation
        return None if entry is None else self._mapped(entry)

    def ids(self, what: str) -> pl.DataFrame:
        """`item`: item_index, item_id. `user`: user_index, user_id."""
        entry = self.manifest.items if what == "item" else self.manifest.users
        if entry is None:
            raise DataError(f"{self.folder} holds no {what} ids; {REMEDY}")
        return pl.read_parquet(inside(self.folder, entry.ids), glob=False)

    def _tiers(self, entry: VectorsEntry, each: int = 1) -> Tiers:
        return Tiers(tuple(self._tier(tier, each * entry.count) for tier in entry.tiers))

    def _tier(self, entry: TierEntry, count: int) -> Tier:
        in_memory = entry.residence == "ram" and not self._all_mapped
        read = np.array if in_memory else np.asarray
        rows = {name: read(self._mapped(array)) for name, array in entry.rows.items()}
        shared = {name: np.array(self._mapped(array)) for name, array in entry.shared.items()}
        self._check_arrays(entry, count, rows, shared)
        spec = TierSpec(entry.lo, entry.hi, entry.codec, entry.residence)
        return Tier(spec, Encoded(find_codec(entry.codec), entry.hi - entry.lo, rows, shared))

    def _check_arrays(self, entry: TierEntry, count: int, rows: Arrays, shared: Arrays) -> None:
        """Raises DataError where arrays are not what the codec writes: a search would go on."""
        dim = entry.hi - entry.lo
        try:
            written = find_codec(entry.codec).encode(np.zeros((1, dim), np.float32), shared)
        except (KeyError, ValueError, IndexError) as error:
            raise DataError(
                f"{self.folder}: the arrays that {entry.codec} shares are not those it writes for "
                f"{dim} coordinates ({error}); {REMEDY}"
            ) from error
        found = {name: (array.dtype, array.shape) for name, array in rows.items()}
        wanted = {name: (array.dtype, (count, *array.shape[1:])) for name, array in written.items()}
        if found != wanted:
            raise DataError(
                f"{self.folder}: tier {entry.lo}:{entry.hi} holds {_shapes(found)} where "
                f"{entry.codec} writes {_shapes(wanted)}; {REMEDY}"
            )

    def _mapped(self, entry: ArrayEntry) -> npt.NDArray[Any]:
        return open_array(self.folder, entry)


def _shapes(arrays: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} {kind} {list(shape)}" for name, (kind, shape) in arrays.items())


def check_bundle(bundle: object) -> Bundle:
    """`bundle`, if it is one.

    Raises:
        DataError: it is something else, a path say.
    """
    if not isinstance(bundle, Bundle):
        raise DataError(f"{bundle!r} is not an opened bundle; open it with `load_bundle(path)`")
    return bundle


def load_bundle(path: str | Path, *, verify: bool = True, mapped: bool = False) -> Bundle:
    """Opens a bundle.

    Args:
        path: a version's folder, or the one with `current` in it.
        verify: read every file once and compare it with its sha256 (about a second per GB).
        mapped: map tiers for memory, too, where their form can be: several processes that serve
            the same bundle then hold it once.

    Raises:
        DataError: it is not a bundle, or of another schema version.
        ChecksumError: it is not what was written.
    """
    folder = find_bundle(path)
    manifest = read_manifest(folder)
    if verify and (found := list(_differences(folder, manifest))):
        lines = "\n".join(f"  {line}" for line in found[:10])
        raise ChecksumError(f"{folder} is damaged, {REMEDY}:\n{lines}")
    return Bundle(folder, manifest, mapped=mapped)
