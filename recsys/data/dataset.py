"""The dataset folder: reading and writing.

    dataset.json            manifest (below)
    interactions.parquet    user_index i32, item_index i32, timestamp i64?, weight f32?, part i8?
                            sorted by user_index, then by the order of the user's history
                             (by part first: 0 training, 1 validation, 2 test)
    users.parquet           user_index i32, user_id, any content columns (age, country, ...)
    items.parquet           item_index i32, item_id, any content columns (title, genres, ...)

Indices are 0..n-1 without gaps; external ids live in the two small tables alone.
Shape legend: U users, N items, T interactions.
"""

import shutil
import tempfile
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.arrays import Int32, Int64
from recsys.data.content_hash import INTERACTIONS, ITEMS, USERS, content_hash
from recsys.data.features.item_content import join_content
from recsys.data.growing import grow
from recsys.data.interactions import read_blocks
from recsys.data.manifest import (
    MANIFEST,
    SCHEMA_VERSION,
    DatasetManifest,
    DatasetOrigin,
    SplitRule,
    load_manifest,
    write_manifest,
)
from recsys.data.mapped_histories import MappedHistories, open_mapped
from recsys.data.parsing.frames import (
    Arranged,
    FrameLike,
    Order,
    arrange,
    as_frame,
    named_columns,
)
from recsys.data.read_only import freeze_arrays
from recsys.errors import DataError
from recsys.files.atomic import atomic_path
from recsys.progress import console

__all__ = [
    "INTERACTIONS",
    "ITEMS",
    "MANIFEST",
    "SCHEMA_VERSION",
    "USERS",
    "Dataset",
    "DatasetManifest",
    "DatasetOrigin",
    "Int32",
    "Int64",
    "SplitRule",
    "check_replaceable",
    "content_hash",
    "item_table",
    "load_dataset",
    "load_manifest",
    "user_table",
    "write_dataset",
    "write_indexed",
    "write_manifest",
]

_PIECE = 1 << 12
"""Positions of a mapped column read at once; each may bring 64 KiB of its neighbours to memory."""

Number = TypeVar("Number", np.int32, np.int64)


