"""Building, tuning, saving and opening of a bundle's index.

Shape legend: N items, d coordinates of the prefix, Q users to measure with, K of a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.errors import ConfigError, DataError
from recsys.files.named import inside
from recsys.retrieval.bundle.loading import Bundle
from recsys.retrieval.bundle.manifest import REMEDY, BundleManifest, IndexEntry
from recsys.retrieval.bundle.writing import Addition
from recsys.retrieval.funnel import Funnel, Searchable, Stage, parse_stages
from recsys.retrieval.index.faiss_index import build_faiss, load_faiss
from recsys.retrieval.index.kinds import Index, parse_kind, recall_of, tune
from recsys.retrieval.index.scann_index import build_scann, load_scann

MEASURED_USERS = 1000
MEASURED_K = 10
"""Length of the lists a recall is measured with."""
KEEPS = (50, 100, 200, 400, 800, 1600)
"""Candidates to rank, where none are asked for."""
_CASCADED = 200
"""So many are first ranked by a shorter prefix."""


def prefixes(bundle: Searchable, size: int, rows: Any = slice(None)) -> Float32:
    """`[N, d]`, or those of `rows`, as an index sees them: of norm 1 where scores are cosines."""
    vectors = bundle.items.decode(rows, 0, bundle.check_size(size))
    norms = bundle.norms(size)
    return np.ascontiguousarray(vectors if norms is None else vectors / norms[rows, None])


def measuring_users(bundle: Bundle, count: int = MEASURED_USERS) -> Float32:
    """`[Q, D]` of the bundle's users, evenly spread; of its items, where it has no users."""
    tiers = bundle.items if bundle.manifest.users is None else bundle.users
    rows = np.unique(np.linspace(0, len(tiers) - 1, count).astype(np.int64))
    return tiers.decode(rows, 0, bundle.dim)


def build_index(bundle: Searchable, kind: str, size: int, *, threads: int | None = None) -> Index:
    """An index over prefixes, read block by block, that visits little.

    Args:
        bundle: of the items.
        kind: as `kinds` names them.
        size: granularity.
        threads: None: all cores.

    Raises:
        ConfigError, DataError, GranularityError: it cannot be built.
        InstallationError: what builds it is missing.
    """
    bundle.check_size(size)
    parsed = parse_kind(kind, size)
    build = build_scann if parsed.structure == "scann" else build_faiss
    return build(
        lambda rows: prefixes(bundle, size, rows), bundle.num_items, parsed, threads=threads
    )


@dataclass(frozen=True)
class Tuned:
    """Search settings of a tuned index."""

    stages: tuple[Stage, ...]
    search: dict[str, int]
    recall: float
    """Share of what it is measured against that the funnel finds."""


def tune_index(
    bundle: Searchable, index: Index, stages: Sequence[Stage], recall: float, users: Float32
) -> Tuned:
    """Raises an index's search parameter until its funnel finds what it would without an index.

    So a shorter prefix's own loss is not the index's. Stages that only an index can have (shorter
    than the first) are left out of the funnel without one, so what they lose counts.

    Args:
        bundle: of the items.
        index: over the prefix of the first stage; changed in place.
        stages: the funnel; what the last one keeps is K.
        recall: 0..1, of the first K.
        users: `[Q, D]` to measure with.
    """
    first, *others = stages
    grown = [stage for stage in others if stage.granularity > first.granularity]
    without = [first, *grown] if grown or not others else stages[-1:]
    lists = _lists(bundle, without, users, index.threads)
    return _tuned(bundle, index, stages, recall, users, lists)


def tune_keep(bundle: Searchable, index: Index, size: int, recall: float, users: Float32) -> Tuned:
    """The least work that reaches a recall of exact search: how much to visit, how much to rank.

    Work: multiply-adds, of which those of the ranking count four times: it waits for memory.
    Where nothing reaches it, what comes closest.
    """
    start, found = dict(index.search), []
    prefix = np.ascontiguousarray(users[:, :size])
    exact = _lists(bundle, [Stage(bundle.items.dim, MEASURED_K)], users, index.threads)
    ways = (tuple(_no_more_than(way, bundle.num_items)) for way in _rankings(bundle, size))
    for stages in dict.fromkeys(ways):
        index.search.update(start)
        tuned = _tuned(bundle, index, stages, recall, users, exact)
        visited = index.multiply_adds(prefix, stages[0].keep)
        work = visited + 4 * Funnel(bundle, stages, finder=index).multiply_adds(0)
        short = tuned.recall < recall
        found.append((short, -tuned.recall if short else work, tuned))
    best = min(found, key=lambda each: each[:2])[2]
    index.search.update(best.search)
    return best


def _lists(
    bundle: Searchable, stages: Sequence[Stage], users: Float32, threads: int | None
) -> Int64:
    return (
        Funnel(bundle, _no_more_than(stages, bundle.num_items), threads=threads).search(users).items
    )


