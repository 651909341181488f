"""Indexes in bundles: built over the first tier's prefix, tuned by measuring, saved, opened.

Shape legend: N items, d coordinates of the prefix, Q users to measure with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recsys.errors import ConfigError, DataError
from recsys.named_files import inside
from recsys.retrieval.bundle import Bundle
from recsys.retrieval.encoding import Float32
from recsys.retrieval.filters import make_filters
from recsys.retrieval.funnel import Searchable
from recsys.retrieval.index import Index, build_index, check_kind, load_index, tune
from recsys.retrieval.inverted import KIND, build_inverted, load_inverted
from recsys.retrieval.manifest import REMEDY, BundleManifest, IndexEntry
from recsys.retrieval.scan import Scan
from recsys.retrieval.writing import Addition

FILE = "index.faiss"
LISTS_FILE = "index.safetensors"
MEASURED_USERS = 1000
MEASURED_AT = 100
"""Candidates a recall is measured with."""


def prefixes(bundle: Searchable, size: int, rows: Any = slice(None)) -> Float32:
    """`[N, d]`, or those of `rows`, as an index sees them: of norm 1 where scores are cosines."""
    vectors = bundle.items.decode(rows, 0, bundle.check_size(size))
    norms = bundle.norms(size)
    return vectors if norms is None else vectors / norms[rows, None]


def measuring_users(bundle: Bundle, count: int = MEASURED_USERS) -> Float32:
    """`[Q, D]` of the bundle's users, evenly spread; of its items, where it has no users."""
    tiers = bundle.items if bundle.manifest.users is None else bundle.users
    rows = np.unique(np.linspace(0, len(tiers) - 1, count).astype(np.int64))
    return tiers.decode(rows, 0, bundle.dim)


def make_index(
    bundle: Searchable,
    kind: str,
    size: int,
    recall: float | None,
    users: Float32,
    *,
    threads: int | None = None,
) -> tuple[Index, float | None]:
    """Builds an index, and raises its parameters until it finds what an exact search finds.

    Args:
        bundle: of the items.
        kind: `flat`, `ivf`, `hnsw`, and `,sq8` or `,pqM`; or `ivf,int8`.
        size: granularity.
        recall: share of the exact 100 first candidates; None: the least work.
        users: `[Q, D]` to measure with.
        threads: None: all cores.

    Returns:
        The index and the recall it reached.

    Raises:
        ConfigError, DataError, GranularityError: it cannot be built.
    """
    index: Index
    if kind == KIND:
        index = build_inverted(
            lambda rows: prefixes(bundle, size, rows), bundle.num_items, threads=threads
        )
    else:
        index = build_index(prefixes(bundle, size), kind, threads=threads)
    if recall is None:
        return index, None
    users = np.ascontiguousarray(users[:, :size])
    keep = min(MEASURED_AT, bundle.num_items)
    scan = Scan(bundle.items, size, bundle.norms(size), threads)
    exact = scan.find(users, keep, make_filters(len(users), bundle.num_items))
    return index, tune(index, users, exact, recall)


def index_of(kind: str, size: int, recall: float | None) -> Addition:
    """Adds an index to a bundle that is being written.

    Args:
        kind: as `make_index` takes it.
        size: granularity.
        recall: what must be reached; None: nothing is tuned.

    Raises:
        ConfigError: there is no such kind, or the recall is no share.
    """
    check_kind(kind, size)
    if recall is not None and not 0 < recall <= 1:
        raise ConfigError(f"recall is {recall}; a share of more than 0 and at most 1 is expected")

    def write(folder: Path, manifest: BundleManifest) -> dict[str, Any]:
        bundle = Bundle(folder, manifest)
        index, reached = make_index(bundle, kind, size, recall, measuring_users(bundle))
        if recall is not None and reached is not None and reached < recall:
            raise DataError(
                f"index {kind} at {size} coordinates reaches recall {reached:.4f} at most, "
                f"{recall} is asked for; choose {_finer(kind)}or a lower --recall"
            )
        file = LISTS_FILE if kind == KIND else FILE
        index.save(folder / file)
        entry = IndexEntry(
            file=file,
            kind=kind,
            granularity=size,
            nbytes=index.nbytes,
            search=index.search,
            recall=reached,
        )
        return {"index": entry}

    return write


def _finer(kind: str) -> str:
    """What would find more; empty where an index loses nothing by its codes."""
    way, _, code = kind.partition(",")
    if code.startswith("pq"):
        return f"finer codes ({way},sq8, or {way} alone), "
    return f"{way} alone, which rounds nothing, " if code else ""


def open_index(bundle: Bundle, *, threads: int | None = None) -> Index:
    """The index of a bundle, for `Funnel(bundle, stages, finder=...)`.

    Raises:
        DataError: it has none.
    """
    entry = bundle.manifest.index
    if entry is None:
        raise DataError(f"{bundle.folder} has no index; {REMEDY} and --index")
    path = inside(bundle.folder, entry.file)
    if entry.kind == KIND:
        return load_inverted(path, entry.search, threads=threads)
    return load_index(path, entry.kind, entry.search, threads=threads)
