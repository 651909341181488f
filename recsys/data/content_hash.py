"""The content hash of a data set, the same however its files are encoded."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

INTERACTIONS = "interactions.parquet"
USERS = "users.parquet"
ITEMS = "items.parquet"

_BLOCK = 1 << 20
_HASHED = {
    INTERACTIONS: {
        "user_index": pa.int32(),
        "item_index": pa.int32(),
        "timestamp": pa.int64(),
        "weight": pa.float32(),
        "part": pa.int8(),
    },
    USERS: {"user_id": pa.large_string()},
    ITEMS: {"item_id": pa.large_string()},
}


def open_parquet(path: Path) -> pq.ParquetFile:
    """Opens a file for reading block by block.

    Buffering ahead would fetch all row groups at once, and a mapped file counts as memory.
    """
    return pq.ParquetFile(path, pre_buffer=False)


def content_hash(folder: Path) -> str:
    """sha256 over the values of the interactions and of the id columns, read block by block.

    Values are brought to one type a column first and never meet the borders of blocks, so the
    hash does not depend on how the parquet files were encoded.
    """
    digest = hashlib.sha256()
    for name, types in _HASHED.items():
        with open_parquet(folder / name) as file:
            for column, dtype in types.items():
                if column in file.schema_arrow.names:
                    digest.update(column.encode())
                    digest.update(_column_hash(file, column, dtype))
    return digest.hexdigest()


def item_ids_hash(folder: Path) -> str:
    """sha256 over the item ids in order of item_index: what rows of item features belong to."""
    with open_parquet(folder / ITEMS) as file:
        return hashlib.sha256(_column_hash(file, "item_id", pa.large_string())).hexdigest()


def _column_hash(file: pq.ParquetFile, column: str, dtype: pa.DataType) -> bytes:
    """Digest of the lengths of the values, then of their bytes: no two columns look alike."""
    lengths, values = hashlib.sha256(), hashlib.sha256()
    for batch in file.iter_batches(batch_size=_BLOCK, columns=[column]):
        array = batch.column(0).cast(dtype)
        if dtype == pa.large_string():
            offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)
            offsets = offsets[array.offset : array.offset + len(array) + 1]
            lengths.update(np.diff(offsets).tobytes())
            text = array.buffers()[2]
            if text is not None:
                values.update(memoryview(text)[offsets[0] : offsets[-1]])
        else:
            values.update(array.to_numpy(zero_copy_only=False).tobytes())
    return lengths.digest() + values.digest()
