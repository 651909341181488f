"""The dataset folder: its manifest, how it is read, and how it is written.

    dataset.json            manifest (below)
    interactions.parquet    user_index i32, item_index i32, timestamp i64?, weight f32?
                            sorted by user_index, then by the order of the user's history
    users.parquet           user_index i32, user_id
    items.parquet           item_index i32, item_id, any content columns (title, genres, ...)

Indices are 0..n-1 without gaps; external ids live in the two small tables alone.
Shape legend: U users, N items, T interactions.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq
from pydantic import Field

from recsys.config import StrictModel, load_yaml, parse
from recsys.errors import DataError
from recsys.files import atomic_path, sha256_of, write_json

SCHEMA_VERSION = 1
MANIFEST = "dataset.json"
INTERACTIONS = "interactions.parquet"
USERS = "users.parquet"
ITEMS = "items.parquet"

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


class SplitRule(StrictModel):
    """How histories are cut into train, validation and test."""

    name: Literal["leave-last-out", "global-time"] = "leave-last-out"
    """leave-last-out: last = test, the one before = validation. global-time: two timestamps cut."""
    valid_quantile: float = Field(default=0.8, gt=0, lt=1)
    """global-time only: the share of all interactions that is training."""
    test_quantile: float = Field(default=0.9, gt=0, lt=1)
    """global-time only: interactions after this quantile of time are test."""

    def describe(self) -> str:
        """One line for the protocol card."""
        if self.name == "leave-last-out":
            return "leave-last-out: last = test, one before = validation; shorter than 3: all train"
        return f"global-time: train <= q{self.valid_quantile} < validation <= q{self.test_quantile} < test"


class FileEntry(StrictModel):
    """Size and checksum of one file of the folder."""

    bytes: int
    sha256: str


class DatasetManifest(StrictModel):
    """What `dataset.json` says."""

    schema_version: int = SCHEMA_VERSION
    name: str
    source: str
    """Where the raw data came from (address, package or file name; never a local path)."""
    licence: str
    num_users: int
    num_items: int
    num_interactions: int
    filters: tuple[str, ...] = ()
    """Filters in the order they were applied, each as one line."""
    tie_rule: str
    """What orders interactions of one user that carry the same timestamp."""
    split: SplitRule = SplitRule()
    content_hash: str
    """sha256 over indices, timestamps, weights and ids; independent of the parquet encoding."""
    files: dict[str, FileEntry]


@dataclass(frozen=True)
class Dataset:
    """Histories in memory as one jagged array, plus the manifest and the content tables' paths."""

    folder: Path
    manifest: DatasetManifest
    offsets: Int64
    """`[U + 1]`: the history of user u is `items[offsets[u]:offsets[u + 1]]`."""
    items: Int32
    """`[T]` item indices in the order of time within each user."""
    timestamps: Int64 | None
    """`[T]` in the unit of the source, or None."""

    @property
    def num_users(self) -> int:
        return self.manifest.num_users

    @property
    def num_items(self) -> int:
        return self.manifest.num_items

    def item_frame(self) -> pl.DataFrame:
        """Item ids and content, ordered by item_index."""
        return pl.read_parquet(self.folder / ITEMS).sort("item_index")

    def user_frame(self) -> pl.DataFrame:
        """User ids, ordered by user_index."""
        return pl.read_parquet(self.folder / USERS).sort("user_index")


