"""Ranks of every target in every run of a table, for paired comparison of users.

Shape legend: U users, M targets of them all (jagged).
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recsys.arrays import Float64, Int32, Int64
from recsys.errors import ProtocolError
from recsys.evaluation.metrics import MISS, user_values

Place = tuple[str, int | None]
"""(run, granularity); a granularity of None: a model without nested vectors."""


@dataclass(frozen=True)
class TargetRanks:
    """Ranks of the same targets by several runs, at each of their granularities."""

    offsets: Int64
    """`[U + 1]`: the targets of user u are `offsets[u]:offsets[u + 1]`."""
    ranks: Mapping[Place, Int32]
    """`[M]` each, from 1; `MISS` beyond the largest cutoff."""

    def per_user(self, place: Place, metric: str, k: int) -> Float64:
        """`[U]` values of one metric."""
        ranks = self.ranks[place].astype(np.int64)
        return user_values(metric, ranks, self.offsets, (k,))[:, 0]

    def renamed(self, name: Callable[[str], str]) -> TargetRanks:
        """The same with other names of runs."""
        return replace(
            self, ranks={(name(run), g): found for (run, g), found in self.ranks.items()}
        )

    def to_json(self) -> dict[str, Any]:
        """Lists and texts; ranks are packed, as most targets are found at no cutoff."""
        lines = [
            {"run": run, "granularity": granularity, "ranks": _packed(found)}
            for (run, granularity), found in self.ranks.items()
        ]
        return {"offsets": _packed(self.offsets), "lines": lines}


def target_ranks(
    run: str, sizes: Sequence[int | None], ranks: Int64, offsets: Int64, largest_k: int
) -> TargetRanks:
    """What is kept of a run's ranks `[G, M]`, to take its figures at cutoffs up to `largest_k`."""
    kept = np.where(ranks <= largest_k, ranks, MISS).astype(np.int32)
    return TargetRanks(offsets, {(run, size): row for size, row in zip(sizes, kept, strict=True)})


def join_ranks(several: Sequence[TargetRanks | None]) -> TargetRanks | None:
    """Of all tables that have ranks; of a run that stands in several, those of the first.

    Raises:
        ProtocolError: they are not of the same users and targets.
    """
    known = [each for each in several if each is not None]
    if not known:
        return None
    if not all(np.array_equal(each.offsets, known[0].offsets) for each in known):
        counts = ", ".join(f"{len(each.offsets) - 1:,}" for each in known)
        raise ProtocolError(
            f"these tables are not of the same users, though their cards are alike (they have "
            f"{counts} users); run `recsys evaluate` again on all of them"
        )
    joined = {place: found for each in reversed(known) for place, found in each.ranks.items()}
    return TargetRanks(known[0].offsets, joined)


def ranks_from_json(tree: Mapping[str, Any]) -> TargetRanks:
    """What `TargetRanks.to_json` gave.

    Raises:
        ValueError, KeyError: it is something else.
    """
    offsets = _unpacked(tree["offsets"], np.int64)
    ranks = {
        (line["run"], line["granularity"]): _unpacked(line["ranks"], np.int32)
        for line in tree["lines"]
    }
    if not len(offsets) or offsets[0] or (np.diff(offsets) < 1).any():
        raise ValueError("the ranks are of users without targets")
    if any(len(found) != offsets[-1] or (found < 1).any() for found in ranks.values()):
        raise ValueError("the ranks are not those of its targets")
    return TargetRanks(offsets, ranks)


def _packed(values: Int64 | Int32) -> str:
    little = values.astype(values.dtype.newbyteorder("<"))
    return base64.b64encode(zlib.compress(little.tobytes())).decode("ascii")


def _unpacked(text: str, dtype: type[np.integer[Any]]) -> Any:
    try:
        raw = zlib.decompress(base64.b64decode(text, validate=True))
    except zlib.error as error:
        raise ValueError(str(error)) from error
    return np.frombuffer(raw, np.dtype(dtype).newbyteorder("<")).astype(dtype)
