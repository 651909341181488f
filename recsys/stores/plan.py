"""The plan of a push: which vectors of a bundle go to a store, and what their scores mean.

Every item goes with two vectors: `prefix`, by which candidates are found, and `full`, by which they
are ranked. Where the bundle scores by cosine, each of the two is divided by its own norm. So the
score of a stage is a plain dot product in every store, and the user's vector goes as it is.

Shape legend: N items, n rows of a block, d coordinates of the prefix, D of the full vector.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from recsys.arrays import Float32
from recsys.errors import ConfigError, DataError
from recsys.retrieval.bundle.loading import Bundle
from recsys.retrieval.bundle.manifest import REMEDY, SEAL
from recsys.retrieval.codecs.base import blocks_of
from recsys.retrieval.funnel import Stage, parse_stages

IndexKind = Literal["exact", "hnsw"]
BATCH = 1000
"""Rows that are written, and acknowledged, at once. One number: a push resumes by counting rows."""

OWN = ("item_index", "item_id", "prefix", "full", "score", "distance", "version")
_SHORTEST, _KEEP = 32, 200


@dataclass(frozen=True)
class Rows:
    """A block of items, in the order of their indices."""

    lo: int
    """Index of the first."""
    items: pl.DataFrame
    """item_index, item_id, and the columns that the bundle tells of items."""
    prefix: Float32
    """`[n, d]`."""
    full: Float32
    """`[n, D]`."""


@dataclass(frozen=True)
class Plan:
    """What is pushed, and how it is asked for."""

    candidates: Stage
    """The prefix, and how many candidates it gives."""
    full: int
    """D, the granularity that ranks them."""
    index: IndexKind
    """How a store finds candidates: by all prefixes, or by a graph over them."""
    metric: str
    """Of the bundle: dot or cosine."""
    lengths: tuple[float, float]
    """The largest norms of `prefix` and of `full` as they are pushed."""
    source: str
    """The bundle's own sum, and with it every byte of the vectors."""
    items: pl.DataFrame = field(repr=False, compare=False)
    """`[N]` rows: item_index, item_id, columns."""

    @property
    def prefix(self) -> int:
        """Coordinates of the prefix: d."""
        return self.candidates.granularity

    @property
    def keep(self) -> int:
        """How many candidates are ranked."""
        return self.candidates.keep

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.items)

    @property
    def integer_ids(self) -> bool:
        """Whether external ids are whole numbers; else they are text."""
        return self.items["item_id"].dtype.is_integer()

    @cached_property
    def columns(self) -> list[str]:
        """Names of what is told of items beside their ids."""
        return [name for name in self.items.columns if name not in OWN]

    @cached_property
    def plain(self) -> pl.DataFrame:
        """`items` for tables: text, Int64, Float64 and Boolean alone; lists become JSON text."""
        return self.items.with_columns(
            _plain(self.items[name]) for name in ("item_id", *self.columns)
        )

    def card(self) -> dict[str, Any]:
        """What an export states of itself, as JSON."""
        return {
            "bundle_sha256": self.source,
            "items": self.num_items,
            "bundle_metric": self.metric,
            "scores": "dot product of the user vector with `full`",
            "vectors_divided_by_their_own_norms": self.metric == "cosine",
            "prefix": self.prefix,
            "candidates": self.keep,
            "full": self.full,
            "index": self.index,
            "largest_norms": list(self.lengths),
            "columns": self.columns,
        }

    @cached_property
    def digest(self) -> str:
        """12 hexadecimal digits that name this content: equal for the same bundle and options."""
        text = json.dumps(self.card(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def make_plan(bundle: Bundle, stages: str | None = None, index: str = "exact") -> Plan:
    """The plan for a bundle.

    Args:
        bundle: an opened one.
        stages: `32:200,256`, two of them; None: the first and the last of the bundle's own.
        index: exact or hnsw.

    Raises:
        ConfigError: the stages are not two, or the index is none of these.
        GranularityError: a stage is not among the bundle's sizes.
        DataError: an id stands for two items, or a column has the name of one of ours.
    """
    if index not in get_args(IndexKind):
        raise ConfigError(f"index {index!r} is not among {get_args(IndexKind)}")
    first, last = _two_stages(bundle, stages)
    return Plan(
        candidates=first,
        full=last,
        index=index,  # type: ignore[arg-type]
        metric=bundle.manifest.metric,
        lengths=(_largest_norm(bundle, first.granularity), _largest_norm(bundle, last)),
        source=(bundle.folder / SEAL).read_text("ascii")[:64],
        items=_items_of(bundle),
    )


def rows_of(bundle: Bundle, plan: Plan, first: int = 0) -> Iterator[Rows]:
    """The rows to push, from row `first` on, in blocks of `BATCH`."""
    for block in blocks_of(plan.num_items - first, BATCH):
        rows = slice(first + block.start, first + block.stop)
        yield Rows(
            lo=rows.start,
            items=plan.items[rows],
            prefix=_pushed(bundle, rows, plan.prefix),
            full=_pushed(bundle, rows, plan.full),
        )


def quoted(column: str) -> str:
    """The name of a column as SQL has it."""
    return '"' + column.replace('"', '""') + '"'


def _plain(values: pl.Series) -> pl.Series:
    kind = values.dtype
    if kind.is_nested():
        texts = (None if v is None else json.dumps(v, ensure_ascii=False) for v in values.to_list())
        return pl.Series(values.name, list(texts), pl.String)
    if kind.is_integer():
        return values.cast(pl.Int64)
    if kind.is_float() or kind.is_decimal():
        return values.cast(pl.Float64)
    return values if kind == pl.Boolean else values.cast(pl.String)


def _two_stages(bundle: Bundle, stages: str | None) -> tuple[Stage, int]:
    if stages is None and bundle.manifest.stages is not None:
        parsed = parse_stages(bundle.manifest.stages, _KEEP)
        if len(parsed) > 1 and parsed[0].granularity < parsed[-1].granularity:
            return parsed[0], parsed[-1].granularity
    if stages is None:
        shorter = [size for size in bundle.sizes if size < bundle.dim]
        if not shorter:
            raise ConfigError(
                f"{bundle.folder} has the granularity {bundle.dim} alone, and candidates are found "
                "by a shorter one; export it again with a tier that ends there "
                f"(--tiers 0:{bundle.dim // 2}:...)"
            )
        size = next((size for size in shorter if size >= _SHORTEST), shorter[-1])
        return Stage(size, _KEEP), bundle.dim
    parsed = parse_stages(stages, 1)
    if len(parsed) != 2 or parsed[0].granularity >= parsed[1].granularity or parsed[0].keep < 1:
        raise ConfigError(
            f"a store searches in two stages, a shorter prefix first: 32:200,256; {stages!r} given"
        )
    for stage in parsed:
        bundle.check_size(stage.granularity)
    return parsed[0], parsed[1].granularity


def _items_of(bundle: Bundle) -> pl.DataFrame:
    items = bundle.ids("item").select("item_index", "item_id").sort("item_index")
    if items["item_id"].n_unique() != bundle.num_items:
        raise DataError(f"an item id of {bundle.folder} occurs twice; {REMEDY}")
    told = getattr(bundle, "columns", None)  # a bundle of an earlier version tells nothing
    told = told() if callable(told) else told
    if not isinstance(told, pl.DataFrame) or not told.width:
        return items
    told = told.drop("item_index", "item_id", strict=False)
    if clash := sorted(set(told.columns) & set(OWN)):
        raise DataError(f"columns of items are named as ours: {clash}; export them by other names")
    return pl.concat([items, told], how="horizontal")


def _pushed(bundle: Bundle, rows: slice, size: int) -> Float32:
    """`[n, size]` vectors whose dot products with users are the bundle's scores."""
    vectors = bundle.items.decode(rows, 0, size).astype(np.float32)
    norms = bundle.norms(size)
    return vectors if norms is None else vectors / np.asarray(norms[rows])[:, None]


def _largest_norm(bundle: Bundle, size: int) -> float:
    blocks = (_pushed(bundle, rows, size) for rows in blocks_of(bundle.num_items))
    return max((float(np.linalg.norm(block, axis=1).max()) for block in blocks), default=0.0)
