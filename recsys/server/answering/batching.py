"""Requests that arrive together are answered together, by one thread.

No request waits for others: while one search runs, those that arrive form the next.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from recsys.server.answering.answers import Answer, Answering

logger = logging.getLogger("recsys.server")
Kind = str
"""`recommend`, `similar` or `score`: the method of `Answering`."""


class SaturatedError(Exception):
    """Too many requests wait already."""

    def __init__(self, seconds: int) -> None:
        """With the seconds after which to try again."""
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(frozen=True)
class _Job:
    answering: Answering
    kind: Kind
    requests: Sequence[Any]
    future: asyncio.Future[list[Answer]]
    loop: asyncio.AbstractEventLoop
    arrived: float


class Batcher:
    """A queue of requests and the thread that answers them."""

    def __init__(
        self,
        *,
        waiting: int,
        together: int,
        told: Callable[[str, float, int], None] = lambda _step, _seconds, _count: None,
    ) -> None:
        """Args:
        waiting: requests that may wait.
        together: most of them that are answered at once.
        told: takes the time of each step.
        """
        self._most, self._together, self._told = waiting, together, told
        self._jobs: deque[_Job] = deque()
        self._count, self._pace = 0, 0.01
        self._changed = threading.Condition()
        self._stopped = True
        self.start()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self._count

    def start(self) -> None:
        """Starts the thread, if it was stopped."""
        if self._stopped:
            self._stopped = False
            self._thread = threading.Thread(target=self._run, name="recsys-answers", daemon=True)
            self._thread.start()

    async def answer(
        self, answering: Answering, kind: Kind, requests: Sequence[Any]
    ) -> list[Answer]:
        """Answers of requests, which are kept in one search.

        Raises:
            SaturatedError: too many wait.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Answer]] = loop.create_future()
        job = _Job(answering, kind, requests, future, loop, time.perf_counter())
        with self._changed:
            # One job is taken always, or a large batch could never be.
            if self._jobs and self._count + len(requests) > self._most:
                raise SaturatedError(max(1, round(self._count * self._pace)))
            self._jobs.append(job)
            self._count += len(requests)
            self._changed.notify()
        return await future

    def stop(self) -> None:
        """Ends the thread when everything that waits is answered."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            start = time.perf_counter()
            groups: dict[tuple[int, Kind], list[_Job]] = {}
            for job in batch:
                if job.future.cancelled():  # nobody waits for it any more
                    continue
                self._told("wait", start - job.arrived, len(job.requests))
                groups.setdefault((id(job.answering), job.kind), []).append(job)
            for jobs in groups.values():
                self._answer(jobs)
            done = sum(len(job.requests) for job in batch)
            self._pace += 0.1 * ((time.perf_counter() - start) / max(1, done) - self._pace)
            self._told("together", 0.0, done)

    def _next(self) -> list[_Job]:
        """What waits, up to the most that is answered at once; nothing: it is over."""
        with self._changed:
            while not self._jobs and not self._stopped:
                self._changed.wait()
            batch: list[_Job] = []
            count = 0
            while self._jobs and (
                not batch or count + len(self._jobs[0].requests) <= self._together
            ):
                batch.append(self._jobs.popleft())
                count += len(batch[-1].requests)
            self._count -= count
            return batch

    def _answer(self, jobs: list[_Job]) -> None:
        requests = [request for job in jobs for request in job.requests]
        error: Exception | None = None
        try:
            answers = getattr(jobs[0].answering, jobs[0].kind)(requests)
        except Exception as found:  # a bug: these requests end with 500, the thread goes on
            logger.exception("requests could not be answered")
            answers, error = [], found
        edge = 0
        for job in jobs:
            own = answers[edge : edge + len(job.requests)]
            edge += len(job.requests)
            try:
                job.loop.call_soon_threadsafe(_settle, job.future, own, error)
            except RuntimeError:  # the loop is closed: nobody waits
                continue


def _settle(future: asyncio.Future[list[Answer]], answers: list[Answer], error: Any) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(answers)
