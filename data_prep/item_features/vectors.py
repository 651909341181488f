"""Files of ready-made vectors: npz, npy with a file of ids, parquet.

Shape legend: M rows of the file, D width.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.data.reading.ids import Ids, read_ids
from recsys.errors import DataError


@dataclass(frozen=True)
class VectorTable:
    """Vectors by external id, as a file has them."""

    ids: pl.Series
    """`[M]` text, each once."""
    vectors: npt.NDArray[np.floating]
    """`[M, D]`."""
    notes: tuple[str, ...] = ()
    """What was changed in the ids."""


_ID_KINDS = "iufUS"
_PICKLED = ("Object arrays cannot be loaded", "Python objects in dtype")


def read_vectors(path: Path, ids: Path | None = None) -> VectorTable:
    """Reads a file of vectors.

    Args:
        path: `.npz` (one array of ids, one of vectors), `.npy`, or `.parquet` (a column `item_id`
            and one column of lists of numbers).
        ids: for `.npy`: a `.npy` of ids, or a text file with one id a line.

    Raises:
        DataError: the file is absent, of another kind, or does not hold what it should; an id
            stands there twice.
    """
    readers = {".npz": _read_npz, ".parquet": _read_parquet}
    if not path.is_file():
        raise DataError(f"there is no file {path}; give the right file of vectors")
    if path.suffix not in (".npy", *readers):
        raise DataError(f"{path.name} is none of .npz, .npy and .parquet; convert it to one")
    if (ids is not None) != (path.suffix == ".npy"):
        raise DataError("--ids FILE goes with a .npy of vectors, and with that alone")
    table = readers[path.suffix](path) if ids is None else _read_npy(path, ids)
    _check(path, table)
    return table


def _check(path: Path, table: VectorTable) -> None:
    shape = table.vectors.shape
    if len(shape) != 2 or shape[0] != len(table.ids) or not shape[1]:
        raise DataError(
            f"{path.name} holds {len(table.ids)} ids and vectors of shape {shape}; [M, D] with one "
            "row for each id is expected"
        )
    if table.ids.null_count():
        row = int(table.ids.is_null().arg_max() or 0)
        raise DataError(f"{path.name} row {row} has no id; drop the row")
    if table.ids.n_unique() < len(table.ids):
        twice = table.ids.filter(table.ids.is_duplicated())[0]
        raise DataError(f"{path.name} has id {twice!r} more than once; keep one vector of each")


def _read_npz(path: Path) -> VectorTable:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _unreadable(path, "npz", error) from error
    found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    ids = [a for a in arrays.values() if a.ndim == 1 and a.dtype.kind in _ID_KINDS]
    vectors = [a for a in arrays.values() if a.ndim == 2 and a.dtype.kind == "f"]
    if len(ids) != 1 or len(vectors) != 1:
        raise DataError(
            f"{path.name} holds {found or 'nothing'}; one array of ids [M] (whole numbers or "
            "text) and one of vectors [M, D] (floats) are expected"
        )
    read = _ids(path, ids[0])
    return VectorTable(read.text, vectors[0], read.notes)


def _read_npy(path: Path, ids: Path) -> VectorTable:
    if not ids.is_file():
        raise DataError(f"there is no file {ids}; give the right --ids")
    read = _ids(ids, _load(ids)) if ids.suffix == ".npy" else _id_lines(ids)
    vectors = _load(path)
    if vectors.dtype.kind != "f":
        raise DataError(f"{path.name} holds {vectors.dtype} numbers; floats are expected")
    return VectorTable(read.text, vectors, read.notes)


def _id_lines(ids: Path) -> Ids:
    try:
        text = ids.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{ids.name} is no UTF-8 text with one id a line: {error}") from error
    # Not splitlines: it also cuts at characters that an id may hold.
    lines = text.replace("\r\n", "\n").rstrip("\r\n").split("\n")
    return read_ids(pl.Series(lines, dtype=pl.String), ids.name)


def _load(path: Path) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(path, "npy", error) from error
    return array


def _unreadable(path: Path, kind: str, error: Exception) -> DataError:
    if any(words in str(error) for words in _PICKLED):
        return DataError(
            f"{path.name} holds an array of Python objects (dtype object), which is a pickle and "
            "is not opened; save ids with ids.astype(str), vectors as floats"
        )
    return DataError(f"{path.name} is no whole {kind} without pickles ({error})")


def _ids(path: Path, ids: npt.NDArray[Any]) -> Ids:
    if ids.ndim != 1 or ids.dtype.kind not in _ID_KINDS:
        raise DataError(
            f"{path.name}: ids are {ids.dtype} of shape {ids.shape}; one row of whole numbers or "
            "text is expected"
        )
    native = np.asarray(ids).astype(ids.dtype.newbyteorder("="))
    values = pl.Series(native.tolist() if ids.dtype.kind in "US" else native)
    return read_ids(values, f"{path.name}: ids")


def _read_parquet(path: Path) -> VectorTable:
    try:
        frame = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path.name} is no parquet file: {error}") from error
    columns = [
        name for name, dtype in frame.schema.items() if isinstance(dtype, pl.List | pl.Array)
    ]
    if "item_id" not in frame.columns or len(columns) != 1:
        raise DataError(
            f"{path.name} has the columns {', '.join(frame.columns)}; `item_id` and one column of "
            "lists of numbers are expected"
        )
    lists = frame[columns[0]]
    lengths = lists.list.len() if isinstance(lists.dtype, pl.List) else None
    if lists.null_count() or (lengths is not None and lengths.n_unique() > 1):
        raise DataError(
            f"{path.name}: vectors of column {columns[0]!r} are absent or of unequal length; leave "
            "out rows without a vector"
        )
    width = len(lists[0]) if len(lists) else 0
    flat = lists.explode().cast(pl.Float32).to_numpy().reshape(len(lists), width)
    read = read_ids(frame["item_id"], f"{path.name}: column item_id")
    return VectorTable(read.text, flat, read.notes)
