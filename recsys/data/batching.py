"""Training batches: jagged, bucketed by length, determined by seed, epoch and index.

Because nothing depends on what was drawn before, a run that resumes at step s sees the very
batches it would have seen.

Shape legend: B users, T tokens (history positions of the batch, each with a target).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from pydantic import Field

from recsys.arrays import Int64
from recsys.config import StrictModel
from recsys.data.dataset import Dataset
from recsys.data.histories import Histories, item_counts, select
from recsys.data.splitting import Split
from recsys.errors import DataError


class BatchingConfig(StrictModel):
    """Settings of batches made from histories."""

    batch_tokens: int = Field(default=768, ge=1)
    """Targets per batch, about; every target weighs the same whatever its history's length."""
    bucket_batches: int = Field(default=32, ge=1)
    """Users are sorted by length within chunks of about this many batches; 1: hardly sorted."""
    windows: int = Field(default=1, ge=1)
    """Pieces of `history_length` targets that a user's rows are cut to, the most recent first;
    older rows are left out. With as many as the longest history has, none is."""


@dataclass(frozen=True)
class Batch:
    """Histories with a target for every position, or (user, item) pairs."""

    histories: Histories
    targets: Int64
    """`[T]`: the item that follows each position of the histories; of pairs, the item itself."""
    older: Histories | None = None
    """What the same users had before their histories begin, each item once, in no order; None: no
    model asked for it."""


@dataclass(frozen=True)
class Windows:
    """Pieces of histories that batches are made of."""

    users: Int64
    """`[W]` user indices."""
    lo: Int64
    """`[W]` positions into `Dataset.items` where each begins ..."""
    hi: Int64
    """`[W]` ... and ends."""


class TrainBatches:
    """The batches of every epoch."""

    def __init__(
        self,
        config: BatchingConfig,
        dataset: Dataset,
        split: Split,
        *,
        fit_on: str,
        history_length: int,
        seed: int,
        older: bool = False,
        pairs: bool = False,
    ) -> None:
        """Takes each user's most recent rows that may be fitted on, in windows of which each ends
        where the next begins; of fewer than two rows: left out.

        Args:
            config: sizes of batches.
            dataset: the histories.
            split: how they are cut.
            fit_on: the part that may be fitted on.
            history_length: rows of a window with a target.
            seed: of the order.
            older: batches tell what users had before their windows.
            pairs: users are known by index, and every row is a target, a single one too.

        Raises:
            DataError: no user has two training interactions (of pairs: one).
        """
        least = 1 if pairs else 2
        self.pairs, self.skipped = pairs, least - 1
        self._chosen: Callable[[int], Int64] | None = None
        self._config, self._dataset, self._seed = config, dataset, seed
        users, start, hi = np.arange(len(split.start)), split.start, split.fit_end(fit_on)
        pieces = []
        for _ in range(config.windows):
            enough = hi - start >= least
            users, start, hi = users[enough], start[enough], hi[enough]
            if not len(users):
                break
            # Of a sequence one more than the history: the first is input alone, the last target
            # alone.
            lo = np.maximum(start, hi - history_length - self.skipped)
            pieces.append((users, lo, hi))
            hi = hi - history_length
        if not pieces:
            interactions = "a training interaction" if pairs else "two training interactions"
            raise DataError(f"no user has {interactions}; there are no training examples")
        self._users, self._lo, self._hi = (
            np.concatenate(part) for part in zip(*pieces, strict=True)
        )
        self._older_from = split.start if older else None
        self._epoch_plan = lru_cache(maxsize=2)(self._plan)
        self.num_tokens = int((self._hi - self._lo - self.skipped).sum())

    @property
    def windows(self) -> Windows:
        """All windows; the first `skipped` rows of each are no targets."""
        return Windows(self._users, self._lo, self._hi)

    @property
    def num_histories(self) -> int:
        """Windows of an epoch."""
        return len(self._users)

    def choose(self, windows: Windows, chosen: Callable[[int], Int64]) -> None:
        """Takes other windows, of which epoch e has those in the places `chosen(e)`.

        `num_tokens` stays that of all windows at first.
        """
        self._users, self._lo, self._hi = windows.users, windows.lo, windows.hi
        self._chosen = chosen
        self._epoch_plan.cache_clear()

    def num_batches(self, epoch: int) -> int:
        """Batches of that epoch; bucketing makes it vary by a few."""
        return len(self._epoch_plan(epoch))

    def batch(self, epoch: int, index: int) -> Batch:
        """Batch `index` of `epoch`."""
        rows = self._epoch_plan(epoch)[index]
        whole = select(self._dataset, self._users[rows], self._lo[rows], self._hi[rows])
        if self.pairs:
            return Batch(whole, whole.items.astype(np.int64))
        read = np.ones(len(whole.items), dtype=np.bool_)
        read[whole.offsets[1:] - 1] = False
        asked = np.ones(len(whole.items), dtype=np.bool_)
        asked[whole.offsets[:-1]] = False
        times, asked_at = None, None
        if whole.timestamps is not None:  # a request comes when the last target does
            times, asked_at = whole.timestamps[read], whole.timestamps[~read]
        offsets = whole.offsets - np.arange(len(whole.offsets))
        histories = Histories(whole.users, whole.items[read], offsets, times, asked_at)
        return Batch(histories, whole.items[asked].astype(np.int64), self._older(rows))

    def _older(self, rows: Int64) -> Histories | None:
        if self._older_from is None:
            return None
        users = self._users[rows]
        found = select(self._dataset, users, self._older_from[users], self._lo[rows])
        num_items = self._dataset.num_items
        # One key for each user and item: the sets of all users at once.
        keys = np.repeat(np.arange(len(rows)), found.lengths) * num_items + found.items
        keys = np.unique(keys)
        lengths = np.bincount(keys // num_items, minlength=len(rows))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return Histories(users, (keys % num_items).astype(np.int32), offsets)

    def target_counts(self) -> Int64:
        """`[N]` how often each item is a target in an epoch."""
        return item_counts(self._dataset, self._lo + self.skipped, self._hi)

    def _plan(self, epoch: int) -> list[Int64]:
        """Windows of each batch: shuffled, sorted by length within chunks, cut, shuffled again."""
        rng = np.random.default_rng([self._seed, epoch])
        if self._chosen is None:
            order = rng.permutation(len(self._users))
        else:
            order = rng.permutation(self._chosen(epoch))
        lengths = (self._hi - self._lo - self.skipped)[order]
        chunk = (np.cumsum(lengths) - 1) // (
            self._config.batch_tokens * self._config.bucket_batches
        )
        by_length = np.lexsort((lengths, chunk))
        order, lengths, chunk = order[by_length], lengths[by_length], chunk[by_length]
        starts = np.flatnonzero(np.diff(chunk, prepend=-1))
        running = np.cumsum(lengths) - lengths
        within = running - np.repeat(running[starts], np.diff([*starts, len(chunk)]))
        part = within // self._config.batch_tokens
        edges = np.flatnonzero(np.diff(chunk, prepend=-1) | np.diff(part, prepend=-1))
        batches = np.split(order, edges[1:])
        return [batches[i] for i in rng.permutation(len(batches))]
