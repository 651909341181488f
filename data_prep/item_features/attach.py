"""`recsys attach`: ready-made vectors or features of another data set, by item id."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.arrays import Int64
from recsys.data.dataset import ITEMS
from recsys.data.features.loading import load_features
from recsys.data.features.manifest import (
    FeatureManifest,
    FeatureOrigin,
    check_feature_name,
    load_feature_manifest,
)
from recsys.data.features.vector_files import read_vectors
from recsys.data.features.writing import write_categories, write_numbers, write_vectors
from recsys.data.manifest import MANIFEST, load_manifest
from recsys.data.parsing.ids import read_ids, some
from recsys.errors import DataError
from recsys.files.kinds import found_at
from recsys.progress import console


def attach(
    folder: str | Path,
    vectors: str | Path,
    *,
    name: str,
    ids: str | Path | None = None,
    encoder: str | None = None,
) -> FeatureManifest:
    """Gives the items of a dataset folder a feature by their external ids.

    Items without a vector are marked absent; vectors of unknown items are left out. Both are
    counted in the feature's manifest.

    Args:
        folder: the dataset folder.
        vectors: a npz, npy or parquet file, or another dataset folder that has the feature: so
            features survive `recsys prepare` with other filters.
        name: what the feature shall be called (text, image, ...); in a dataset folder: its name.
        ids: for a npy file: its ids, a npy or a text file with one id a line.
        encoder: the network the vectors were made with, for the manifest.

    Raises:
        DataError: a file is malformed, or no id of it is an id of the data set.
    """
    folder, vectors = Path(folder), Path(vectors)
    check_feature_name(name)
    if vectors.is_dir():
        if ids is not None or encoder is not None:
            raise DataError("--ids and --encoder go with a file of vectors, not with a data set")
        return _take_over(folder, vectors, name)
    table = read_vectors(vectors, None if ids is None else Path(ids))
    if table.ids is None:
        raise DataError(
            f"{vectors.name} has no ids; --ids FILE goes with a .npy of vectors, a column of ids "
            "into a .parquet"
        )
    rows, notes = match_rows(item_ids(folder), table.ids, vectors.name)
    origin = FeatureOrigin(source=vectors.name, encoder=encoder, notes=(*table.notes, *notes))
    return write_vectors(folder, name, _gathered(table.vectors, rows), rows >= 0, origin)


def item_ids(folder: Path) -> pl.Series:
    """`[N]` external item ids of a dataset folder as text, in order of item_index."""
    load_manifest(folder)
    frame = pl.read_parquet(folder / ITEMS, columns=["item_index", "item_id"], glob=False)
    return frame.sort("item_index")["item_id"].cast(pl.String)


def match_rows(ours: pl.Series, theirs: pl.Series, source: str) -> tuple[Int64, tuple[str, ...]]:
    """For each of our ids `[N]` the row of theirs `[M]`, -1 where there is none.

    Both go by the rule of ids first; of equal ones of theirs the first counts. What was found is
    told on the terminal.

    Returns:
        Rows `[N]`, and a note for each kind of id without a partner.

    Raises:
        DataError: no id is common to both.
    """
    ours, theirs = (read_ids(ids, source).text.rename("id") for ids in (ours, theirs))
    known = theirs.to_frame().with_row_index("row").unique("id", keep="first", maintain_order=True)
    joined = ours.to_frame().join(known, on="id", how="left", maintain_order="left")
    rows = joined["row"].cast(pl.Int64).fill_null(-1).to_numpy()
    found = int((rows >= 0).sum())
    if not found:
        raise DataError(
            f"no id of {source} is an item id of the data set; found there are "
            f"{some(theirs)}, the data set has {some(ours)}. Give the ids of this data set"
        )
    console.print(
        f"content found for {found:,} of {len(ours):,} items in {source}",
        style="dim",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    notes = []
    if found < len(ours):
        notes.append(f"{len(ours) - found:,} of {len(ours):,} items have nothing in {source}")
    if found < len(theirs):
        notes.append(f"{len(theirs) - found:,} of {len(theirs):,} ids of {source} are not items")
    return rows, tuple(notes)


def _gathered(vectors: npt.NDArray[np.floating], rows: Int64) -> npt.NDArray[np.floating]:
    """`[N, D]`; what stands in rows of absent items does not matter."""
    return np.asarray(vectors)[np.maximum(rows, 0)]


def _take_over(folder: Path, other: Path, name: str) -> FeatureManifest:
    if not (other / MANIFEST).is_file():
        raise DataError(
            f"{other} is neither a file of vectors nor a dataset folder: {found_at(other)}; give "
            "one of them"
        )
    features = load_features(other, [name])
    origin = load_feature_manifest(other, name).origin
    rows, notes = match_rows(item_ids(folder), item_ids(other), other.name)
    origin = origin.model_copy(update={"notes": (*origin.notes, *notes)})
    safe = np.maximum(rows, 0)
    if name in features.vectors:
        vector = features.vectors[name]
        present = (rows >= 0) & vector.present[safe]
        return write_vectors(folder, name, _gathered(vector.vectors, rows), present, origin)
    if name in features.numbers:
        number = features.numbers[name]
        present = (rows >= 0) & number.present[safe]
        return write_numbers(folder, name, number.values[safe], present, origin)
    category = features.categories[name]
    known = rows[rows >= 0]
    values, edges = category.rows(known)
    lengths = np.zeros(len(rows), np.int64)
    lengths[rows >= 0] = np.diff(edges)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return write_categories(folder, name, values, offsets, category.names, origin)
