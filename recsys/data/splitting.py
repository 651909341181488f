"""Splits of histories into training, validation and test parts.

Shape legend: U users, T interactions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from recsys.arrays import Int64
from recsys.data.dataset import INTERACTIONS, Dataset, SplitRule
from recsys.data.read_only import freeze_arrays
from recsys.errors import DataError, ProtocolError

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Split:
    """A split: cut points into `Dataset.items`.

    User u: training is `[start[u], train_end[u])`, validation `[train_end[u], valid_end[u])`,
    test `[valid_end[u], end[u])`.
    """

    rule: SplitRule
    start: Int64
    train_end: Int64
    valid_end: Int64
    end: Int64

    def __post_init__(self) -> None:
        freeze_arrays(self, "start", "train_end", "valid_end", "end")

    def fit_end(self, fit_on: str) -> Int64:
        """`[U]` where the rows a model may be fitted on end: `train`, `train+valid` or `all`."""
        ends = {"train": self.train_end, "train+valid": self.valid_end, "all": self.end}
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
            not stand in the order of time; a cut by order of one whose histories have none; the
            given parts of one that has none, or other validation rows than it was prepared with.
    """
    rule = rule or dataset.manifest.split
    start, end = dataset.offsets[:-1], dataset.offsets[1:]
    if rule.name == "given":
        return _given(dataset, rule)
    if not dataset.manifest.ordered:
        raise DataError(
            f"the histories of {dataset.manifest.name} have no order, so they cannot be split by "
            f"{rule.name}; use the split they come with (protocol=lightgcn)"
        )
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
    _check_ascending(dataset)
    quantiles = (rule.valid_quantile, rule.test_quantile)
    train_end, valid_end = (_first_after(dataset, _time_quantile(dataset, q)) for q in quantiles)
    return Split(rule, start, train_end, valid_end, end)


def _given(dataset: Dataset, rule: SplitRule) -> Split:
    """The parts that the data set was prepared with; those of a user stand one after another."""
    manifest, path = dataset.manifest, dataset.folder / INTERACTIONS
    if manifest.split.name != "given":
        raise DataError(
            f"{manifest.name} has no parts given by its source; use its own split "
            f"({manifest.split.name}), or prepare it from files that have parts "
            "(recsys prepare lightgcn, or part_column=NAME)"
        )
    if rule != manifest.split:
        raise DataError(
            f"the validation part of {manifest.name} was drawn when it was prepared "
            f"({manifest.split.describe()}); leave the split out of the config, or prepare again "
            "with split.valid_share=, split.valid_draw= and split.seed="
        )
    lengths = pl.scan_parquet(path, glob=False).group_by("user_index").agg(
        valid=(pl.col("part") == 1).sum(), test=(pl.col("part") == 2).sum()
    ).collect(engine="streaming")  # fmt: skip
    users, end = lengths["user_index"].to_numpy(), dataset.offsets[1:]
    valid_end, train_end = end.copy(), end.copy()
    valid_end[users] -= lengths["test"].cast(pl.Int64).to_numpy()
    train_end[users] = valid_end[users] - lengths["valid"].cast(pl.Int64).to_numpy()
    return Split(rule, dataset.offsets[:-1], train_end, valid_end, end)


def _check_ascending(dataset: Dataset) -> None:
    """A cut in time is a prefix of a history only where histories stand in the order of time."""
    starts = dataset.offsets[1:-1]
    for row, times in _time_blocks(dataset, overlap=1):
        backwards = times[1:] < times[:-1]
        borders = starts[slice(*np.searchsorted(starts, (row + 1, row + len(times))))]
        backwards[borders - row - 1] = False
        if backwards.any():
            place = row + int(backwards.argmax()) + 1
            user = int(np.searchsorted(dataset.offsets, place, side="right")) - 1
            raise DataError(
                f"{dataset.manifest.name}: the history of user_index {user} goes back in time at "
                f"row {place} of {INTERACTIONS}, so it cannot be split by global-time; prepare the "
                "data set with its time column and without an order column, or use leave-last-out"
            )


def _time_quantile(dataset: Dataset, quantile: float) -> int:
    """The timestamp at place `floor(quantile * (T - 1))` of all in order, without ordering them.

    Counts how many fall into each of 65,536 ranges of equal length, then looks into the one that
    holds the place: a few passes over the column whatever its length.
    """
    place = int(np.floor((len(dataset.items) - 1) * quantile))
    extremes = [(int(times.min()), int(times.max())) for _, times in _time_blocks(dataset)]
    lo, hi = min(low for low, _ in extremes), max(high for _, high in extremes)
    while lo < hi:
        shift = max(0, (hi - lo).bit_length() - 16)
        counts = np.zeros(((hi - lo) >> shift) + 1, dtype=np.int64)
        for _, times in _time_blocks(dataset):
            inside = times[(times >= lo) & (times <= hi)]
            # Unsigned: the difference of two int64 may need all 64 bits.
            parts = (inside - lo).view(np.uint64) >> np.uint64(shift)
            counts += np.bincount(parts.astype(np.int64), minlength=len(counts))
        running = np.cumsum(counts)
        part = int(np.searchsorted(running, place, side="right"))
        place -= int(running[part] - counts[part])
        lo, hi = lo + (part << shift), min(hi, lo + ((part + 1) << shift) - 1)
    return lo


def _time_blocks(dataset: Dataset, *, overlap: int = 0) -> Iterator[tuple[int, Int64]]:
    """`(first row, timestamps)` of blocks that cover the column; each reaches into the next."""
    num_rows = len(dataset.items)
    for row in range(0, num_rows, _BLOCK):
        times = dataset.timestamps_at(np.arange(row, min(row + _BLOCK + overlap, num_rows)))
        assert times is not None
        yield row, times


def _first_after(dataset: Dataset, cut: int) -> Int64:
    """`[U]` where the interactions of each user that are later than `cut` start: bisection."""
    lo, hi = dataset.offsets[:-1].copy(), dataset.offsets[1:].copy()
    while len(users := np.flatnonzero(lo < hi)):
        middle = (lo[users] + hi[users]) // 2
        times = dataset.timestamps_at(middle)
        assert times is not None
        later = times > cut
        hi[users[later]] = middle[later]
        lo[users[~later]] = middle[~later] + 1
    return lo
