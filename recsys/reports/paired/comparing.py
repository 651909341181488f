"""Paired intervals of the differences between figures of a report."""

from __future__ import annotations

import numpy as np

from recsys.evaluation.bootstrap import PairedDifference, Resampled, resample_often
from recsys.evaluation.metric_table import MetricTable
from recsys.evaluation.target_ranks import Place
from recsys.reports.paired.signed_rank import signed_rank

DRAWS = 10_000
"""Bootstrap samples of the users that paired intervals are taken of."""
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
            self._values = np.stack(values, axis=1)
            self._resampled = resample_often(self._values, num_resamples=DRAWS)

    def of(self, first: Place, second: Place) -> PairedDifference | None:
        """The second beside the first; None: the table does not tell."""
        if self._resampled is None or not {first, second} <= self._column.keys():
            return None
        return self._resampled.paired(self._column[first], self._column[second])

    def p_value(self, first: Place, second: Place) -> float:
        """Of the signed ranks of two rows that `of` knows.

        Raises:
            KeyError: it does not know them.
        """
        one, other = (self._values[:, self._column[place]] for place in (first, second))
        return signed_rank(other - one)
