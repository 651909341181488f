"""Files of ready-made vectors: npz, npy with or without a file of ids, parquet.

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

from recsys.data.parsing.ids import read_ids
from recsys.errors import DataError
from recsys.files.kinds import found_at


@dataclass(frozen=True)
class VectorTable:
    """Vectors by external id, read from a file."""

    vectors: npt.NDArray[np.floating]
    """`[M, D]`."""
    ids: pl.Series | None = None
    """`[M]` whole numbers where the file has such, otherwise text; each once. None: it has none."""
    notes: tuple[str, ...] = ()
    """What was changed in the ids."""


_ID_KINDS = "iufUS"
_PICKLED = ("Object arrays cannot be loaded", "Python objects in dtype")


def read_vectors(path: Path, ids: Path | None = None) -> VectorTable:
    """Reads a file of vectors.

    Args:
        path: `.npz` (one array of ids, one of vectors), `.npy`, or `.parquet` (one column of lists
            of numbers, and `item_id`, or one other column of ids, or none).
        ids: for `.npy`: a `.npy` of ids, or a text file with one id a line.

    Raises:
        DataError: the file is absent, of another kind, or does not hold what it should; an id
            occurs twice.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}: {found_at(path)}; give a file of vectors")
    if path.suffix not in (".npy", ".npz", ".parquet"):
        raise DataError(f"{path.name} is none of .npz, .npy and .parquet; convert it to one")
    if path.suffix == ".npy":
        table = _read_npy(path, ids)
    elif ids is not None:
        raise DataError(f"--ids FILE goes with a .npy of vectors; {path.name} has ids of its own")
    else:
        table = _read_npz(path) if path.suffix == ".npz" else _read_parquet(path)
    _check(path, table)
    return table


def _check(path: Path, table: VectorTable) -> None:
    shape, ids = table.vectors.shape, table.ids
    if len(shape) != 2 or not shape[1] or (ids is not None and len(ids) != shape[0]):
        count = "no" if ids is None else len(ids)
        raise DataError(
            f"{path.name} holds {count} ids and vectors of shape {shape}; [M, D] is expected, with "
            "one row for each id where there are ids"
        )
    if ids is None:
        return
    if ids.null_count():
        row = int(ids.is_null().arg_max() or 0)
        raise DataError(
            f"{path.name} has {ids.null_count():,} rows without an id, such as row {row}; leave "
            "them out"
        )
    if ids.n_unique() < len(ids):
        twice = ids.filter(ids.is_duplicated())
        raise DataError(
            f"{path.name} names {twice.n_unique():,} ids more than once, such as "
            f"{str(twice[0])!r}; keep one vector of each"
        )


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
    return _with_ids(vectors[0], _id_array(path, ids[0]), f"{path.name}: ids")


def _read_npy(path: Path, ids: Path | None) -> VectorTable:
    vectors = _load(path)
    if vectors.dtype.kind != "f":
        raise DataError(f"{path.name} holds {vectors.dtype} numbers; floats are expected")
    if ids is None:
        return VectorTable(vectors)
    if not ids.is_file():
        raise DataError(f"there is no file {ids}; give the right --ids")
    if ids.suffix == ".npy":
        return _with_ids(vectors, _id_array(ids, _load(ids)), f"{ids.name}: ids")
    return _with_ids(vectors, _id_lines(ids), ids.name)


def _with_ids(vectors: npt.NDArray[np.floating], values: pl.Series, what: str) -> VectorTable:
    read = read_ids(values, what)
    return VectorTable(vectors, values if values.dtype.is_integer() else read.text, read.notes)


def _id_lines(ids: Path) -> pl.Series:
    try:
        text = ids.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{ids.name} is not UTF-8 text with one id a line: {error}") from error
    # Not splitlines: it also cuts at characters that an id may hold.
    lines = text.replace("\r\n", "\n").rstrip("\r\n").split("\n")
    return pl.Series(lines, dtype=pl.String)


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
    # Of a file of another kind numpy says that it holds pickles, which one may trust.
    what = "it is of another kind" if "pickle" in str(error) else error
    return DataError(
        f"{path.name} is not a complete {kind} ({what}); write it again with numpy.save"
        f"{'z' if kind == 'npz' else ''}"
    )


def _id_array(path: Path, ids: npt.NDArray[Any]) -> pl.Series:
    if ids.ndim != 1 or ids.dtype.kind not in _ID_KINDS:
        raise DataError(
            f"{path.name}: ids are {ids.dtype} of shape {ids.shape}; one row of whole numbers or "
            "text is expected"
        )
    native = np.asarray(ids).astype(ids.dtype.newbyteorder("="))
    return pl.Series(native.tolist() if ids.dtype.kind in "US" else native)


def _read_parquet(path: Path) -> VectorTable:
    try:
        frame = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path.name} is not a parquet file: {error}") from error
    lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List | pl.Array)]
    others = [name for name in frame.columns if name not in lists]
    ids = "item_id" if "item_id" in others else next(iter(others), None)
    if len(lists) != 1 or (len(others) > 1 and ids != "item_id"):
        raise DataError(
            f"{path.name} has the columns {', '.join(frame.columns)}; one column of lists of "
            "numbers is expected, and `item_id`, or one other column of ids, or none"
        )
    vectors = _matrix(path, frame[lists[0]])
    if ids is None:
        return VectorTable(vectors)
    return _with_ids(vectors, frame[ids], f"{path.name}: column {ids}")


def _matrix(path: Path, lists: pl.Series) -> npt.NDArray[np.floating]:
    lengths = lists.list.len() if isinstance(lists.dtype, pl.List) else None
    if lists.null_count() or (lengths is not None and lengths.n_unique() > 1):
        raise DataError(
            f"{path.name}: vectors of column {lists.name!r} are absent or of unequal length; leave "
            "out rows without a vector"
        )
    numbers = lists.explode()
    if not numbers.dtype.is_numeric():
        raise DataError(
            f"{path.name}: column {lists.name!r} has lists of {numbers.dtype}, not of numbers"
        )
    width = len(lists[0]) if len(lists) else 0
    return numbers.cast(pl.Float32).to_numpy().reshape(len(lists), width)