@dataclass(frozen=True)
class Dataset:
    """A data set: jagged histories, the manifest, and the paths of the content tables.

    The array is in memory, or mapped from disk: then read it by `items_at` and `timestamps_at`,
    which hold on to nothing.
    """

    folder: Path
    manifest: DatasetManifest
    offsets: Int64
    """`[U + 1]`: the history of user u is `items[offsets[u]:offsets[u + 1]]`."""
    items: Int32
    """`[T]` item indices in the order of time within each user."""
    timestamps: Int64 | None
    """`[T]` seconds since 1970 (or numbers of the source that are none), or None."""
    mapped: MappedHistories | None = None
    """Where `items` and `timestamps` are mapped from, if they are."""
    temporary: bool = False
    """Whether the folder goes with this object."""

    def __post_init__(self) -> None:
        freeze_arrays(self, "offsets", "items", "timestamps")

    @classmethod
    def from_frame(
        cls,
        interactions: FrameLike,
        *,
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = None,
        weight: str | None = None,
        order: Order | None = None,
        time_format: str | None = None,
        items: FrameLike | None = None,
        users: FrameLike | None = None,
        name: str | None = None,
        split: SplitRule | None = None,
        like: "Dataset | str | Path | None" = None,
        append: bool = False,
        out: str | Path | None = None,
    ) -> "Dataset":
        """A data set of a frame: polars, pandas, Arrow, or anything with Arrow's C stream (DuckDB).

        Rows may stand in any order: by `time` they are sorted, equal times as given. Nothing is
        left out; what was decided in reading is told, and kept in `manifest.notes`.

        Args:
            interactions: one row for each; no id is absent, and none is a list or a struct.
            user, item: columns of ids: text, whole numbers or categories.
            time: column of times: dates (of a time zone: stored as UTC) or numbers.
            weight: column of numbers.
            order: `given`: each user's rows stand in their order already. Without `time` it must
                be said.
            time_format: how times are written, where the rows leave it open.
            items: what is known of the items: the column `item` and any others, a title say.
            users: what is known of the users, likewise: age, country.
            name: the data set's name.
            split: the split it is meant for.
            like: an existing data set (or its folder), whose users and items keep their indices,
                whether the frame has them or not; new ids come after them. It stays as it is, and
                its name, split and item content hold where others are not given.
            append: with `like`: its rows come first, the frame holds new rows alone.
            out: a dataset folder to be kept; None: a temporary one, which goes with this object.

        Raises:
            DataError: a column is missing or holds no such values, or there are no rows.
        """
        frame = named_columns(as_frame(interactions, "the frame"), user, item, time, weight, order)
        content = None if items is None else as_frame(items, "the items")
        if content is not None and item in content.columns:
            content = content.rename({item: "item_id"})
        if append and like is None:
            raise DataError("append=True adds rows to a data set: name it (like=...)")
        people = None if users is None else as_frame(users, "the users")
        if people is not None and user in people.columns:
            people = people.rename({user: "user_id"})
        place = Path(tempfile.mkdtemp(prefix="recsys-")) if out is None else None
        folder = place / "data" if place is not None else Path(str(out))
        ordered: Order = order or "time"
        arranged = arrange(frame.rows, ordered, time_format)
        told = replace(arranged, notes=(*frame.notes, *arranged.notes), user_content=people)
        try:
            if like is None:
                made = write_arranged(
                    folder, told, name=name or "frame", items=content, split=split
                )
            else:
                old = like.folder if isinstance(like, Dataset) else Path(like)
                made = write_grown(
                    folder, told, like=old, append=ordered if append else None,
                    name=name, items=content, split=split,
                )  # fmt: skip
        except BaseException:
            if place is not None:
                shutil.rmtree(place)
            raise
        if place is None:
            return made
        kept = replace(made, temporary=True)
        weakref.finalize(kept, shutil.rmtree, place, ignore_errors=True)
        return kept

    def items_at(self, positions: Int64) -> Int32:
        """Items at any positions `[P]`."""
        return self._take(self.items, positions)

    def timestamps_at(self, positions: Int64) -> Int64 | None:
        """Timestamps at any positions `[P]`, where the data set has them."""
        return None if self.timestamps is None else self._take(self.timestamps, positions)

    def _take(self, column: npt.NDArray[Number], positions: Int64) -> npt.NDArray[Number]:
        if self.mapped is None:
            return column[positions]
        taken = np.empty(len(positions), column.dtype)
        for start in range(0, len(positions), _PIECE):
            piece = slice(start, start + _PIECE)
            taken[piece] = column[positions[piece]]
            self.mapped.release()
        return taken

    @property
    def num_users(self) -> int:
        return self.manifest.num_users

    @property
    def num_items(self) -> int:
        return self.manifest.num_items

    def item_frame(self) -> pl.DataFrame:
        """Item ids and content, ordered by item_index."""
        return pl.read_parquet(self.folder / ITEMS, glob=False).sort("item_index")

    def user_frame(self) -> pl.DataFrame:
        """User ids, ordered by user_index."""
        return pl.read_parquet(self.folder / USERS, glob=False).sort("user_index")


def load_dataset(folder: str | Path, *, mapped: bool = False, verify: bool = False) -> Dataset:
    """Loads a dataset folder.

    Args:
        folder: the dataset folder.
        mapped: leave the histories on disk, in columns that are made at first use; see `mapped.py`.
        verify: also compare the sha256 of every file with the manifest (reads them once more).

    Raises:
        DataError: the folder is not a dataset folder, or is damaged.
        ChecksumError: `verify` is set and a file differs from its checksum.
    """
    folder = Path(folder)
    manifest = load_manifest(folder, verify=verify)
    if mapped:
        columns = open_mapped(folder, manifest, verify=verify)
        return Dataset(
            folder, manifest, columns.offsets, columns.items, columns.timestamps, columns
        )
    return Dataset(folder, manifest, *_read_histories(folder / INTERACTIONS, manifest))


