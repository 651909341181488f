"""`recsys nest`: vectors from elsewhere, made nested by a rotation, as a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from recsys.arrays import Float32
from recsys.data.features.vector_files import read_vectors
from recsys.errors import ConfigError, DataError
from recsys.granularity import Granularities
from recsys.recipes.bundles.export import default_tiers
from recsys.recipes.bundles.search_options import IndexOptions, search_parts
from recsys.retrieval.bundle.manifest import BundleManifest
from recsys.retrieval.bundle.tier_writing import write_array
from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.writing import Addition, BundleSource, UserSource, write_bundle
from recsys.retrieval.checks import checked_count
from recsys.retrieval.codecs.registry import check_matrix
from recsys.retrieval.rotation import learned_rotation, loss_of, principal_rotation, rotate

Method = Literal["pca", "learned", "none"]


@dataclass(frozen=True)
class Nesting:
    """Options of the rotation that makes vectors nested."""

    method: Method = "learned"
    """`pca`; `learned`: also from what users tell of scores; `none`: as they are."""
    sizes: Sequence[int] | None = None
    """Granularities; None: powers of two from 8, and D."""
    normalize: bool = False
    """Scores are cosines."""
    seed: int = 0
    """Of the samples the rotation is learned from."""


@dataclass(frozen=True)
class Nested:
    """The result of nesting vectors."""

    folder: Path
    """The new version of the bundle."""
    missed_before: float
    """What prefixes miss of the scores' variance, mean over the proper prefixes: as they were."""
    missed: float
    """After the rotation."""


def nest(
    vectors: str | Path,
    out: str | Path,
    nesting: Nesting = Nesting(),
    *,
    users: str | Path | None = None,
    tiers: str | None = None,
    index: str | IndexOptions | None = None,
    stages: str | None = None,
) -> Nested:
    """Rotates item vectors so that prefixes are useful, and writes them as a bundle.

    Args:
        vectors: `.npy` of `[N, D]`; `.npz` with ids; `.parquet` with one column of lists, and one
            of ids or none.
        out: the folder of all versions.
        nesting: the method and the granularities.
        users: vectors they are searched with, in the same forms; what the rotation is learned for.
        tiers, index, stages: as in `recsys export`.

    Raises:
        DataError: a file cannot be read, or users are of another length.
        ConfigError: tiers, index, stages, sizes or seed cannot be, or there is no such method.
    """
    if nesting.method not in get_args(Method):
        raise ConfigError(f"method {nesting.method!r} is not among {get_args(Method)}")
    checked_count(nesting.seed, "the seed", least=0)
    index = IndexOptions.of(index)
    items, item_ids = _read(Path(vectors))
    dim = items.shape[1]
    queries, user_ids = (None, None) if users is None else _read(Path(users))
    if queries is not None and queries.shape[1] != dim:
        raise DataError(f"{users} has {queries.shape[1]} coordinates, {vectors} has {dim}")
    granularities = _granularities(nesting, dim)
    specs = parse_tiers(
        default_tiers(granularities, indexed=index.kind is not None) if tiers is None else tiers,
        dim,
    )
    searched = items if queries is None else queries
    rotation = _rotation(items, queries, granularities.sizes, nesting)
    additions = search_parts(specs, index, stages)
    if rotation is not None:
        additions = [_rotation_of(rotation), *additions]
    turned = items if rotation is None else rotate(items, rotation)
    turned_users = searched if rotation is None else rotate(searched, rotation)
    source = BundleSource(
        items=turned,
        item_ids=item_ids,
        sizes=granularities.sizes,
        normalize=nesting.normalize,
        users=None if user_ids is None else _users(turned_users, user_ids),
        model=_card(Path(vectors), nesting),
    )
    folder = write_bundle(Path(out), source, specs, additions=additions)
    before, after = (
        loss_of(a, b, granularities.sizes) for a, b in ((items, searched), (turned, turned_users))
    )
    return Nested(folder, before, after)


def _card(vectors: Path, nesting: Nesting) -> dict[str, Any]:
    told = {"method": nesting.method, "vectors": vectors.name, "seed": nesting.seed}
    return {"name": "nest", **told}


def _granularities(nesting: Nesting, dim: int) -> Granularities:
    chosen = tuple(nesting.sizes or [*(2**i for i in range(3, 16) if 2**i < dim), dim])
    if chosen[-1] != dim or min(chosen) < 1 or sorted(set(chosen)) != list(chosen):
        raise ConfigError(f"sizes {chosen} must ascend and end at the {dim} coordinates there are")
    return Granularities(sizes=chosen, normalize=nesting.normalize)


def _rotation(
    items: Float32, users: Float32 | None, sizes: Sequence[int], nesting: Nesting
) -> Float32 | None:
    if nesting.method == "none":
        return None
    if nesting.method == "pca":
        return principal_rotation(items)
    return learned_rotation(items, items if users is None else users, sizes, seed=nesting.seed)


def _rotation_of(rotation: Float32) -> Addition:
    def write(folder: Path, _: BundleManifest) -> dict[str, Any]:
        return {"rotation": write_array(folder, "rotation.f32", rotation)}

    return write


def _users(vectors: Float32, ids: pl.Series) -> UserSource:
    nothing = np.empty(0, np.int32)
    return UserSource(vectors, ids, nothing, np.zeros(len(vectors) + 1, np.int64))


def _read(path: Path) -> tuple[Float32, pl.Series]:
    """Vectors `[N, D]`, finite, and their ids (row numbers, where the file has none)."""
    table = read_vectors(path)
    vectors = check_matrix(table.vectors, f"vectors in {path}")
    return vectors, pl.Series(np.arange(len(vectors))) if table.ids is None else table.ids
