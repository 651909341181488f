"""Windows of an update's epochs: those with something new, and a replay of others.

Shape legend: W windows, T rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.arrays import Int64
from recsys.data.batching import TrainBatches, Windows
from recsys.errors import RunError


@dataclass(frozen=True)
class EpochSize:
    """Targets of an epoch."""

    new: int
    """Rows that the parent was not fitted on."""
    beside: int
    """Older rows in the windows of these."""
    replayed: int
    """In windows without anything new, about."""
    whole: int
    """Targets of an epoch of training anew."""


def choose_windows(
    batches: TrainBatches, trained: npt.NDArray[np.bool_], *, replay: float, seed: int
) -> EpochSize:
    """Makes epochs of the windows with new rows and of a replay, drawn anew for each epoch.

    Args:
        batches: those of training anew.
        trained: `[T]` rows that the parent was fitted on.
        replay: share of an epoch's targets.
        seed: of the draws.

    Raises:
        RunError: there is nothing new.
    """
    whole, skipped = batches.windows, batches.skipped
    # Before each row, how many new ones there are.
    before = np.concatenate([[0], np.cumsum(~trained)])
    windows = _cut(whole, before) if batches.pairs else whole
    targets = windows.hi - windows.lo - skipped
    fresh = before[windows.hi] - before[windows.lo + skipped]
    if not fresh.any():
        raise RunError(
            "there is nothing new to train on: the parent was fitted on every row that may be; "
            "prepare the new rows too, or name the later data set"
        )
    new, old = np.flatnonzero(fresh), np.flatnonzero(fresh == 0)
    wanted = replay / (1 - replay) * targets[new].sum()

    def chosen(epoch: int) -> Int64:
        drawn = np.random.default_rng([seed, epoch, 1]).permutation(old)
        # The first so many whose targets reach what is wanted.
        enough = np.cumsum(targets[drawn]) - targets[drawn] < wanted
        return np.concatenate([new, drawn[enough]])

    batches.choose(windows, chosen)
    replayed = int(min(wanted, targets[old].sum()))
    count = int(fresh.sum())
    return EpochSize(count, int(targets[new].sum()) - count, replayed, batches.num_tokens)


def _cut(windows: Windows, before: Int64) -> Windows:
    """Windows of pairs, cut where the first new row stands: pairs need no context."""
    new = before[windows.hi] > before[windows.lo]
    at = np.where(new, np.searchsorted(before, before[windows.lo], side="right") - 1, windows.hi)
    parts = [(windows.users, windows.lo, at), (windows.users, at, windows.hi)]
    joined = [np.concatenate(part) for part in zip(*parts, strict=True)]
    kept = joined[2] > joined[1]
    return Windows(joined[0][kept], joined[1][kept], joined[2][kept])