def _read_histories(path: Path, manifest: DatasetManifest) -> tuple[Int64, Int32, Int64 | None]:
    """Offsets `[U + 1]`, items `[T]` and timestamps `[T]`.

    Block by block: the whole table beside the arrays would double the memory.
    """
    offsets = np.zeros(manifest.num_users + 1, dtype=np.int64)
    items = np.empty(manifest.num_interactions, dtype=np.int32)
    timestamps, row = None, 0
    for block in read_blocks(path, manifest):
        rows = slice(row, row + len(block.items))
        items[rows] = block.items
        if block.timestamps is not None:
            timestamps = np.empty(len(items), dtype=np.int64) if timestamps is None else timestamps
            timestamps[rows] = block.timestamps
        block.add_lengths(offsets[1:])
        row = rows.stop
    np.cumsum(offsets, out=offsets)
    return offsets, items, timestamps


def write_dataset(
    folder: str | Path,
    interactions: FrameLike,
    *,
    name: str,
    items: FrameLike | None = None,
    order: Order | None = None,
    time_format: str | None = None,
    origin: DatasetOrigin | None = None,
    split: SplitRule | None = None,
) -> Dataset:
    """Writes a frame of interactions as a dataset folder, whole or not at all.

    Args:
        folder: where the dataset folder shall stand.
        interactions: columns user_id, item_id, and optionally timestamp and weight; a frame of
            polars or pandas, or an Arrow table.
        name: the data set's name.
        items: columns item_id and any content; rows of unknown items are left out.
        order: `time`: histories in the order of time, equal times as given; `given`: each user's
            rows as they stand; None: by time where there is a timestamp.
        time_format: how times are written, where the rows leave it open; see `prepare`.
        origin: where the data came from, under what terms, what was filtered out before.
        split: the split the data set is meant for.

    Raises:
        DataError: a column is missing or holds no such values, no item has content, or there are
            no rows.
        ConfigError: `time_format` is none that there is.
    """
    arranged = arrange(as_frame(interactions, "the interactions"), order, time_format)
    content = None if items is None else as_frame(items, "the item content")
    return write_arranged(folder, arranged, name=name, items=content, origin=origin, split=split)


def write_arranged(
    folder: str | Path,
    arranged: Arranged,
    *,
    name: str,
    items: pl.DataFrame | None = None,
    origin: DatasetOrigin | None = None,
    split: SplitRule | None = None,
) -> Dataset:
    """Writes rows in order, as `write_dataset` does."""
    origin = origin or DatasetOrigin()
    known, told = (
        (arranged.users, ())
        if arranged.user_content is None
        else join_content(arranged.users, arranged.user_content, "user")
    )
    return write_indexed(
        folder,
        arranged.rows,
        user_ids=_with_content(arranged.users, known),
        item_ids=arranged.items,
        name=name,
        items=items,
        origin=replace(
            origin,
            tie_rule=origin.tie_rule or arranged.tie_rule,
            notes=(*origin.notes, *arranged.notes, *told),
        ),
        split=split,
    )


def write_grown(
    folder: Path,
    arranged: Arranged,
    *,
    like: Path,
    append: Order | None,
    name: str | None = None,
    items: pl.DataFrame | None = None,
    origin: DatasetOrigin | None = None,
    split: SplitRule | None = None,
) -> Dataset:
    """Writes rows by the indices of an existing data set, as `Dataset.from_frame` does.

    Raises:
        DataError: it would take that data set's own place, or see `grow`.
    """
    if folder.exists() and folder.samefile(like):
        raise DataError(
            f"{like} is the data set whose indices are kept, and runs were trained on it; choose "
            "another folder for the new one"
        )
    manifest = load_manifest(like)
    if manifest.split.name == "given":
        raise DataError(
            f"{like} has a fixed split of its source, and new rows are of no part of it; prepare "
            "all rows anew, with their part"
        )
    grown = grow(arranged, like, append=append)
    origin = origin or DatasetOrigin(source=manifest.source, licence=manifest.licence)
    if append is not None:  # its rows have gone through its filters
        filters = dict.fromkeys([*manifest.filters, *origin.filters])
        origin = replace(origin, filters=tuple(filters))
    return write_arranged(
        folder,
        grown.arranged,
        name=name or manifest.name,
        items=grown.content_with(items),
        origin=origin,
        split=split or manifest.split,
    )


