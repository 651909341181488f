"""Writing of a bundle: tiers, ids, histories and additions.

Shape legend: N items, U users, K interests of a user, D coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.errors import DataError
from recsys.files.checksums import entries_of
from recsys.retrieval.bundle.array_files import Format
from recsys.retrieval.bundle.manifest import (
    BundleManifest,
    ColumnsEntry,
    SeenEntry,
    VectorsEntry,
    schema_version,
    write_manifest,
)
from recsys.retrieval.bundle.tier_writing import Matrix, write_array, write_vectors
from recsys.retrieval.bundle.tiers import TierSpec
from recsys.retrieval.bundle.versions import current_version, find_bundle, new_version


@dataclass(frozen=True)
class UserSource:
    """The users that are exported with the items."""

    vectors: Matrix
    """`[U, D]`, or `[U, K, D]`."""
    ids: pl.Series
    seen_items: npt.NDArray[np.int32]
    seen_offsets: npt.NDArray[np.int64]
    """`[U + 1]`: user u has had `seen_items[seen_offsets[u]:seen_offsets[u + 1]]`."""
    seen_times: npt.NDArray[np.int64] | None = None
    """When each of them was; None: the model reads no time."""
    at: int | None = None
    """The time of request that the vectors were made for; None: the model reads none."""


@dataclass(frozen=True)
class BundleSource:
    """The content of a new bundle."""

    items: Matrix
    """`[N, D]`, may be mapped from disk."""
    item_ids: pl.Series
    sizes: tuple[int, ...]
    """Granularities, ascending."""
    normalize: bool = False
    scales: tuple[float, ...] = ()
    repeats: dict[int, float] = field(default_factory=dict)
    """What the model adds to scores of what a user has had, by granularity; empty: nothing."""
    users: UserSource | None = None
    interests: int = 1
    """K, vectors of each user, also of those that the user tower makes."""
    popularity: npt.NDArray[np.int64] | None = None
    """`[N]` interactions of every item; None: of those that the users have had."""
    columns: pl.DataFrame | None = None
    """`[N]` rows: what is told of the items, titles say."""
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
    form: Format = "raw",
    additions: Sequence[Addition] = (),
) -> Path:
    """Writes a new version, whole or not at all, and makes it current.

    Args:
        shelf: the folder of all versions.
        source: vectors, ids, histories.
        tiers: of the items; users are one tier, mapped where the form can be.
        user_codec: how users are stored.
        form: of the tiers' files.
        additions: tower, index, routing.

    Returns:
        The folder of the version.

    Raises:
        DataError: the source is inconsistent, cannot be stored so, or `shelf` is something else.
        ConfigError: a tier shall be mapped from a form that cannot be.
    """
    _check(source)
    with new_version(shelf) as folder:
        parent = current_version(shelf)
        manifest = _write_vectors(folder, source, tiers, user_codec, form)
        manifest = manifest.model_copy(update={"parent": parent})
        for addition in additions:
            manifest = manifest.model_copy(update=addition(folder, manifest))
        write_manifest(folder, manifest.model_copy(update={"files": entries_of(folder)}))
    return find_bundle(shelf)


def _check(source: BundleSource) -> None:
    if len(source.item_ids) != len(source.items):
        raise DataError(f"{len(source.items)} item vectors, but {len(source.item_ids)} item ids")
    for what, given in (("popularity", source.popularity), ("columns", source.columns)):
        if given is not None and len(given) != len(source.items):
            raise DataError(f"{len(source.items)} item vectors, but {len(given)} rows of {what}")
    users = source.users
    if users and not len(users.vectors) == len(users.ids) == len(users.seen_offsets) - 1:
        raise DataError(
            f"{len(users.vectors)} user vectors, {len(users.ids)} user ids and "
            f"{len(users.seen_offsets) - 1} histories do not fit"
        )
    found = users.vectors.shape[1:-1] if users else ()
    if users and found != (() if source.interests == 1 else (source.interests,)):
        raise DataError(
            f"user vectors of shape {users.vectors.shape} for users of {source.interests} vectors "
            "each; users by vectors by coordinates are expected, or users by coordinates"
        )


def _write_vectors(
    folder: Path,
    source: BundleSource,
    tiers: Sequence[TierSpec],
    user_codec: str,
    form: Format,
) -> BundleManifest:
    dim = tiers[-1].hi
    sizes = sorted({size for size in source.sizes if size <= dim} | {tier.hi for tier in tiers})
    item_ids = _ids(folder, "item", source.item_ids)
    items, norms = write_vectors(folder, "items", source.items, item_ids, tiers, sizes, form)
    users, seen = None, None
    if source.users:
        spec = TierSpec(0, dim, user_codec, "ram" if form == "parquet" else "mmap")
        user_ids = _ids(folder, "user", source.users.ids)
        flat = source.users.vectors.reshape(-1, source.users.vectors.shape[-1])
        owners = np.repeat(np.arange(len(user_ids)), source.interests)
        of_rows = user_ids if source.interests == 1 else user_ids.gather(pl.Series(owners))
        entries, _ = write_vectors(folder, "users", flat, of_rows, [spec], (), form)
        users = VectorsEntry(count=len(user_ids), tiers=entries, ids="ids/users.parquet")
        seen = SeenEntry(
            items=write_array(folder, "seen/items.i32", source.users.seen_items),
            offsets=write_array(folder, "seen/offsets.i64", source.users.seen_offsets),
            times=None
            if source.users.seen_times is None
            else write_array(folder, "seen/times.i64", source.users.seen_times),
        )
    counts = source.popularity
    if counts is None and source.users:
        counts = np.bincount(source.users.seen_items, minlength=len(item_ids))
    return BundleManifest(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        popularity=None
        if counts is None
        else write_array(folder, "popularity.i64", counts.astype("<i8")),
        columns=None if source.columns is None else _columns(folder, source.columns),
        schema_version=schema_version(source.interests),
        interests=source.interests,
        recsys_version=version("recsys"),
        model=source.model,
        protocol=source.protocol,
        metric="cosine" if source.normalize else "dot",
        sizes=tuple(sizes),
        scales=source.scales,
        repeats=source.repeats,
        items=VectorsEntry(count=len(source.items), tiers=items, ids="ids/items.parquet"),
        norms=norms if source.normalize else {},
        users=users,
        seen=seen,
        users_at=source.users.at if source.users else None,
        files={},
    )


def _columns(folder: Path, frame: pl.DataFrame) -> ColumnsEntry:
    frame.write_parquet(folder / "columns.parquet")
    return ColumnsEntry(file="columns.parquet", names=tuple(frame.columns))


def _ids(folder: Path, what: str, ids: pl.Series) -> pl.Series:
    """Writes the map from indices to ids; gives the ids under the name of their column."""
    (folder / "ids").mkdir(exist_ok=True)
    named = ids.alias(f"{what}_id")
    frame = named.to_frame().with_row_index(f"{what}_index")
    frame.cast({f"{what}_index": pl.Int32}).write_parquet(folder / f"ids/{what}s.parquet")
    return named