def load_manifest(folder: Path) -> DatasetManifest:
    """Reads and checks `dataset.json`; every file it lists must stand there with its size.

    Raises:
        DataError: no manifest, a foreign schema version, or a missing or cut file.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(f"{folder} is not a dataset folder (no {MANIFEST}); run `recsys prepare`")
    tree = load_yaml(path)
    if tree.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema_version {tree.get('schema_version')!r}, this version reads "
            f"{SCHEMA_VERSION}; run `recsys prepare` again"
        )
    manifest = parse(DatasetManifest, tree, str(path))
    for name, entry in manifest.files.items():
        part = folder / name
        found = part.stat().st_size if part.is_file() else None
        if found != entry.bytes:
            state = "is missing" if found is None else f"has {found} bytes"
            raise DataError(
                f"{part} {state}, {entry.bytes} bytes are expected; "
                f"delete {folder} and run `recsys prepare` again"
            )
    return manifest


def load_dataset(folder: str | Path) -> Dataset:
    """Loads a dataset folder.

    Raises:
        DataError: the folder is no dataset folder, or is damaged.
    """
    folder = Path(folder)
    manifest = load_manifest(folder)
    table = pq.read_table(folder / INTERACTIONS, memory_map=True)
    users = table.column("user_index").to_numpy()
    items = table.column("item_index").to_numpy()
    if len(items) != manifest.num_interactions:
        raise DataError(
            f"{folder / INTERACTIONS} has {len(items)} rows, the manifest says "
            f"{manifest.num_interactions}; run `recsys prepare` again"
        )
    counts = np.bincount(users, minlength=manifest.num_users)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    timestamps = table.column("timestamp").to_numpy() if "timestamp" in table.column_names else None
    return Dataset(folder, manifest, offsets, items.astype(np.int32, copy=False), timestamps)


def write_manifest(
    folder: Path,
    *,
    name: str,
    source: str,
    licence: str,
    filters: Iterable[str],
    tie_rule: str,
    split: SplitRule,
) -> DatasetManifest:
    """Counts and hashes the three tables that stand in `folder`, and writes the manifest last."""
    manifest = DatasetManifest(
        name=name,
        source=source,
        licence=licence,
        num_users=_num_rows(folder / USERS),
        num_items=_num_rows(folder / ITEMS),
        num_interactions=_num_rows(folder / INTERACTIONS),
        filters=tuple(filters),
        tie_rule=tie_rule,
        split=split,
        content_hash=content_hash(folder),
        files={
            part: FileEntry(bytes=(folder / part).stat().st_size, sha256=sha256_of(folder / part))
            for part in (INTERACTIONS, USERS, ITEMS)
        },
    )
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def write_dataset(
    folder: str | Path,
    interactions: pl.DataFrame,
    *,
    name: str,
    items: pl.DataFrame | None = None,
    source: str = "a data frame",
    licence: str = "unknown",
    filters: Iterable[str] = (),
    tie_rule: str = "given order",
    split: SplitRule | None = None,
) -> Dataset:
    """Writes a frame of interactions as a dataset folder, whole or not at all.

    Args:
        folder: where the dataset folder shall stand.
        interactions: columns user_id, item_id, and optionally timestamp and weight, each user's
            rows in the order of the history.
        name: the data set's name.
        items: columns item_id and any content; rows of unknown items are left out.
        source: where the data came from.
        licence: under what terms.
        filters: what was filtered out before, one line each.
        tie_rule: what ordered interactions of equal time.
        split: the split the data set is meant for.

    Raises:
        DataError: a column is missing, an id is null, or there are no rows.
    """
    _check_frame(interactions)
    user_ids = interactions.select("user_id").unique(maintain_order=True)
    item_ids = interactions.select("item_id").unique(maintain_order=True)
    users = user_ids.with_row_index("user_index").cast({"user_index": pl.Int32})
    catalogue = item_ids.with_row_index("item_index").cast({"item_index": pl.Int32})
    extra = [column for column in ("timestamp", "weight") if column in interactions.columns]
    rows = (
        interactions.join(users, on="user_id", how="left", maintain_order="left")
        .join(catalogue, on="item_id", how="left", maintain_order="left")
        .select("user_index", "item_index", *extra)
        .sort("user_index", maintain_order=True)
    )
    if items is not None:
        content = items.unique("item_id", keep="first")
        catalogue = catalogue.join(content, on="item_id", how="left", maintain_order="left")
    with atomic_path(Path(folder)) as temporary:
        temporary.mkdir()
        rows.write_parquet(temporary / INTERACTIONS)
        users.write_parquet(temporary / USERS)
        catalogue.write_parquet(temporary / ITEMS)
        write_manifest(
            temporary,
            name=name,
            source=source,
            licence=licence,
            filters=filters,
            tie_rule=tie_rule,
            split=split or SplitRule(),
        )
    return load_dataset(folder)


def content_hash(folder: Path) -> str:
    """sha256 over the values of the interactions and of the id columns, read block by block."""
    digest = hashlib.sha256()
    for name, only in ((INTERACTIONS, None), (USERS, ["user_id"]), (ITEMS, ["item_id"])):
        with pq.ParquetFile(folder / name, memory_map=True) as file:
            columns = only or file.schema_arrow.names
            for column in columns:
                digest.update(column.encode())
                for batch in file.iter_batches(batch_size=1 << 20, columns=[column]):
                    values = pl.Series(batch.column(0))
                    if values.dtype == pl.String:
                        digest.update("\0".join(values.to_list()).encode())
                    else:
                        digest.update(values.to_numpy().tobytes())
    return digest.hexdigest()


def _num_rows(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


def _check_frame(interactions: pl.DataFrame) -> None:
    for column in ("user_id", "item_id"):
        if column not in interactions.columns:
            raise DataError(f"no column {column}; found {interactions.columns}")
        if interactions[column].null_count():
            row = interactions[column].is_null().arg_max()
            raise DataError(f"column {column} has no value in row {row}; drop or fill such rows")
    if interactions.is_empty():
        raise DataError("there are no interactions (after filtering); loosen the filters")
