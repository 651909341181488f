"""Paired intervals of the differences between figures of a report."""

from __future__ import annotations

import numpy as np

from recsys.evaluation.bootstrap import PairedDifference, Resampled, resample
from recsys.evaluation.metric_table import MetricTable
from recsys.evaluation.target_ranks import Place

UNSURE = "may be noise"
"""What is said of a difference whose paired interval holds 0."""
UNPAIRED = (
    "whether that is more than noise cannot be told, as this table keeps no ranks of its targets; "
    "run `recsys evaluate` again"
)


class Comparisons:
    """The rows of a table, resampled together by one metric at one cutoff."""

    def __init__(self, table: MetricTable, metric: str, k: int) -> None:
        """Resamples every row whose ranks the table keeps."""
        self._column: dict[Place, int] = {}
        self._resampled: Resampled | None = None
        if table.ranks is not None and table.ranks.ranks:
            places = list(table.ranks.ranks)
            self._column = {place: column for column, place in enumerate(places)}
            values = [table.ranks.per_user(place, metric, k) for place in places]
            self._resampled = resample(np.stack(values, axis=1))

    def of(self, first: Place, second: Place) -> PairedDifference | None:
        """The second beside the first; None: the table does not tell."""
        if self._resampled is None or not {first, second} <= self._column.keys():
            return None
        return self._resampled.paired(self._column[first], self._column[second])
