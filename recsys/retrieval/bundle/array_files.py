"""Files of a tier's arrays: raw, safetensors or parquet.

raw: a file per array, nothing but its elements.
safetensors: a file per tier, which other tools open by name; mapped from disk like raw ones.
parquet: a file per tier, a row per item with its external id; read into memory as a whole.

All are made of the raw files that a tier is first written to, block by block.

Shape legend: N rows.
"""

from __future__ import annotations

import math
import mmap
import shutil
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import ConfigError, DataError
from recsys.files.named import inside
from recsys.files.safetensors_layout import lay_out
from recsys.retrieval.bundle.manifest import REMEDY, ArrayEntry
from recsys.retrieval.codecs.base import blocks_of

Format = Literal["raw", "safetensors", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
_NAMES = {"<f4": "F32", "<f2": "F16", "<u2": "U16", "|i1": "I8", "|u1": "U8"}


def check_format(form: str) -> Format:
    """`form`, if it is one.

    Raises:
        ConfigError: it is none.
    """
    for known in FORMATS:
        if form == known:
            return known
    raise ConfigError(f"format {form!r} is not among {', '.join(FORMATS)}")


def open_array(folder: Path, entry: ArrayEntry) -> npt.NDArray[Any]:
    """The array, mapped; in memory where it stands in a parquet file.

    Raises:
        DataError: the file is not inside the folder, or too short.
    """
    path = inside(folder, entry.file)
    if 0 in entry.shape:  # nothing can be mapped of an empty file
        return np.empty(entry.shape, entry.dtype)
    if entry.column is not None:
        column = pq.read_table(path, columns=[entry.column])[entry.column].combine_chunks()
        values = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
        found: npt.NDArray[Any] = values.to_numpy().reshape(entry.shape)
        return found
    needed = entry.offset + math.prod(entry.shape) * np.dtype(entry.dtype).itemsize
    if not path.is_file() or path.stat().st_size < needed:
        raise DataError(f"{path} is missing or has fewer than {needed} bytes; {REMEDY}")
    mapped: npt.NDArray[Any] = np.memmap(
        path, entry.dtype, mode="r", offset=entry.offset, shape=entry.shape
    )
    return mapped


def expect_reads(array: npt.NDArray[Any], *, scattered: bool) -> None:
    """Tells the system how a mapped array will be read; of one in memory nothing is told.

    A system reads on behind a page that is not in its cache, some by megabytes: good where all of
    the array is read, and most of the time of a list where single rows are.
    """
    owner: Any = array
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = getattr(owner, "base", None)
    if owner is not None and hasattr(mmap, "MADV_RANDOM"):  # there is none on Windows
        owner.madvise(mmap.MADV_RANDOM if scattered else mmap.MADV_NORMAL)


def gather_safetensors(
    folder: Path, file: str, arrays: dict[str, ArrayEntry], codec: str
) -> dict[str, ArrayEntry]:
    """Moves raw files into one safetensors file; gives where each array stands in it.

    Args:
        folder: of the bundle.
        file: to be written.
        arrays: whose files are there, and will not be.
        codec: bf16 is named so, though numpy knows it as uint16.
    """
    layout = lay_out(
        {
            name: ("BF16" if codec == "bf16" else _NAMES[entry.dtype], entry.shape)
            for name, entry in arrays.items()
        }
    )
    with (folder / file).open("wb") as whole:
        whole.write(layout.head)
        for name in layout.names:
            with (folder / arrays[name].file).open("rb") as part:
                shutil.copyfileobj(part, whole, 1 << 20)
            (folder / arrays[name].file).unlink()
    return {
        name: arrays[name].model_copy(update={"file": file, "offset": layout.starts[name]})
        for name in arrays
    }


def gather_parquet(
    folder: Path, file: str, arrays: dict[str, ArrayEntry], ids: pl.Series
) -> dict[str, ArrayEntry]:
    """Moves raw files of arrays `[N, ...]` into the columns of one parquet file, after the ids."""
    opened = {name: open_array(folder, entry) for name, entry in arrays.items()}
    schema = pa.schema(
        [
            (ids.name, ids.to_arrow().type),
            *((name, _type_of(array)) for name, array in opened.items()),
        ]
    )
    with pq.ParquetWriter(folder / file, schema) as writer:
        for rows in blocks_of(len(ids)):
            columns = [ids[rows].to_arrow()]
            columns += [_column(np.asarray(array[rows])) for array in opened.values()]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    opened.clear()
    for entry in arrays.values():
        (folder / entry.file).unlink()
    return {
        name: entry.model_copy(update={"file": file, "column": name})
        for name, entry in arrays.items()
    }


def _type_of(array: npt.NDArray[Any]) -> Any:
    element = pa.from_numpy_dtype(array.dtype)
    return element if array.ndim == 1 else pa.list_(element, array.shape[1])


def _column(array: npt.NDArray[Any]) -> Any:
    flat = pa.array(np.ascontiguousarray(array).ravel())
    return flat if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, array.shape[1])
