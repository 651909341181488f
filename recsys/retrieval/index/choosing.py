"""Choice of a bundle's index by measurement: the fastest, or the smallest.

Shape legend: N items, D coordinates, Q users to measure with.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from recsys.arrays import Float32
from recsys.errors import DataError, InstallationError
from recsys.retrieval.bundle.loading import Bundle
from recsys.retrieval.bundle.manifest import BundleManifest
from recsys.retrieval.bundle.writing import Addition
from recsys.retrieval.funnel import Funnel, Searchable
from recsys.retrieval.index.building import (
    Tuned,
    build_index,
    check_recall,
    entry_of,
    measuring_users,
    stages_text,
    tune_keep,
)
from recsys.retrieval.index.kinds import Index

AUTO = "auto"
Prefer = Literal["speed", "memory"]
_TURNS = 3
_LEAST_WIDTH = 16


@dataclass(frozen=True)
class Candidate:
    """An index that was built and tuned, with its costs."""

    kind: str
    granularity: int
    tuned: Tuned
    reached: bool
    """The recall that was asked for."""
    nbytes: float
    """In memory, an item."""
    ms: float
    """A user, in a batch of all who measure."""


def kinds_for(sizes: Sequence[int]) -> list[tuple[str, int]]:
    """What is tried: coarse and fine 4-bit codes of all coordinates; of a half and of a quarter,
    where these are granularities; bytes of a quarter; ScaNN's of all, where it is installed.
    """
    dim = sizes[-1]
    shorter = [size for size in sizes if size in (dim // 2, dim // 4) and size >= _LEAST_WIDTH]
    tried = [("ivf,pqx4", size) for size in (dim, *reversed(shorter)) if size % 2 == 0]
    if dim % 4 == 0:
        tried.insert(1, (f"ivf,pq{dim // 4}x4", dim))
    if dim % 2 == 0 and find_spec("scann"):
        tried.append(("scann", dim))
    return [*tried, ("ivf,sq8", shorter[0] if shorter else dim)]


def measure_indexes(
    bundle: Searchable,
    tried: Sequence[tuple[str, int]],
    recall: float,
    users: Float32,
    *,
    most: float | None = None,
    prefer: Prefer = "speed",
) -> tuple[Index, int, list[Candidate]]:
    """Builds and tunes every index, and keeps the best.

    Args:
        bundle: of the items.
        tried: kinds and granularities.
        recall: share of the first 10 of exact search that must be found.
        users: `[Q, D]` to measure with.
        most: bytes an item in memory; None: any number.
        prefer: the fastest is taken, or the smallest.

    Returns:
        The best index, its place among the candidates, and these.

    Raises:
        DataError: none reaches the recall within the memory.
    """
    found: list[Candidate] = []
    best: tuple[float, Index, int] | None = None
    refused: list[str] = []
    for kind, size in tried:
        try:
            index = build_index(bundle, kind, size)
        except (DataError, InstallationError) as error:
            refused.append(str(error))
            continue
        tuned = tune_keep(bundle, index, size, recall, users)
        each = index.nbytes / bundle.num_items
        reached = tuned.recall >= recall
        ms = _milliseconds(bundle, index, tuned, users)
        found.append(Candidate(kind, size, tuned, reached, each, ms))
        cost = ms if prefer == "speed" else each
        if reached and each <= (most or np.inf) and (best is None or cost < best[0]):
            best = cost, index, len(found) - 1
    if best is None:
        told = "; ".join(
            [f"{c.kind} at {c.granularity}: {c.tuned.recall:.4f}, {c.nbytes:.0f} bytes"
             for c in found] + refused
        )  # fmt: skip
        raise DataError(
            f"no index reaches recall {recall}"
            + (f" within {most:g} bytes an item" if most else "")
            + f" ({told}); allow more memory or a lower --recall"
        )
    return best[1], best[2], found


def _milliseconds(bundle: Searchable, index: Index, tuned: Tuned, users: Float32) -> float:
    index.search.update(tuned.search)
    funnel = Funnel(bundle, tuned.stages, finder=index, threads=index.threads)
    times = []
    for _ in range(_TURNS):
        started = time.perf_counter()
        funnel.search(users)
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times) / len(users)


def chosen_index_of(
    recall: float,
    *,
    most: float | None = None,
    prefer: Prefer = "speed",
    show: Callable[[Sequence[Candidate], int], None] = lambda *_: None,
) -> Addition:
    """Adds the best index to a bundle that is being written, and the stages it was tuned with.

    Args:
        recall: as `measure_indexes` takes it, and `most` and `prefer`; measured with the bundle's
            users, or its items where it has none.
        most: likewise.
        prefer: likewise.
        show: called with the candidates and the place of the best.
    """
    check_recall(recall)

    def write(folder: Path, manifest: BundleManifest) -> dict[str, Any]:
        bundle = Bundle(folder, manifest)
        tried = kinds_for([size for size in manifest.sizes if size <= bundle.dim])
        index, place, found = measure_indexes(
            bundle, tried, recall, measuring_users(bundle), most=most, prefer=prefer
        )
        show(found, place)
        best = found[place]
        return {
            "index": entry_of(index, folder, best.granularity, best.tuned.recall),
            "stages": stages_text(best.tuned.stages),
        }

    return write
