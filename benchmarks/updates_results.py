"""The figures of `benchmarks.updates` as a results file for the page on updating."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recsys.recipes.evaluating.results import as_typed
from recsys.reports.results.record import Figure, Results, Step, write_results

_WAYS = {"anew": "trained anew", "updated": "updated", "compatible": "updated with --compatible"}
_COSTS = ("targets", "steps", "seconds")


def keep(path: Path, found: dict[str, Any]) -> None:
    """Writes results/NAME.json of what the benchmark found."""
    told = {key: value for key, value in found["machine"].items() if key != "commit"}
    command = as_typed(shlex.join(["python", "-m", "benchmarks.updates", *sys.argv[1:]]))
    step = Step(command=command, commit=found["machine"]["commit"])
    rows = (*_ways(found["summary"]), *_pairs(found["compatible"]))
    write_results(path, Results(steps=(step,), seeds=(0,), machine=told, rows=rows))


def _ways(summary: dict[str, Any]) -> Iterator[Figure]:
    """Quality of each way, and quality and costs as shares of those of training anew."""
    for way, name in _WAYS.items():
        told, share = summary[way], summary[way].get("share of anew", {})
        last = max(map(int, told["ndcg@10"]))
        for size, value in told["ndcg@10"].items():
            place = {"name": name, "granularity": int(size)}
            yield Figure(**place, metric="ndcg@10", value=value)
            if share:
                kept = share[f"ndcg@10/d{size}"]
                yield Figure(**place, metric="of training anew", unit="share", value=kept)
            for key in _COSTS if share and int(size) == last else ():
                yield Figure(**place, metric=f"{key}, of anew", unit="share", value=share[key])


def _pairs(rows: list[dict[str, Any]]) -> Iterator[Figure]:
    """Old and new users x old and new items, of the runs with --compatible."""
    for row in rows:
        name = f"{row['users']} users x {row['items']} items, {row['catalogue']} items"
        place = {"name": name, "granularity": row["granularity"]}
        yield Figure(**place, metric="ndcg@10", value=row["ndcg@10"])
        beside = next(
            other["ndcg@10"]
            for other in rows
            if (other["users"], other["items"]) == ("new", "new")
            and (other["catalogue"], other["granularity"]) == (row["catalogue"], row["granularity"])
        )
        share = row["ndcg@10"] / beside
        yield Figure(**place, metric="of new x new", unit="share", value=share)
