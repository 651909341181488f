"""Search options of a new bundle: its index and its stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast, get_args

from recsys.errors import ConfigError
from recsys.reports.bundle import print_candidates
from recsys.retrieval.bundle.tiers import TierSpec
from recsys.retrieval.bundle.writing import Addition
from recsys.retrieval.funnel import check_stages, parse_stages
from recsys.retrieval.index.building import MEASURED_K, index_of
from recsys.retrieval.index.choosing import AUTO, Prefer, chosen_index_of


@dataclass(frozen=True)
class IndexOptions:
    """The index over the prefix of the first stage."""

    kind: str | None = None
    """`ivf,pqx4`, `scann`, ...; see `kinds.KINDS`. `auto`: the best of several, by measuring. None:
    no index."""
    recall: float = 0.99
    """What the index is tuned to: share of the first 10 of the same stages without it; without
    stages, of exact search, and as many candidates are ranked as that takes."""
    memory: float | None = None
    """With `auto`: bytes an item that the index may take. None: any number."""
    prefer: str = "speed"
    """With `auto`: `speed` or `memory`, the fastest index or the smallest."""

    @staticmethod
    def of(index: str | IndexOptions | None) -> IndexOptions:
        """The options, of a kind alone the usual ones."""
        return index if isinstance(index, IndexOptions) else IndexOptions(index)


@dataclass(frozen=True)
class RoutedStages:
    """Stages with routing: users may stop at an early stage."""

    stages: str | None
    """`32:200,256`."""
    keep: float
    """The share of ndcg@10 to keep, learned on the run's validation users."""


def search_parts(
    tiers: Sequence[TierSpec], index: IndexOptions, stages: str | None
) -> list[Addition]:
    """What goes into a bundle for its first stage: an index, the funnel.

    Raises:
        ConfigError: there is no such index or preference, or the stages are not a funnel.
    """
    if index.kind == AUTO:
        return [_chosen(index, stages)]
    if index.memory is not None or index.prefer != "speed":
        raise ConfigError(
            f"memory and prefer are options of --index {AUTO}, and the index is "
            f"{index.kind or 'none'}; leave them out, or say --index {AUTO}"
        )
    if index.kind is None and index.recall != IndexOptions.recall:
        raise ConfigError(
            f"recall {index.recall} is what an index is tuned to, and there is none; leave it out, "
            f"or say --index {AUTO}, ivf or another kind"
        )
    # Lists of an index are tuned with so many: a stage that keeps fewer is told before building.
    least = 1 if index.kind is None else MEASURED_K
    parsed = None if stages is None else parse_stages(stages, least)
    if parsed is not None:
        check_stages(parsed, indexed=index.kind is not None)
        if index.kind is not None and len(parsed) == 1:
            raise ConfigError(
                f"stages {stages!r} rank every item, so they need no index; give the number of "
                f"candidates  ({stages}:200,{tiers[-1].hi}), or leave the index out"
            )
    size = tiers[0].hi if parsed is None else parsed[0].granularity
    additions = []
    if index.kind is not None:
        additions.append(index_of(index.kind, size, index.recall, stages))
    if stages is not None:
        additions.append(lambda _, manifest: {"stages": _among(stages, manifest.sizes)})
    return additions


def _chosen(index: IndexOptions, stages: str | None) -> Addition:
    """The best of several indexes."""
    if stages is not None:
        raise ConfigError(f"index {AUTO} chooses the stages, too; leave {stages!r} out")
    if index.prefer not in get_args(Prefer):
        raise ConfigError(f"prefer {index.prefer!r} is not among {get_args(Prefer)}")
    if index.memory is not None and not index.memory > 0:
        raise ConfigError(
            f"memory is {index.memory}; a number of bytes for each item above 0 is expected"
        )
    prefer = cast(Prefer, index.prefer)
    return chosen_index_of(index.recall, most=index.memory, prefer=prefer, show=print_candidates)


def _among(stages: str, sizes: tuple[int, ...]) -> str:
    """The stages, if all their granularities are there."""
    for stage in parse_stages(stages, 1):
        if stage.granularity not in sizes:
            raise ConfigError(
                f"stages {stages!r}: granularity {stage.granularity} is not among {sizes}"
            )
    return stages
