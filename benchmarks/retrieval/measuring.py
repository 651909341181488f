"""Measurement of grids on tuning users, and of the best points in turns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.measure import Row
from benchmarks.retrieval.pool import Pool, WorkerError
from benchmarks.retrieval.way import build_seconds
from recsys.progress import progress

ENOUGH = 0.998
"""Of recall: more work is for nothing."""
_NO_GAIN = 3e-4
_FAIR = 0.5
_HOPELESS = 2
_GRID_SINGLES, _SINGLES = 20, 50


def measure_grid(pool: Pool, name: str) -> list[Row]:
    """All points of a way, measured once with the tuning users.

    A line ends where its recall is enough, where more work finds nothing more, or where another
    line has found as much in half the time.
    """
    rows: list[Row] = []
    widest = pool.ways[name].grid[-1]
    # Not kept: pages of mapped files are read for the first time.
    _speed(pool, name, widest[len(widest) // 2], "others", 0, 1)
    for line in pool.ways[name].grid:
        before = 0.0
        for point in line:
            speed = _speed(pool, name, point, "others", 0, _GRID_SINGLES)
            rows.append({"way": name, "point": point, "tuned": speed})
            recall = speed["recall@10"]
            nothing_more = recall > _FAIR and recall - before < _NO_GAIN
            if recall >= ENOUGH or nothing_more or _far_behind(speed, rows):
                break
            before = recall
    memory, way = pool.ask(name, "memory"), pool.ways[name]
    num_items = pool.vectors.card["num_items"]
    same = {
        "title": way.title,
        "ours": way.ours,
        **{f"{what} bytes": value / num_items for what, value in memory.items()},
        "build seconds": build_seconds(pool.vectors, way),
    }
    return [row | same for row in rows]


def measure_in_turns(
    pool: Pool, rows: Sequence[Row], rounds: int, seconds: float
) -> tuple[list[Row], dict[str, str]]:
    """Speeds of points, one after the other, round by round.

    A first round, with the tuning users, adds a second speed to that of the grid: parameters are
    chosen by the better of both. `rounds` more are with the users of the figures: medians.

    Returns:
        The points, and why ways are left out whose process has ended meanwhile.
    """
    failed: dict[str, str] = {}
    figures: list[list[Row]] = [[] for _ in rows]
    with progress() as bar:
        task = bar.add_task("measure in turns", total=(rounds + 1) * len(rows))
        for turn in range(rounds + 1):
            for row, found in zip(rows, figures, strict=True):
                name, group = row["way"], "users" if turn else "others"
                bar.advance(task)
                if name in failed:
                    continue
                try:
                    found.append(_speed(pool, name, row["point"], group, seconds, _SINGLES))
                except WorkerError as error:
                    failed[name] = f"cannot be measured: {error}"
    done = [
        row | {"tuned": _better(row["tuned"], found[0])} | _medians(found[1:]) | {"rounds": found}
        for row, found in zip(rows, figures, strict=True)
        if row["way"] not in failed
    ]
    return done, failed


def measure_latency(pool: Pool, rows: Sequence[Row], count: int) -> list[Row]:
    """p50 and p99 of one user at a time, with warm and with cold page cache."""
    latencies = []
    for row in rows:
        pool.close([name for name in pool.running if name != row["way"]])
        figures: dict[str, float] = {}
        for state in ("warm", "cold"):
            if state == "warm" or row["mapped bytes"]:
                asked = {"point": row["point"], "count": count, "cold": state == "cold"}
                times = sorted(pool.ask(row["way"], "latency", **asked)["ms"])
                figures[f"{state} p50, ms"] = statistics.median(times)
                figures[f"{state} p99, ms"] = times[int(0.99 * (len(times) - 1))]
        latencies.append(row | figures)
    return latencies


def _far_behind(speed: Row, rows: Sequence[Row]) -> bool:
    return any(
        row["tuned"]["recall@10"] >= speed["recall@10"]
        and row["tuned"]["queries/s"] > _HOPELESS * speed["queries/s"]
        and _HOPELESS * row["tuned"]["ms"] < speed["ms"]
        for row in rows
    )


def _speed(
    pool: Pool, name: str, point: Any, group: str, seconds: float, singles: int
) -> dict[str, float]:
    asked = {"point": point, "group": group, "seconds": seconds, "singles": singles}
    return pool.ask(name, "speed", **asked)


def _better(one: Row, other: Row) -> Row:
    return other | {
        "queries/s": max(one["queries/s"], other["queries/s"]),
        "ms": min(one["ms"], other["ms"]),
    }


def _medians(found: Sequence[Row]) -> Row:
    return {key: statistics.median(speed[key] for speed in found) for key in found[0]}
