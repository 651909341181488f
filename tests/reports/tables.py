"""A small metric table with figures that are easy to recognize."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from recsys.evaluation.metric_table import SCHEMA, MetricTable
from recsys.evaluation.protocol import ProtocolCard
from recsys.reports.content import CURVES_SCHEMA

NESTED = {8: 0.0121, 16: 0.0257, 32: 0.0391, 64: 0.0517, 128: 0.0526, 256: 0.0531}
FLAT = {"popularity": 0.0123, "item_knn": 0.0389, "ease": 0.0445}


def card(**changes: Any) -> ProtocolCard:
    fields: dict[str, Any] = {
        "protocol": "s3rec",
        "dataset": "beauty",
        "content_hash": "5e2a" * 16,
        "filters": ("5-core",),
        "tie_rule": "given order",
        "split": "leave-last-out",
        "part": "test",
        "fit_on": "train",
        "filter_seen": True,
    }
    return ProtocolCard(**(fields | changes))


def row(
    run: str,
    granularity: int | None,
    metric: str,
    value: float,
    *,
    segment: str = "all",
    k: int = 10,
    half: float | None = 0.0012,
) -> dict[str, Any]:
    return {
        "run": run,
        "split": "test",
        "protocol": "s3rec",
        "segment": segment,
        "granularity": granularity,
        "metric": metric,
        "k": k,
        "value": value,
        "low": None if half is None else value - half,
        "high": None if half is None else value + half,
        "num_users": 22363,
    }


def model_rows(
    run: str, granularity: int | None, ndcg: float, *, half: float | None = 0.0012
) -> list[dict[str, Any]]:
    """All metrics of a run at one granularity, in fixed proportion to its ndcg@10."""
    return [
        row(run, granularity, "ndcg", ndcg, half=half),
        row(run, granularity, "recall", 1.75 * ndcg, half=half),
        row(run, granularity, "ndcg", 1.2 * ndcg, k=20, half=half),
        row(run, granularity, "recall", 2.4 * ndcg, k=20, half=half),
        row(run, granularity, "ndcg", 1.5 * ndcg, segment="head", half=half),
        row(run, granularity, "ndcg", 0.4 * ndcg, segment="tail", half=half),
        row(run, granularity, "coverage", 8 * ndcg, half=None),
        row(run, granularity, "gini", 1 - 8 * ndcg, half=None),
        row(run, granularity, "novelty", 9.876, half=None),
    ]


def make_table(rows: Sequence[dict[str, Any]], **changes: Any) -> MetricTable:
    return MetricTable(card(**changes), pl.DataFrame(rows, schema=SCHEMA))


def full_table(run: str = "sasrec") -> MetricTable:
    """A nested run and three baselines."""
    rows = [r for size, ndcg in NESTED.items() for r in model_rows(run, size, ndcg)]
    rows += [r for name, ndcg in FLAT.items() for r in model_rows(name, None, ndcg)]
    return make_table(rows)


def curves(num_epochs: int = 12, steps: int = 20) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for epoch in range(num_epochs):
        for step in range(epoch * steps, (epoch + 1) * steps):
            loss = 6 + 3 / (1 + step / 30) + 0.15 * ((step * 7919) % 13 - 6) / 6
            rows.append({"epoch": epoch, "step": step, "loss": loss, "seconds": float(step)})
        for size, ndcg in NESTED.items():
            value = 1.1 * ndcg * (1 - 0.75 ** (epoch + 1))
            rows.append({"epoch": epoch, "granularity": size, "metric": "ndcg@10", "value": value})
    return pl.DataFrame(rows, schema=CURVES_SCHEMA)
