"""`interactions.parquet`, read and checked block by block.

Shape legend: U users, T interactions, R rows of one block.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.arrays import Int32, Int64
from recsys.data.content_hash import open_parquet
from recsys.data.manifest import MANIFEST, DatasetManifest
from recsys.errors import DataError

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Block:
    """Consecutive rows of `interactions.parquet`."""

    users: Int32
    """`[R]` ascending user indices."""
    items: Int32
    """`[R]` item indices."""
    timestamps: Int64 | None
    """`[R]`, where the data set has them."""

    def add_lengths(self, lengths: Int64) -> None:
        """Adds the rows of each user to `lengths [U]`."""
        present, counts = np.unique(self.users, return_counts=True)
        lengths[present] += counts


def read_blocks(path: Path, manifest: DatasetManifest) -> Iterator[Block]:
    """All rows of the table, in order.

    Raises:
        DataError: the file cannot be read, or does not hold what the manifest says.
    """
    try:
        yield from _read(path, manifest)
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, f"cannot be read ({error})") from error


def _read(path: Path, manifest: DatasetManifest) -> Iterator[Block]:
    with open_parquet(path) as file:
        if file.metadata.num_rows != manifest.num_interactions:
            raise damaged(path, f"has {file.metadata.num_rows} rows")
        timed = "timestamp" in file.schema_arrow.names
        columns = ["user_index", "item_index", *(["timestamp"] if timed else [])]
        last_user = 0
        for batch in file.iter_batches(batch_size=_BLOCK, columns=columns):
            users, items, *times = (column.to_numpy() for column in batch.columns)
            block = Block(users, items, times[0] if times else None)
            _check(path, manifest, last_user, block)
            last_user = int(users[-1])
            yield block


def _check(path: Path, manifest: DatasetManifest, last_user: int, block: Block) -> None:
    users, items = block.users, block.items
    if users[0] < last_user or (np.diff(users) < 0).any():
        raise damaged(path, "is not sorted by user_index")
    if users[-1] >= manifest.num_users or not 0 <= items.min() <= items.max() < manifest.num_items:
        raise damaged(path, "has an index outside its tables")


def damaged(path: Path, what: str) -> DataError:
    """The error for a file of a dataset folder that is not what the manifest says."""
    return DataError(
        f"{path} {what}, which its {MANIFEST} does not allow; delete {path.parent} and run "
        "`recsys prepare` again"
    )
