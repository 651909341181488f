"""Targets that a protocol filters as seen: their number, and the recall they cost.

Shape legend: M targets, R rows (users) of a piece.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recsys.data.dataset import Dataset
from recsys.evaluation.held_out import HeldOut
from recsys.evaluation.protocol import PROTOCOLS, Protocol

_AT_ONCE = 1 << 20
"""Interactions of a piece, about (histories are not cut)."""


def seen_targets(dataset: Dataset, held: HeldOut) -> npt.NDArray[np.bool_]:
    """`[M]`: the target is an item of its user's history."""
    seen = np.zeros(len(held.targets), dtype=np.bool_)
    pieces = np.cumsum(held.end - held.start) // _AT_ONCE
    for piece in np.unique(pieces):
        rows = np.flatnonzero(pieces == piece)
        positions, offsets = held.targets_of(rows)
        histories = held.histories(dataset, rows)
        known = np.repeat(np.arange(len(rows)), histories.lengths) * dataset.num_items
        asked = np.repeat(np.arange(len(rows)), np.diff(offsets)) * dataset.num_items
        seen[positions] = np.isin(asked + held.targets[positions], known + histories.items)
    return seen


def describe_seen(dataset: Dataset, held: HeldOut, protocol: Protocol) -> str:
    """A line for the protocol card; empty where nothing is filtered."""
    if not protocol.filter_seen:
        return ""
    seen = seen_targets(dataset, held)
    if not seen.any():
        return f"none of {len(seen):,} targets"
    shares = np.add.reduceat(seen, held.offsets[:-1], dtype=np.int64) / np.diff(held.offsets)
    return (
        f"{seen.sum():,} of {len(seen):,} targets are in the history they are predicted from, so "
        f"recall cannot exceed {1 - shares.mean():.3f}; {_remedy(protocol)}"
    )


def _remedy(protocol: Protocol) -> str:
    fitting = [
        p.name for p in PROTOCOLS.values() if p.split == protocol.split and not p.filter_seen
    ]
    if fitting:
        return f"where people come back to items, measure with protocol={fitting[0]}"
    return "no protocol of this split ranks them; deduplicate=first leaves repeats out of the data"
