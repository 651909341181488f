"""The frontier of measured points, and the fastest at a recall.

A row is a point of a way: `tuned` figures of the users it was chosen with, and those measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.measure import Row

TARGETS = (0.90, 0.95, 0.99)
USES = {"batch": ("queries/s", max), "one user": ("ms", min)}
"""What is fast: the figure, and which of two is faster."""
STEP = 0.003
"""Of recall, between points that are measured."""
SHARE = 3
"""Ours must be as fast within so small a share of the memory, or `AHEAD` times as fast within the
same."""
AHEAD = 1.3
SAME = 1.05
"""Times as much memory is the same memory."""


def undominated(rows: Sequence[Row], figures: Callable[[Row], tuple[float, ...]]) -> list[Row]:
    """Rows that no other one equals or beats in every figure (more is better)."""
    kept = []
    for number, row in enumerate(rows):
        own = figures(row)
        others = [figures(other) for place, other in enumerate(rows) if place != number]
        better = [all(a >= b for a, b in zip(o, own, strict=True)) and o != own for o in others]
        if not any(better) and own not in [figures(other) for other in rows[:number]]:
            kept.append(row)
    return kept


def worth_measuring(rows: Sequence[Row], at_least: float) -> list[Row]:
    """Points of each way, of some recall, between which its frontier has no large gap.

    By figures of the tuning users; the fastest at each target is among them.
    """
    good = [row for row in rows if row["tuned"]["recall@10"] >= at_least]
    kept = {
        id(row)
        for name in dict.fromkeys(row["way"] for row in good)
        for use in USES
        for row in _steps([row for row in good if row["way"] == name], use)
    }
    return [row for row in good if id(row) in kept]


def _steps(rows: Sequence[Row], use: str) -> list[Row]:
    """From the fastest point on, those that find more by `STEP`, or reach a target first."""
    figure, faster = USES[use]
    kept, best = [], 0.0
    ordered = sorted(rows, key=lambda row: float(row["tuned"][figure]), reverse=faster is max)
    for row in ordered:
        recall = row["tuned"]["recall@10"]
        if recall >= best + STEP or any(best < target <= recall for target in TARGETS):
            kept.append(row)
            best = recall
    return kept


def frontier(rows: Sequence[Row]) -> list[Row]:
    """The best points of each way, by recall and both speeds.

    `*`: no other way has as much recall and as many queries/s in as little memory.
    """
    best = [id(row) for row in undominated(rows, lambda row: (*_speeds(row), -_resident(row)))]
    shown = []
    for name in dict.fromkeys(row["way"] for row in rows):
        own = [row for row in rows if row["way"] == name]
        points = undominated(own, lambda row: (*_speeds(row), -row["ms"]))
        for row in sorted(points, key=lambda row: float(row["recall@10"])):
            shown.append(row | {"best": "*" if id(row) in best else ""})
    return shown


def fastest(rows: Sequence[Row], target: float, use: str) -> list[Row]:
    """The point of each way that is fastest at a recall for the tuning users, fastest way first.

    `times`: as fast as the fastest rival, by the figures of the other users.
    """
    figure, faster = USES[use]
    chosen = []
    for name in dict.fromkeys(row["way"] for row in rows):
        good = [r for r in rows if r["way"] == name and r["tuned"]["recall@10"] >= target]
        if good:
            chosen.append(faster(good, key=lambda row: float(row["tuned"][figure])))
    chosen.sort(key=lambda row: float(row[figure]), reverse=faster is max)
    rival = next((row for row in chosen if not row["ours"]), None)
    return [
        row | {"times": times_as_fast(row, rival, use) if rival else float("nan")} for row in chosen
    ]


def times_as_fast(row: Row, other: Row, use: str) -> float:
    """By measured figures."""
    figure, faster = USES[use]
    ratio = float(row[figure]) / float(other[figure])
    return ratio if faster is max else 1 / ratio


def verdicts(rows: Sequence[Row]) -> list[Row]:
    """For each recall and use: do ours hold beside the rivals?

    Within a third of the fastest rival's memory, or beside the fastest rival that takes no more
    memory than ours.
    """
    found = []
    for target in TARGETS:
        for use in USES:
            chosen = fastest(rows, target, use)
            ours = [row for row in chosen if row["ours"]]
            rivals = [row for row in chosen if not row["ours"]]
            if ours and rivals:
                found.append(_verdict(target, use, ours, rivals))
    return found


def _verdict(target: float, use: str, ours: list[Row], rivals: list[Row]) -> Row:
    first = rivals[0]
    lean = [row for row in ours if SHARE * _resident(row) <= _resident(first)]
    pairs = [
        (row, rival)
        for row in ours
        if (rival := next((r for r in rivals if _resident(r) <= SAME * _resident(row)), None))
    ]
    ahead = max(pairs, key=lambda pair: times_as_fast(pair[0], pair[1], use), default=None)
    within = times_as_fast(lean[0], first, use) if lean else float("nan")
    equal = times_as_fast(ahead[0], ahead[1], use) if ahead else float("nan")
    return {
        "recall >=": target,
        "use": use,
        "fastest rival": label(first),
        f"ours in 1/{SHARE} of its memory": label(lean[0]) if lean else "none",
        "times": within,
        "ours in a rival's memory": " / ".join(map(label, ahead)) if ahead else "no rival so small",
        "times it": equal,
        "holds": "yes" if within >= 1 or equal >= AHEAD else "no",
    }


def label(row: Row) -> str:
    """Name and parameters."""
    point = " ".join(f"{key}={value}" for key, value in row["point"].items())
    return f"{row['way']} {point}"


def printed(row: Row, *more: str) -> Row:
    """The columns of a table."""
    columns: dict[str, Any] = {
        "search": label(row),
        "recall@10": f"{row['recall@10']:.4f}",
        "queries/s": row["queries/s"],
        "one user, ms": row["ms"],
        "resident B/item": round(row["resident bytes"]),
        "RssAnon B/item": round(row["anonymous bytes"]),
        "mapped B/item": round(row["mapped bytes"]),
        "build s": row["build seconds"],
    }
    return columns | {key: row.get(key, "") for key in more}


def _speeds(row: Row) -> tuple[float, float]:
    return float(row["recall@10"]), float(row["queries/s"])


def _resident(row: Row) -> float:
    return float(row["resident bytes"])
