"""Figures of results files, out of what the verbs show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from recsys.errors import RunError
from recsys.evaluation.metric_table import MetricTable
from recsys.evaluation.protocol import find_protocol
from recsys.evaluation.tradeoff.sweep import Point
from recsys.reports.content import ALWAYS_SHOWN, View
from recsys.reports.results.record import Figure
from recsys.reports.tradeoff.bits import BitsContent, MeasuredTiers
from recsys.reports.tradeoff.content import TradeoffContent
from recsys.reports.view import Line

SEGMENTS = ("cold", "warm")


def table_rows(table: MetricTable, metrics: Sequence[str] = ()) -> list[Figure]:
    """Recall, NDCG and `metrics` at the protocol's cutoff, NDCG of cold and warm targets, what each
    vector keeps.
    """
    cutoff = find_protocol(table.card.protocol).k
    view = View(table, None, (*ALWAYS_SHOWN, *metrics), (cutoff,))
    return [figure for line in view.lines for figure in _line_rows(view, line)]


def _line_rows(view: View, line: Line) -> Iterator[Figure]:
    place = {"name": line.run, "granularity": line.granularity}
    segments = [column for column in view.second_columns if column.segment in SEGMENTS]
    for column in [*view.columns, *segments]:
        if column in line.cells:
            value, low, high = line.cells[column]
            yield Figure(**place, metric=column.label, value=value, low=low, high=high)
    if line.retention is not None:
        low, high = (None, None) if line.is_full else line.band or (None, None)
        kept = {"value": line.retention, "low": low, "high": high}
        yield Figure(**place, metric="keeps", unit="share", **kept)
    if line.num_bytes is not None:
        yield Figure(**place, metric="bytes", unit="bytes", value=line.num_bytes)


def tradeoff_rows(content: TradeoffContent) -> list[Figure]:
    """Exact search and the chosen funnel, as measured once.

    Raises:
        RunError: no funnel was chosen.
    """
    if content.measured is None:
        raise RunError(
            "no funnel of this sweep keeps what was asked for, so there is none to keep in a "
            "results file; ask for less with --keep-ndcg, or sweep other funnels"
        )
    points = [content.measured.exact, *content.measured.points]
    names = ["exact search", *map(_funnel_name, content.measured.points)]
    k = content.measured.k
    return [f for name, p in zip(names, points, strict=True) for f in _point_rows(name, p, k)]


def _funnel_name(point: Point) -> str:
    candidates = f"{point.granularity} in {point.codec} ({point.index})"
    return f"{candidates}, {point.keep} ranked by {point.ranking}"


def _point_rows(name: str, point: Point, k: int) -> Iterator[Figure]:
    if point.ndcg is not None:
        yield Figure(name=name, metric=f"ndcg@{k}", value=point.ndcg)
    kept = {"value": point.kept, "low": point.kept_low, "high": point.kept_high}
    yield Figure(name=name, metric="keeps", unit="share", **kept)
    yield Figure(name=name, metric="bytes in memory", unit="bytes", value=point.hot_bytes)
    yield Figure(name=name, metric="bytes mapped", unit="bytes", value=point.cold_bytes)
    yield Figure(name=name, metric="multiply-adds", unit="count", value=point.multiply_adds)


def bits_rows(content: BitsContent) -> list[Figure]:
    """The split of every budget, and the best single codec within the same bytes."""
    return [
        figure
        for row in content.rows
        for what, found, reached in (
            ("split", row.bought.split, row.split),
            ("single codec", row.bought.single, row.single),
        )
        for figure in _split_rows(f"{row.bought.budget:g} bytes, {what}", found.nbytes, reached)
    ]


def _split_rows(name: str, nbytes: float, reached: MeasuredTiers) -> Iterator[Figure]:
    funnel = reached.funnel
    kept = {"value": funnel.kept, "low": funnel.kept_low, "high": funnel.kept_high}
    yield Figure(name=name, metric="bytes in memory", unit="bytes", value=nbytes)
    yield Figure(name=name, metric="candidates", value=reached.recall)
    yield Figure(name=name, metric="same", value=funnel.overlap)
    yield Figure(name=name, metric="keeps", unit="share", **kept)