def write_indexed(
    folder: str | Path,
    rows: pl.DataFrame,
    *,
    user_ids: pl.Series | pl.DataFrame,
    item_ids: pl.Series,
    name: str,
    items: pl.DataFrame | None = None,
    origin: DatasetOrigin,
    split: SplitRule | None = None,
) -> Dataset:
    """Writes interactions that are indexed already, as `write_dataset` does.

    Args:
        folder: where the dataset folder shall stand.
        rows: `[T]` user_index i32, item_index i32, timestamp i64?, weight f32?, part i8?, in the
            order of the dataset folder.
        user_ids: `[U]` external ids by index; or a frame of user_id and what is known of them.
        item_ids: `[N]` external ids by index.
        name, items, origin, split: as in `write_dataset`; the notes go to the terminal as well.

    Raises:
        DataError: `folder` exists and is not a dataset folder, or no item has content.
    """
    check_replaceable(Path(folder))
    content, told = (None, ()) if items is None else join_content(item_ids, items)
    catalogue = item_table(item_ids, content)
    origin = replace(origin, notes=(*origin.notes, *told))
    with atomic_path(Path(folder)) as temporary:
        temporary.mkdir()
        rows.write_parquet(temporary / INTERACTIONS)
        user_table(user_ids).write_parquet(temporary / USERS)
        catalogue.write_parquet(temporary / ITEMS)
        write_manifest(temporary, name, origin, split or SplitRule())
    for note in origin.notes:
        console.print(note, style="dim", markup=False, highlight=False, soft_wrap=True)
    return load_dataset(folder)


def check_replaceable(folder: Path) -> None:
    """A dataset folder may be written anew; anything else that exists is left alone.

    Raises:
        DataError: a file, or a folder with something else in it, stands at `folder`.
    """
    if not folder.exists() or (folder / MANIFEST).is_file():
        return
    known = {INTERACTIONS, USERS, ITEMS}
    if folder.is_dir() and known.issuperset(part.name for part in folder.iterdir()):
        return
    raise DataError(
        f"{folder} exists and is not a dataset folder, so it is not replaced; "
        "choose another --out, or move the folder away"
    )


def user_table(users: pl.Series | pl.DataFrame) -> pl.DataFrame:
    """`users.parquet` of external ids `[U]`, or of a frame of user_id and content columns."""
    frame = users.alias("user_id").to_frame() if isinstance(users, pl.Series) else users
    return frame.with_row_index("user_index").cast({"user_index": pl.Int32})


def item_table(item_ids: pl.Series, content: pl.DataFrame | None) -> pl.DataFrame:
    """`items.parquet` of external ids `[N]` and of their content `[N]`, in the same order."""
    catalogue = _indexed("item_index", item_ids.alias("item_id"))
    if content is None:
        return catalogue
    return catalogue.hstack(content.drop("item_id", "item_index", strict=False))


def _with_content(ids: pl.Series, known: pl.Series | pl.DataFrame) -> pl.Series | pl.DataFrame:
    """Ids in their own type, with the content columns."""
    if isinstance(known, pl.Series):
        return ids
    return ids.alias("user_id").to_frame().hstack(known.drop("user_id", "user_index", strict=False))


def _indexed(name: str, ids: pl.Series) -> pl.DataFrame:
    return ids.to_frame().with_row_index(name).cast({name: pl.Int32})
