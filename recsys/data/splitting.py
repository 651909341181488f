"""Splits as prefix cuts: histories are in the order of time, so both splits cut each in two places.

Shape legend: U users, T interactions.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.data.dataset import INTERACTIONS, Dataset, Int64, SplitRule
from recsys.errors import DataError, ProtocolError


@dataclass(frozen=True)
class Split:
    """Cut points into `Dataset.items`.

    User u: training is `[start[u], train_end[u])`, validation `[train_end[u], valid_end[u])`,
    test `[valid_end[u], end[u])`.
    """

    rule: SplitRule
    start: Int64
    train_end: Int64
    valid_end: Int64
    end: Int64

    def fit_end(self, fit_on: str) -> Int64:
        """`[U]` where the rows a model may be fitted on end: `train` or `train+valid`."""
        ends = {"train": self.train_end, "train+valid": self.valid_end}
        if fit_on not in ends:
            raise ProtocolError(f"fit_on {fit_on!r} is not among {tuple(ends)}")
        return ends[fit_on]

    def targets(self, part: str) -> tuple[Int64, Int64]:
        """`(lo [U], hi [U])` of the held-out interactions of `valid` or `test`.

        What stands before `lo` is the history they are predicted from: the test of a user is
        predicted from a history that includes the validation items.
        """
        bounds = {"valid": (self.train_end, self.valid_end), "test": (self.valid_end, self.end)}
        if part not in bounds:
            raise ProtocolError(f"split {part!r} is not among {tuple(bounds)}")
        return bounds[part]


def make_split(dataset: Dataset, rule: SplitRule | None = None) -> Split:
    """Cuts every history by `rule` (default: the rule in the manifest).

    Raises:
        DataError: global-time is asked of a data set without timestamps, or whose histories do
            not stand in the order of time.
    """
    rule = rule or dataset.manifest.split
    start, end = dataset.offsets[:-1], dataset.offsets[1:]
    if rule.name == "leave-last-out":
        long_enough = (end - start) >= 3
        return Split(rule, start, end - 2 * long_enough, end - long_enough, end)
    if dataset.timestamps is None:
        raise DataError(
            f"{dataset.manifest.name} has no timestamps, so it cannot be split by global-time; "
            "use leave-last-out"
        )
    if rule.valid_quantile >= rule.test_quantile:
        raise DataError(
            f"valid_quantile {rule.valid_quantile} must be below test_quantile {rule.test_quantile}"
        )
    _check_ascending(dataset, dataset.timestamps)
    cuts = np.quantile(
        dataset.timestamps, [rule.valid_quantile, rule.test_quantile], method="lower"
    )
    ends = [start + _count_per_user(dataset, dataset.timestamps <= cut) for cut in cuts]
    return Split(rule, start, ends[0], ends[1], end)


def _check_ascending(dataset: Dataset, timestamps: Int64) -> None:
    """A cut in time is a prefix of a history only where histories stand in the order of time."""
    backwards = np.diff(timestamps) < 0
    firsts = dataset.offsets[1:-1]
    backwards[firsts[(firsts > 0) & (firsts < len(timestamps))] - 1] = False
    if backwards.any():
        row = int(backwards.argmax()) + 1
        user = int(np.searchsorted(dataset.offsets, row, side="right")) - 1
        raise DataError(
            f"{dataset.manifest.name}: the history of user_index {user} goes back in time at row "
            f"{row} of {INTERACTIONS}, so it cannot be split by global-time; prepare the data set "
            "with its time column and without an order column, or use leave-last-out"
        )


def _count_per_user(dataset: Dataset, chosen: npt.NDArray[np.bool_]) -> Int64:
    running = np.zeros(len(chosen) + 1, dtype=np.int64)
    np.cumsum(chosen, out=running[1:])
    return running[dataset.offsets[1:]] - running[dataset.offsets[:-1]]
