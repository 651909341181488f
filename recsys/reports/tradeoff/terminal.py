"""The report of a trade-off on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.console import make_console
from recsys.evaluation.tradeoff.sweep import Point
from recsys.reports.tradeoff.content import TradeoffContent
from recsys.reports.tradeoff.words import funnel_of, half_of, milliseconds, share


def print_tradeoff(content: TradeoffContent, console: Console | None = None) -> None:
    """The funnels that nothing beats, the chosen one measured once, and its command."""
    console = console or make_console()
    chosen_on, measured_on = content.parts
    title = f"{content.source}: what each byte buys, {chosen_on}"
    console.print(_table(title, content.rows(), content))
    if content.measured is not None:
        points = [content.measured.exact, *content.measured.points]
        console.print(_table(f"measured once, {measured_on}", points, content))
    console.print(
        "kept: share of exact search's, ±: half its 95 % interval, paired over users; hot B: bytes "
        "an item in memory; work: multiply-adds of exact search's; ms: of one user, alone and in a "
        f"batch of 256, in this run ({content.machine}); /2>, /4>: a half, a quarter goes on at "
        "each granularity between",
        style="dim",
        markup=False,
        highlight=False,
    )
    said = f"{content.standing} {content.headline}".strip()
    console.print(said, soft_wrap=True, markup=False, highlight=False)
    if content.ranking:
        console.print(_rankers(content))
    if content.command:
        console.print(content.command, soft_wrap=True, markup=False, highlight=False)


def _rankers(content: TradeoffContent) -> Table:
    """What `recsys rank evaluate` has kept."""
    table = Table(
        title=Text("rankers behind funnels, to dot products' order of the same candidates"),
        title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for name in ("order", "candidates"):
        table.add_column(name, overflow="fold")
    for name in ("ndcg", "to dot products"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in content.ranking:
        cells = (row.ranker, row.candidates, row.ndcg, row.beside_dot)
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _table(title: str, points: Sequence[Point], content: TradeoffContent) -> Table:
    """Exact search, then funnels; all columns fit in eighty characters."""
    table = Table(
        title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
        padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("funnel", no_wrap=True)
    for name in ("kept %", content.what, "hot B", "work", "ms", "batch"):
        table.add_column(name, justify="right", no_wrap=True)
    for place, point in enumerate(points):
        value = point.overlap if point.ndcg is None else point.ndcg
        table.add_row(
            funnel_of(point) if place else "exact, fp32",
            f"{100 * point.kept:.1f} {half_of(point)}".strip(),
            f"{value:.4f}",
            f"{point.hot_bytes:,.0f}",
            share(point.work_share),
            milliseconds(point.ms_single),
            milliseconds(point.ms_batch),
            style="bold" if point == content.chosen else None,
        )
    return table
