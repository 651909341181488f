"""Figures of a table study at every granularity.

Shape legend: N items, U users measured, D embedding_dim, S seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from recsys.arrays import Float64
from recsys.errors import DataError
from recsys.evaluation.evaluate import RankingOptions, rank_held_out
from recsys.evaluation.held_out import held_out
from recsys.evaluation.precomputed import FixedVectors, freeze_users
from recsys.evaluation.protocol import find_protocol
from recsys.granularity import Granularities
from recsys.model_protocols import VectorModel
from recsys.prefixes import truncate
from recsys.progress import console
from recsys.retrieval.codecs.registry import encode
from recsys.runs.loading import LoadedRun
from recsys.studies.report.tables import TABLE_SCHEMA
from recsys.studies.seeds import resample_figures
from recsys.studies.tables.config import DENSE, TablePlan, TableRun

METRICS = ("recall", "ndcg")
K = 10


@dataclass(frozen=True)
class TablePoint:
    """One table of one run, at one granularity."""

    label: str
    trained: bool
    """False: the dense table, compressed after training."""
    share: float
    """Of the dense bytes, that were asked for; 1 for codecs, which ask for none."""
    num_bytes: int
    dense_bytes: int
    granularity: int
    seed: int
    per_user: dict[str, Float64]
    """metric -> `[U]`."""


def table_points(folder: Path, plan: TablePlan, planned: TableRun) -> list[TablePoint]:
    """Measures one finished run; of the dense one, also what codecs make of it."""
    console.print(f"measuring {planned.run.name}")
    loaded = LoadedRun(folder / planned.run.name)
    points = list(_points_of(loaded, plan, planned, loaded.model, planned.label))
    if planned.label == DENSE:
        points += _compressed(loaded, plan, planned)
    return points


def _table_bytes(loaded: LoadedRun) -> int:
    nbytes: int = getattr(loaded.model, "table").nbytes  # noqa: B009 - not every model has one
    return nbytes


def _points_of(
    loaded: LoadedRun,
    plan: TablePlan,
    planned: TableRun,
    vectors: VectorModel,
    label: str,
    num_bytes: int | None = None,
) -> Iterator[TablePoint]:
    """One point for each granularity; `num_bytes`: what the items take, if not the table's."""
    dense = 4 * loaded.dataset.num_items * loaded.model.granularities.embedding_dim
    ranking = rank_held_out(
        vectors,
        loaded.dataset,
        loaded.split,
        part=plan.config.part,
        filter_seen=find_protocol(plan.recipe.protocol).filter_seen,
        ks=(K,),
        options=RankingOptions(label=label),
    )
    for size in ranking.sizes:
        assert size is not None  # a model of vectors
        yield TablePoint(
            label=label,
            trained=num_bytes is None,
            share=planned.share,
            num_bytes=_table_bytes(loaded) if num_bytes is None else num_bytes,
            dense_bytes=dense,
            granularity=size,
            seed=planned.run.seed,
            per_user={metric: ranking.per_user(metric, K, size) for metric in METRICS},
        )


def _compressed(loaded: LoadedRun, plan: TablePlan, planned: TableRun) -> Iterator[TablePoint]:
    """The dense table after training: by codecs, and by keeping a prefix."""
    model, granularities = loaded.model, loaded.model.granularities
    held = held_out(loaded.dataset, loaded.split, plan.config.part)
    histories = held.histories(loaded.dataset, np.arange(len(held.users)))
    users = freeze_users(model, loaded.dataset, histories)
    with torch.inference_mode():
        items = truncate(
            model.item_vectors().float(),
            granularities.embedding_dim,
            normalize=granularities.normalize,
        ).clone()
    for codec in plan.config.codecs:
        if codec == "prefix":
            yield from _prefixes(loaded, plan, planned, items, users)
            continue
        try:
            encoded = encode(items.numpy(), codec)
        except DataError as error:  # too few rows for its codebooks
            console.print(f"{codec} is left out: {error}")
            continue
        shared = sum(array.nbytes for array in encoded.shared.values())
        num_bytes = len(items) * encoded.codec.bytes_per_row(items.shape[1]) + shared
        decoded = torch.from_numpy(encoded.decode())
        vectors = FixedVectors(decoded, users, granularities)
        yield from _points_of(loaded, plan, planned, vectors, codec, num_bytes)


def _prefixes(
    loaded: LoadedRun,
    plan: TablePlan,
    planned: TableRun,
    items: torch.Tensor,
    users: torch.Tensor,
) -> Iterator[TablePoint]:
    """The nested vectors cut to each share; what is wider than that is served by all there is."""
    granularities = loaded.model.granularities
    for share in plan.config.shares:
        size = max(1, int(share * granularities.embedding_dim))
        sizes = sorted({*(s for s in granularities.sizes if s < size), size})
        vectors = FixedVectors(
            items, users, Granularities(sizes=tuple(sizes), normalize=granularities.normalize)
        )
        found = list(_points_of(loaded, plan, planned, vectors, "prefix", 4 * len(items) * size))
        for wanted in granularities.sizes:
            best = max((p for p in found if p.granularity <= wanted), key=lambda p: p.granularity,
                       default=None)  # fmt: skip
            if best is not None:
                yield TablePoint(
                    "prefix", False, share, best.num_bytes, best.dense_bytes, wanted,
                    best.seed, best.per_user,
                )  # fmt: skip


def tabulate(plan: TablePlan, points: Sequence[TablePoint]) -> pl.DataFrame:
    """Means over seeds and users, and what is kept of the dense table, with intervals."""
    groups: dict[tuple[str, bool, float, int, int], list[TablePoint]] = {}
    for point in sorted(points, key=lambda point: point.seed):
        key = (point.label, point.trained, point.share, point.num_bytes, point.granularity)
        groups.setdefault(key, []).append(point)
    places = list(groups.values())
    rows = []
    for metric in METRICS:
        values = [np.stack([each.per_user[metric] for each in found]) for found in places]
        # What is made of the same runs has their seeds.
        runs = [
            (DENSE if not found[0].trained else (found[0].label, found[0].share), len(found))
            for found in places
        ]
        resampled = resample_figures(values, runs, num_resamples=plan.config.num_resamples)
        dense = {found[0].granularity: p for p, found in enumerate(places)
                 if found[0].label == DENSE}  # fmt: skip
        for p, found in enumerate(places):
            first = found[0]
            figure = resampled.estimate(p)
            base = dense.get(first.granularity)
            kept = None if base is None else resampled.ratio(p, base)
            told = kept is not None and np.isfinite(kept.value)
            banded = kept is not None and np.isfinite(kept.low)
            rows.append(
                {
                    "table": first.label,
                    "trained": first.trained,
                    "share": first.share,
                    "bytes": first.num_bytes,
                    "byte_share": first.num_bytes / first.dense_bytes,
                    "granularity": first.granularity,
                    "metric": metric,
                    "k": K,
                    "num_seeds": len(found),
                    "num_users": values[p].shape[1],
                    "value": figure.value,
                    "low": figure.low,
                    "high": figure.high,
                    "kept": kept.value if kept and told else None,
                    "kept_low": kept.low if kept and banded else None,
                    "kept_high": kept.high if kept and banded else None,
                }
            )
    return pl.DataFrame(rows, schema=TABLE_SCHEMA)
