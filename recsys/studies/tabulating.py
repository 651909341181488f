"""Tables of a study from its measurements."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import Float64
from recsys.studies.config import Plan
from recsys.studies.measuring import Measurement
from recsys.studies.methods import METHODS, Point
from recsys.studies.report.content import MEAN, RETENTION, SHOWN, SUMMARY_SCHEMA, VERSUS_SEPARATE
from recsys.studies.seeds import Estimate, SeededFigures, resample_figures

SEED_SCHEMA = {
    "method": pl.String,
    "granularity": pl.Int64,
    "setting": pl.String,
    "trained": pl.Boolean,
    "bytes": pl.Int64,
    "shared_bytes": pl.Int64,
    "seed": pl.Int64,
    "metric": pl.String,
    "k": pl.Int64,
    "value": pl.Float64,
}


def seed_rows(plan: Plan, measurements: Sequence[Measurement]) -> pl.DataFrame:
    """Every figure of every seed, in long form."""
    rows = [
        {
            **_describe(each.method, point),
            "seed": each.run.seed,
            "metric": metric,
            "k": k,
            "value": float(each.per_user(p, metric, k).mean()),
        }
        for each in measurements
        for p, point in enumerate(each.points)
        for metric in _metrics(plan)
        for k in plan.config.ks
    ]
    return pl.DataFrame(rows, schema=SEED_SCHEMA)


def _metrics(plan: Plan) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*SHOWN, *plan.config.metrics]))


def _describe(method: str, point: Point) -> dict[str, Any]:
    return {
        "method": method,
        "granularity": point.granularity,
        "setting": point.setting,
        "trained": point.trained,
        "bytes": point.num_bytes,
        "shared_bytes": point.shared_bytes,
    }


@dataclass(frozen=True)
class _Figure:
    """One point of a method over the seeds it has been measured with."""

    method: str
    point: Point
    width: int | None
    """Of the runs it comes from; None: the nested ones."""
    places: tuple[tuple[Measurement, int], ...]
    """The measurement of each seed and the place of the point in it, in the order of seeds."""

    @property
    def runs(self) -> Hashable:
        """Equal for figures of the very same runs."""
        return self.width, tuple(each.run.seed for each, _ in self.places)

    def values(self, metric: str, k: int) -> Float64:
        """`[S, U]`."""
        return np.stack([each.per_user(p, metric, k) for each, p in self.places])


def summarize(plan: Plan, measurements: Sequence[Measurement]) -> pl.DataFrame:
    """Means, shares of the full width, and nested against separate, each with its interval.

    Columns of `SUMMARY_SCHEMA`. How intervals are made: `recsys.studies.seeds`.
    """
    figures = _figures(measurements)
    if not figures:
        return pl.DataFrame(schema=SUMMARY_SCHEMA)
    rows: list[dict[str, Any]] = []
    for metric in _metrics(plan):
        for k in plan.config.ks:
            resampled = resample_figures(
                [figure.values(metric, k) for figure in figures],
                [figure.runs for figure in figures],
                num_resamples=plan.config.num_resamples,
            )
            keys = {"metric": metric, "k": k}
            rows += [keys | row for row in _rows(plan, figures, resampled)]
    return pl.DataFrame(rows, schema=SUMMARY_SCHEMA)


def _figures(measurements: Sequence[Measurement]) -> list[_Figure]:
    """In the order of METHODS, then of bytes."""
    places: dict[tuple[str, Point, int | None], list[tuple[Measurement, int]]] = {}
    for each in sorted(measurements, key=lambda each: each.run.seed):
        for p, point in enumerate(each.points):
            places.setdefault((each.method, point, each.run.width), []).append((each, p))
    order = list(METHODS)
    figures = [_Figure(*key, tuple(found)) for key, found in places.items()]
    return sorted(figures, key=lambda figure: (order.index(figure.method), figure.point.num_bytes))


def _rows(plan: Plan, figures: list[_Figure], resampled: SeededFigures) -> list[dict[str, Any]]:
    whole = {
        figure.method: p
        for p, figure in enumerate(figures)
        if figure.point.granularity == plan.full and figure.method in ("nested", "separate")
    }
    separate = {
        figure.point.granularity: p
        for p, figure in enumerate(figures)
        if figure.method == "separate"
    }
    rows = []
    for p, figure in enumerate(figures):
        rows.append(_row(MEAN, figure, resampled.estimate(p)))
        base = whole.get("nested" if METHODS[figure.method].source == "nested" else "separate")
        if base is not None:
            rows.append(_row(RETENTION, figure, resampled.ratio(p, base)))
        rival = separate.get(figure.point.granularity)
        if figure.method == "nested" and rival is not None:
            rows.append(_row(VERSUS_SEPARATE, figure, resampled.ratio(p, rival)))
    return rows


def _row(what: str, figure: _Figure, estimate: Estimate) -> dict[str, Any]:
    values = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {
        "figure": what,
        **_describe(figure.method, figure.point),
        "num_seeds": len(figure.places),
        "num_users": len(figure.places[0][0].offsets) - 1,
        **{key: value if np.isfinite(value) else None for key, value in values.items()},
    }