def _tuned(
    bundle: Searchable,
    index: Index,
    stages: Sequence[Stage],
    recall: float,
    users: Float32,
    wanted: Int64,
) -> Tuned:
    """The least that the index must visit for a funnel to find a share of `wanted [Q, K]`."""
    stages = _no_more_than(stages, bundle.num_items)
    funnel = Funnel(bundle, stages, finder=index, threads=index.threads)
    reached = tune(index, lambda: recall_of(funnel.search(users).items, wanted), recall)
    return Tuned(tuple(stages), dict(index.search), reached)


def _rankings(bundle: Searchable, size: int) -> list[tuple[Stage, ...]]:
    """Ways to rank what an index of `size` finds: at full width, or by a quarter of it before."""
    dim = bundle.items.dim
    ways: list[tuple[Stage, ...]] = []
    for keep in KEEPS:
        first, last = Stage(size, keep), Stage(dim, MEASURED_K)
        ways.append((first, last))
        if keep >= _CASCADED and dim // 4 >= 4 and dim // 4 in bundle.sizes:
            ways.append((first, Stage(dim // 4, keep // 4), last))
    return ways


def _no_more_than(stages: Sequence[Stage], num_items: int) -> list[Stage]:
    return [replace(stage, keep=min(stage.keep, num_items)) for stage in stages]


def stages_text(stages: Sequence[Stage]) -> str:
    """As `parse_stages` reads them: `32:200,256`."""
    *before, last = stages
    return ",".join([*(f"{one.granularity}:{one.keep}" for one in before), str(last.granularity)])


def index_of(kind: str, size: int, recall: float | None, stages: str | None = None) -> Addition:
    """Adds an index to a bundle that is being written.

    Args:
        kind: as `kinds` names them.
        size: granularity.
        recall: what must be reached; None: nothing is tuned.
        stages: the funnel to serve by, whose first stage is this index; None: candidates to rank
            at full width are counted so that the recall is that of exact search.

    Raises:
        ConfigError: there is no such kind, or the recall is not a share.
    """
    parse_kind(kind, size)
    if recall is not None:
        check_recall(recall)

    def write(folder: Path, manifest: BundleManifest) -> dict[str, Any]:
        bundle = Bundle(folder, manifest)
        index = build_index(bundle, kind, size)
        if recall is None:
            return {"index": entry_of(index, folder, size, None)}
        users = measuring_users(bundle)
        if stages is None:
            tuned = tune_keep(bundle, index, size, recall, users)
        else:
            tuned = tune_index(bundle, index, parse_stages(stages, MEASURED_K), recall, users)
        if tuned.recall < recall:
            raise DataError(
                f"index {kind} at {size} coordinates reaches recall {tuned.recall:.4f} at most "
                f"by the stages {stages_text(tuned.stages)}, {recall} is required; choose "
                "a first stage that keeps more, finer codes, a longer prefix, or a lower --recall"
            )
        return {
            "index": entry_of(index, folder, size, tuned.recall),
            "stages": stages or stages_text(tuned.stages),
        }

    return write


def check_recall(recall: float) -> None:
    """Raises ConfigError unless it is a share."""
    if not 0 < recall <= 1:
        raise ConfigError(f"recall is {recall}; a share of more than 0 and at most 1 is expected")


def entry_of(index: Index, folder: Path, size: int, recall: float | None) -> IndexEntry:
    """Saves an index into a bundle's folder, and tells of it."""
    file = index.save(folder)
    own = (folder / file).parent
    more = [path.relative_to(folder).as_posix() for path in own.iterdir()] if own != folder else []
    return IndexEntry(
        file=file,
        more=tuple(sorted(set(more) - {file})),
        kind=index.kind.name,
        granularity=size,
        nbytes=index.nbytes,
        search=index.search,
        recall=recall,
    )


def open_index(bundle: Bundle, *, threads: int | None = None) -> Index:
    """The index of a bundle, for `Funnel(bundle, stages, finder=...)`.

    Raises:
        DataError: it has none, or one of an earlier version.
        InstallationError: what reads it is missing.
    """
    entry = bundle.manifest.index
    if entry is None:
        raise DataError(f"{bundle.folder} has no index; {REMEDY} and --index")
    try:
        kind = parse_kind(entry.kind, entry.granularity)
    except ConfigError as error:
        raise DataError(f"{bundle.folder}: {error}; {REMEDY}") from error
    if set(entry.search) != set(kind.searched_by):
        raise DataError(
            f"{bundle.folder}: index {entry.kind} is searched by {kind.searched_by}, the manifest "
            f"names {tuple(entry.search)}; {REMEDY}"
        )
    load = load_scann if kind.structure == "scann" else load_faiss
    index = load(inside(bundle.folder, entry.file), kind, entry.search, threads=threads)
    if index.size != (bundle.num_items, entry.granularity):
        raise DataError(
            f"{bundle.folder}: the index holds {index.size[0]} prefixes of {index.size[1]} "
            f"coordinates where there are {bundle.num_items} items; {REMEDY}"
        )
    return index
