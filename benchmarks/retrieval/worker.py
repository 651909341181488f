"""The process that opens one search and measures it on request.

python -m benchmarks.retrieval.worker FOLDER WAY THREADS [--build]

Its libraries print what they like: that goes to stderr, answers alone to stdout.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.retrieval.memory import anonymous_bytes, dropper
from benchmarks.retrieval.vectors import Vectors
from benchmarks.retrieval.way import Search, Way, build_parts
from recsys.arrays import Float32
from recsys.retrieval.index.kinds import recall_of

_WARMING = 32


class Worker:
    """One way, opened."""

    def __init__(self, vectors: Vectors, way: Way, threads: int) -> None:
        self.users = {"users": vectors.users, "others": vectors.others}
        self.wanted = {"users": vectors.wanted, "others": vectors.tuning}
        self.folders = [vectors.folder / part.name for part in way.parts]
        before = anonymous_bytes()
        self.opened = way.open(vectors, threads)
        self.opened.at(way.grid[0][0])(self.users["others"][:1])
        self.grown = anonymous_bytes() - before  # what batches take for a while is not the index's

    def speed(self, point: dict[str, int], group: str, seconds: float, singles: int) -> Any:
        """Recall, queries/s of all users at once, ms of one at a time; medians.

        Batches are repeated for `seconds`; there is one at least.
        """
        search, users = self.opened.at(point), self.users[group]
        for row in range(_WARMING):
            search(users[[-1 - row]])
        times: list[float] = []
        found = np.zeros(0, np.int64)
        until = time.perf_counter() + seconds
        while not times or time.perf_counter() < until:
            started = time.perf_counter()
            found = search(users)
            times.append(time.perf_counter() - started)
        rows = np.linspace(0, len(users) - 1, singles).astype(np.int64)
        return {
            "recall@10": recall_of(found, self.wanted[group]),
            "queries/s": len(users) / float(np.median(times)),
            "ms": 1e3 * float(np.median(_each(search, users, rows))),
        }

    def memory(self) -> Any:
        """Bytes: by arithmetic, of the process (grown by opening and one search), mapped."""
        return {
            "resident": self.opened.resident,
            "anonymous": self.grown,
            "mapped": self.opened.mapped,
        }

    def latency(self, point: dict[str, int], count: int, cold: bool) -> Any:
        """Milliseconds of each of `count` users; `cold`: before each, mapped pages are dropped."""
        search, users = self.opened.at(point), self.users["users"]
        rows = np.linspace(0, len(users) - 1, count).astype(np.int64)
        if not cold:
            _each(search, users, rows)
            return {"ms": [1e3 * one for one in _each(search, users, rows)]}
        search(users[[0]])
        drop = dropper(self.folders)
        times: list[float] = []
        for row in rows:
            drop()
            times += _each(search, users, row[None])
        return {"ms": [1e3 * one for one in times]}


def _each(search: Search, users: Float32, rows: Any) -> list[float]:
    times: list[float] = []
    for row in rows:
        one = users[[row]]
        started = time.perf_counter()
        search(one)
        times.append(time.perf_counter() - started)
    return times


def serve(worker: Worker, lines: IO[str], answers: IO[str]) -> None:
    """Answers until the lines end: `{"do": "speed", ...}` calls `Worker.speed(...)`."""
    for line in lines:
        request = json.loads(line)
        answer = getattr(worker, request.pop("do"))(**request)
        print(json.dumps(answer), file=answers, flush=True)


def main(folder: Path, name: str, threads: int, *, build: bool) -> None:
    """Builds, or serves."""
    from benchmarks.retrieval.ways import WAYS

    vectors, way = Vectors(folder), WAYS[name]
    if build:
        build_parts(vectors, way, threads)
        return
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(Worker(vectors, way, threads), sys.stdin, answers)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), build="--build" in sys.argv)
