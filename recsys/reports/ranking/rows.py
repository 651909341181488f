"""Figures of results files, out of the ranking stage's table."""

from __future__ import annotations

from collections.abc import Iterator

from recsys.evaluation.bootstrap import PairedDifference
from recsys.reports.ranking.content import RankedRow, RankingContent
from recsys.reports.results.record import Figure


def ranking_rows(content: RankingContent) -> list[Figure]:
    """Ndcg of every row, what it is of its candidates' own order and of exact search, and work."""
    return [figure for row in content.rows for figure in _figures(row, content.k)]


def _figures(row: RankedRow, k: int) -> Iterator[Figure]:
    name = row.name if row.reached is None else f"{row.name}, {row.candidates}"
    yield Figure(name=name, metric=f"ndcg@{k}", value=row.ndcg)
    yield Figure(name=name, metric=f"recall@{k}", value=row.recall)
    if row.reached is not None:
        yield Figure(name=name, metric="candidates", value=row.reached)
    for what, beside in (("of dot", row.beside_dot), ("of exact", row.beside_exact)):
        if beside is not None:
            yield _share(name, what, beside)
    yield Figure(name=name, metric="multiply-adds", unit="count", value=row.multiply_adds)


def _share(name: str, metric: str, beside: PairedDifference) -> Figure:
    nan = beside.ratio_low != beside.ratio_low
    return Figure(
        name=name,
        metric=metric,
        unit="share",
        value=beside.ratio,
        low=None if nan else beside.ratio_low,
        high=None if nan else beside.ratio_high,
    )
