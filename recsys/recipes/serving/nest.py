"""`recsys nest`: vectors from elsewhere, made nested by a rotation, become a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from recsys.data.reading.ids import read_ids
from recsys.errors import ConfigError, DataError
from recsys.granularity import Granularities
from recsys.recipes.serving.export import default_tiers, indexing
from recsys.retrieval.bundle.manifest import BundleManifest
from recsys.retrieval.bundle.tier_writing import write_array
from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.writing import Addition, BundleSource, UserSource, write_bundle
from recsys.retrieval.checks import checked_count
from recsys.retrieval.codecs.by_name import Float32, check_matrix
from recsys.retrieval.rotation import learned_rotation, loss_of, principal_rotation, rotate

Method = Literal["pca", "learned", "none"]


@dataclass(frozen=True)
class Nested:
    """What became of the vectors."""

    folder: Path
    """The new version of the bundle."""
    missed_before: float
    """What prefixes miss of the scores' variance, mean over the proper prefixes: as they were."""
    missed: float
    """After the rotation."""


def nest(
    vectors: str | Path,
    out: str | Path,
    *,
    users: str | Path | None = None,
    method: Method = "learned",
    sizes: Sequence[int] | None = None,
    normalize: bool = False,
    tiers: str | None = None,
    index: str | None = None,
    recall: float = 0.99,
    stages: str | None = None,
    seed: int = 0,
) -> Nested:
    """Rotates item vectors so that prefixes are useful, and writes them as a bundle.

    Args:
        vectors: `.npy` of `[N, D]`, or `.parquet` with one column of lists, and one of ids or none.
        out: the folder of all versions.
        users: vectors they are searched with, in the same forms; what the rotation is learned for.
        method: `pca`; `learned`: also from what users tell of scores; `none`: as they are.
        sizes: granularities; None: powers of two from 8, and D.
        normalize: scores are cosines.
        tiers, index, recall, stages: as in `recsys export`.
        seed: of the samples the rotation is learned from.

    Raises:
        DataError: a file cannot be read, or users are of another length.
        ConfigError: tiers, index, stages, sizes or seed cannot be, or there is no such method.
    """
    if method not in get_args(Method):
        raise ConfigError(f"method {method!r} is not among {get_args(Method)}")
    checked_count(seed, "the seed", least=0)
    items, item_ids = read_vectors(Path(vectors))
    dim = items.shape[1]
    queries, user_ids = (None, None) if users is None else read_vectors(Path(users))
    if queries is not None and queries.shape[1] != dim:
        raise DataError(f"{users} has {queries.shape[1]} coordinates, {vectors} has {dim}")
    granularities = _granularities(sizes, dim, normalize)
    specs = parse_tiers(
        default_tiers(granularities, indexed=index is not None) if tiers is None else tiers, dim
    )
    searched = items if queries is None else queries
    rotation = _rotation(items, queries, granularities.sizes, method, seed)
    additions = indexing(specs, index, recall, stages)
    if rotation is not None:
        additions = [_rotation_of(rotation), *additions]
    turned = items if rotation is None else rotate(items, rotation)
    turned_users = searched if rotation is None else rotate(searched, rotation)
    source = BundleSource(
        items=turned,
        item_ids=item_ids,
        sizes=granularities.sizes,
        normalize=normalize,
        users=None if user_ids is None else _users(turned_users, user_ids),
        model={"name": "nest", "method": method, "vectors": Path(vectors).name, "seed": seed},
    )
    folder = write_bundle(Path(out), source, specs, additions=additions)
    before, after = (
        loss_of(a, b, granularities.sizes) for a, b in ((items, searched), (turned, turned_users))
    )
    return Nested(folder, before, after)


def _granularities(sizes: Sequence[int] | None, dim: int, normalize: bool) -> Granularities:
    chosen = tuple(sizes or [*(2**i for i in range(3, 16) if 2**i < dim), dim])
    if chosen[-1] != dim or min(chosen) < 1 or sorted(set(chosen)) != list(chosen):
        raise ConfigError(f"sizes {chosen} must ascend and end at the {dim} coordinates there are")
    return Granularities(sizes=chosen, normalize=normalize)


def _rotation(
    items: Float32, users: Float32 | None, sizes: Sequence[int], method: Method, seed: int
) -> Float32 | None:
    if method == "none":
        return None
    if method == "pca":
        return principal_rotation(items)
    return learned_rotation(items, items if users is None else users, sizes, seed=seed)


def _rotation_of(rotation: Float32) -> Addition:
    def write(folder: Path, _: BundleManifest) -> dict[str, Any]:
        return {"rotation": write_array(folder, "rotation.f32", rotation)}

    return write


def _users(vectors: Float32, ids: pl.Series) -> UserSource:
    nothing = np.empty(0, np.int32)
    return UserSource(vectors, ids, nothing, np.zeros(len(vectors) + 1, np.int64))


def read_vectors(path: Path) -> tuple[Float32, pl.Series]:
    """Vectors `[N, D]` and their ids (row numbers, where the file has none).

    Raises:
        DataError: the file is absent, of another kind, or holds no matrix of finite numbers.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    if path.suffix == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"{path} is no array of numbers ({error})") from error
        if array.dtype.kind != "f":
            raise DataError(f"{path} holds {array.dtype}; floating point is expected")
        return check_matrix(array, str(path)), _row_numbers(len(array))
    if path.suffix == ".parquet":
        return _read_parquet(path)
    raise DataError(f"{path} is neither .npy nor .parquet")


def _read_parquet(path: Path) -> tuple[Float32, pl.Series]:
    try:
        frame = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error})") from error
    lists = [name for name, kind in frame.schema.items() if isinstance(kind, (pl.List, pl.Array))]
    others = [name for name in frame.columns if name not in lists]
    if len(lists) != 1 or len(others) > 1:
        raise DataError(
            f"{path} has the columns {frame.columns}; one of lists of numbers, and one of ids or "
            "none, are expected"
        )
    column = frame[lists[0]]
    lengths = column.list.len() if isinstance(column.dtype, pl.List) else column.arr.len()
    if column.null_count() or lengths.n_unique() != 1:
        raise DataError(f"column {lists[0]} of {path} has lists of different lengths, or none")
    numbers = column.explode()
    if not numbers.dtype.is_numeric():
        raise DataError(f"column {lists[0]} of {path} has lists of {numbers.dtype}, not of numbers")
    vectors = check_matrix(numbers.cast(pl.Float32).to_numpy().reshape(len(frame), -1), str(path))
    return vectors, _checked_ids(frame, others[0], path) if others else _row_numbers(len(frame))


def _row_numbers(count: int) -> pl.Series:
    return pl.Series(np.arange(count))


def _checked_ids(frame: pl.DataFrame, name: str, path: Path) -> pl.Series:
    """The ids, if each stands for one row."""
    ids = frame[name]
    text = read_ids(ids, f"{path}: column {name}").text
    ids = ids if ids.dtype.is_integer() else text
    if ids.null_count():
        raise DataError(f"column {name} of {path} has {ids.null_count():,} rows without an id")
    if ids.n_unique() != len(ids):
        twice = ids.filter(ids.is_duplicated())
        raise DataError(
            f"column {name} of {path} names {twice.n_unique():,} ids more than once, such as "
            f"{twice[0]!r}; leave one row of each"
        )
    return ids
