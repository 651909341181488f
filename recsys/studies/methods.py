"""Methods of a study: transformations of trained vectors, and their bytes for each item.

Items are compressed as they are served (each prefix divided by its norm, where the model ranks by
cosine); users stay float32. Where a method has its own coordinates, users are mapped to them. What
comes out is ranked by dot product, by the evaluator that measures everything else. Users of several
vectors are taken as they ask: each of them of length 1 where the model ranks by cosine.

Shape legend: N items, U users, K interests of a user, D full width, d coordinates kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from recsys.errors import ConfigError
from recsys.evaluation.precomputed import FixedVectors
from recsys.granularity import Granularities
from recsys.prefixes import truncate
from recsys.retrieval.codecs.registry import encode
from recsys.studies.controls.reduction import Reduction, pca, random_projection, score_svd
from recsys.studies.controls.sparse_codes import MAX_ATOMS, fit_sparse_codes

FLOAT_BYTES = 4
Source = Literal["nested", "separate", "full"]
"""The nested model; a model of its own at each width; the un-nested model of full width."""


@dataclass(frozen=True)
class Point:
    """One point of a method: the stored form of an item, and its bytes."""

    granularity: int
    """Coordinates of the vector that is stored (of the decoded one, where that is not a prefix)."""
    num_bytes: int
    """Of one item."""
    shared_bytes: int = 0
    """Stored once beside all items: codebooks, atoms, the map of the user vectors."""
    trained: bool = True
    """False: a prefix of a nested model that no loss has ever looked at."""
    setting: str = ""
    """`pq16`, `8 of 1024`."""


@dataclass(frozen=True)
class Variant:
    """Vectors to be ranked in one pass, and the point of each of their granularities."""

    points: tuple[Point, ...]
    vectors: FixedVectors


@dataclass(frozen=True)
class Trained:
    """The input of a method: the vectors of a trained run."""

    items: Tensor
    """`[N, D]`."""
    users: Tensor
    """`[U, D]` of the part that is measured; `[U, K, D]` of several interests."""
    fitted_users: Callable[[], Tensor]
    """`[U, D]` of the rows the run was fitted on, or `[U, K, D]`."""
    normalize: bool
    sizes: tuple[int, ...]
    """The granularities of the study."""
    between: tuple[int, ...]
    budgets: tuple[int, ...]
    """Bytes of an item that codes without coordinates shall take."""
    seed: int
    sparse_atoms: int

    @property
    def all_sizes(self) -> tuple[int, ...]:
        """Trained and in-between widths up to D, ascending."""
        dim = self.items.shape[1]
        return tuple(size for size in sorted({*self.sizes, *self.between}) if size <= dim)

    def served(self, size: int) -> Tensor:
        """Item prefixes `[N, size]` whose dot products rank as the model does."""
        return truncate(self.items, size, normalize=self.normalize)

    @property
    def centred(self) -> bool:
        """Whether items may be moved by what all share: of one vector a user, no order changes."""
        return self.users.dim() == 2

    def asking(self, users: Tensor, size: int) -> Tensor:
        """User prefixes `[U, size]` or `[U, K, size]` whose products with `served` are scores."""
        return truncate(users, size, normalize=self.normalize and not self.centred)


Variants = Iterator[Variant]


def _prefixes(run: Trained, *, nested: bool) -> Variants:
    """Prefixes as they are, each normalised by itself where the model ranks by cosine."""
    sizes = run.all_sizes
    points = tuple(
        Point(size, FLOAT_BYTES * size, trained=size in run.sizes or not nested) for size in sizes
    )
    granularities = Granularities(sizes=sizes, normalize=run.normalize)
    yield Variant(points, FixedVectors(run.items, run.users, granularities))


def _whole(run: Trained) -> Variants:
    dim = run.items.shape[1]
    granularities = Granularities(sizes=(dim,), normalize=run.normalize)
    vectors = FixedVectors(run.items, run.users, granularities)
    yield Variant((Point(dim, FLOAT_BYTES * dim),), vectors)


def _reduced(run: Trained, reduction: Reduction) -> Variants:
    sizes = run.all_sizes
    points = tuple(Point(size, FLOAT_BYTES * size, _map_bytes(run, size)) for size in sizes)
    users = run.asking(run.users, run.items.shape[1]) @ reduction.user_map
    yield Variant(points, FixedVectors(reduction.items, users, Granularities(sizes=sizes)))


def _map_bytes(run: Trained, size: int) -> int:
    return FLOAT_BYTES * run.items.shape[1] * size


def _pca_of(run: Trained) -> Reduction:
    return pca(run.served(run.items.shape[1]), centred=run.centred)


def _svd_of(run: Trained) -> Reduction:
    dim = run.items.shape[1]
    users = run.asking(run.fitted_users(), dim).reshape(-1, dim)
    return score_svd(run.served(dim), users, centred=run.centred)


def _projection(run: Trained) -> Variants:
    yield from _reduced(run, random_projection(run.served(run.items.shape[1]), run.seed))


def _coded(items: Tensor, users: Tensor, codec: str, map_bytes: int = 0) -> Variant:
    """`items [N, d]` as a codec gives them back, for `users [U, d]` or `[U, K, d]`."""
    encoded, dim = encode(items.numpy(), codec), items.shape[1]
    shared = sum(array.nbytes for array in encoded.shared.values()) + map_bytes
    setting = "" if codec.startswith("int") else codec
    point = Point(dim, encoded.codec.bytes_per_row(dim), shared, setting=setting)
    decoded = torch.from_numpy(encoded.decode())
    return Variant((point,), FixedVectors(decoded, users, Granularities(sizes=(dim,))))


def _full_coded(run: Trained, codec: str) -> Variants:
    dim = run.items.shape[1]
    yield _coded(run.served(dim), run.asking(run.users, dim), codec)


def _prefixes_coded(run: Trained, codec: str) -> Variants:
    for size in run.sizes:
        yield _coded(run.served(size), run.asking(run.users, size), codec)


def _reduced_int8(run: Trained, reduction: Reduction) -> Variants:
    """Coordinates in the order of worth differ much in size, so each has a scale of its own."""
    users = run.asking(run.users, run.items.shape[1]) @ reduction.user_map
    for size in run.sizes:
        items = reduction.items[:, :size]
        yield _coded(items, users[..., :size], "int8-coordinate", _map_bytes(run, size))


def _product(run: Trained) -> Variants:
    """The full width in as many bytes as the budgets, as far as they cut it into equal parts."""
    dim = run.items.shape[1]
    for budget in run.budgets:
        if budget < dim and dim % budget == 0:
            yield _coded(run.served(dim), run.asking(run.users, dim), f"pq{budget}")


def _sparse(run: Trained) -> Variants:
    """Codes of budget / 4 atoms, up to a quarter of the full width: denser ones save little."""
    items = run.served(run.items.shape[1])
    num_items, dim = items.shape
    num_atoms = max(2, min(run.sparse_atoms * dim, num_items // 8, MAX_ATOMS))
    for k in (budget // FLOAT_BYTES for budget in run.budgets):
        if 1 <= k <= min(dim // 4, num_atoms):
            codes = fit_sparse_codes(items, k, num_atoms, run.seed, centred=run.centred)
            shared = FLOAT_BYTES * codes.atoms.numel()
            point = Point(dim, codes.bytes_per_row, shared, setting=f"{k} of {num_atoms}")
            users = run.asking(run.users, dim)
            vectors = FixedVectors(codes.decode(), users, Granularities(sizes=(dim,)))
            yield Variant((point,), vectors)


@dataclass(frozen=True)
class Method:
    """A method of a study: one line of its plot."""

    label: str
    source: Source
    make: Callable[[Trained], Variants]


METHODS: dict[str, Method] = {
    "nested": Method("nested", "nested", lambda run: _prefixes(run, nested=True)),
    "nested_int8": Method("nested + int8", "nested", lambda run: _prefixes_coded(run, "int8")),
    "nested_int4": Method("nested + int4", "nested", lambda run: _prefixes_coded(run, "int4")),
    "nested_pq": Method("nested + PQ", "nested", _product),
    "separate": Method("trained separately", "separate", _whole),
    "truncation": Method("truncation", "full", lambda run: _prefixes(run, nested=False)),
    "pca": Method("PCA", "full", lambda run: _reduced(run, _pca_of(run))),
    "svd": Method("SVD of scores", "full", lambda run: _reduced(run, _svd_of(run))),
    "projection": Method("random projection", "full", _projection),
    "int8": Method("int8", "full", lambda run: _full_coded(run, "int8")),
    "int4": Method("int4", "full", lambda run: _full_coded(run, "int4")),
    "pca_int8": Method("PCA + int8", "full", lambda run: _reduced_int8(run, _pca_of(run))),
    "svd_int8": Method("SVD + int8", "full", lambda run: _reduced_int8(run, _svd_of(run))),
    "pq": Method("PQ", "full", _product),
    "sparse": Method("sparse codes", "full", _sparse),
}
"""Every method by name, in the order of tables."""


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in METHODS:
        raise ConfigError(f"method {name!r} is not among {', '.join(METHODS)}")
    return METHODS[name]
