"""Lists as data frames by external ids, of the kind of frame that was handed in.

Shape legend: B users, K length of the lists.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import Float32, Int64
from recsys.library.ids import Ids


def list_frame(
    asked: pl.Series, items: Int64, scores: Float32, names: Ids, column: str = "item_id"
) -> pl.DataFrame:
    """One row for each place of each list: the id asked for, the item's, rank from 1, score.

    Args:
        asked: `[B]` ids, under the name of their column.
        items: `[B, K]`, -1 behind the end of a list.
        scores: `[B, K]`.
        names: of the items.
        column: of the items' ids.
    """
    rows, places = np.nonzero(items >= 0)
    return pl.DataFrame(
        [
            asked.gather(pl.Series(rows)),
            names.names_of(items[rows, places]).alias(column),
            pl.Series("rank", places + 1, pl.Int32),
            pl.Series("score", scores[rows, places], pl.Float32),
        ]
    )


def like(frame: pl.DataFrame, given: Any) -> Any:
    """`frame` as a table of the library that `given` is of; polars for everything else."""
    library = type(given).__module__.partition(".")[0]
    if library == "pandas":
        return frame.to_pandas()
    return frame.to_arrow() if library == "pyarrow" else frame
