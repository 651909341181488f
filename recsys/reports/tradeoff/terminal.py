"""A trade-off on a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from recsys.console import make_console
from recsys.reports.tradeoff.page import TradeoffContent
from recsys.reports.tradeoff.words import funnel_of, milliseconds, share


def print_tradeoff(content: TradeoffContent, console: Console | None = None) -> None:
    """The funnels that nothing beats, what they cost, and the command of the chosen one."""
    console = console or make_console()
    title = f"{content.source}: what each byte buys"
    # With this padding all columns fit in eighty characters.
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("funnel", no_wrap=True)
    for name in ("kept", content.what, "hot B", "of it", "work", "ms", "batch"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in content.rows():
        exact = point is content.found.exact
        funnel = "exact, fp32" if exact else funnel_of(point)
        value = point.overlap if point.ndcg is None else point.ndcg
        table.add_row(
            funnel,
            f"{point.kept:.1%}",
            f"{value:.4f}",
            f"{point.hot_bytes:,.0f}",
            share(point.hot_share),
            share(point.work_share),
            milliseconds(point.ms_single),
            milliseconds(point.ms_batch),
            style="bold" if point == content.chosen else None,
        )
    console.print(table)
    console.print(
        "kept: share of exact search's; hot B: bytes an item in memory, of it: of the full fp32 "
        "vectors; work: multiply-adds of exact search's; ms: of one user, alone and in a batch of "
        f"256, in this run ({content.machine}); /2>, /4>: a half, a quarter goes on at each "
        "granularity between",
        style="dim",
    )
    console.print(content.headline, soft_wrap=True)
    if content.command:
        console.print(content.command, soft_wrap=True, markup=False, highlight=False)
