"""Batches of an epoch with their sampled negatives, in order.

On a device they are made ahead by a thread, so that the device does not wait for the host. What is
made depends on seed, epoch, index and step alone, so it is the same with and without the thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from recsys.arrays import Float64, Int64
from recsys.data.batching import Batch, TrainBatches
from recsys.data.negatives import NegativeSampler

AHEAD = 3
"""Batches made ahead on a device."""


@dataclass(frozen=True)
class Fed:
    """One batch, and the negatives drawn for it."""

    index: int
    batch: Batch
    drawn: tuple[Int64, Float64 | None] | None
    """As `NegativeSampler.draw` gives them; None: all items."""


class Feed:
    """Makes batches, `ahead` of the step that takes them; 0: when they are asked for."""

    def __init__(
        self, batches: TrainBatches, sampler: NegativeSampler | None, seed: int, *, ahead: int
    ) -> None:
        self._batches, self._sampler, self._seed, self._ahead = batches, sampler, seed, ahead
        self.waited = 0.0
        """Seconds that training has waited for batches."""

    def epoch(self, epoch: int, start: int, step: int) -> Iterator[Fed]:
        """The batches of an epoch from index `start` on, the first of which is for `step`."""
        number = self._batches.num_batches(epoch)
        if not self._ahead:
            for index in range(start, number):
                yield self._timed(epoch, index, step + index - start)
            return
        with ThreadPoolExecutor(1, "batches") as worker:
            waiting: deque[Future[Fed]] = deque()
            try:
                for index in range(start, number):
                    waiting.append(worker.submit(self._make, epoch, index, step + index - start))
                    if len(waiting) > self._ahead:
                        yield self._taken(waiting.popleft())
                while waiting:
                    yield self._taken(waiting.popleft())
            finally:
                for future in waiting:
                    future.cancel()

    def _make(self, epoch: int, index: int, step: int) -> Fed:
        batch = self._batches.batch(epoch, index)
        if self._sampler is None:
            return Fed(index, batch, None)
        # In the first steps this is also the stream that shuffles epoch `step`: one draw in
        # thousands depends on the order of an epoch. Another would change every trained figure.
        rng = np.random.default_rng([self._seed, step])
        return Fed(index, batch, self._sampler.draw(batch.targets, rng))

    def _timed(self, epoch: int, index: int, step: int) -> Fed:
        began = time.monotonic()
        made = self._make(epoch, index, step)
        self.waited += time.monotonic() - began
        return made

    def _taken(self, future: Future[Fed]) -> Fed:
        began = time.monotonic()
        made = future.result()
        self.waited += time.monotonic() - began
        return made
