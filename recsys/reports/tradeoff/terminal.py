"""A trade-off on a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from recsys.reports.tradeoff.page import TradeoffContent


def print_tradeoff(content: TradeoffContent, console: Console | None = None) -> None:
    """The funnels that nothing beats, what they cost, and the command of the chosen one."""
    console = console or Console()
    title = f"{content.source}: what each byte buys"
    # With this padding all columns fit in eighty characters.
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("funnel", no_wrap=True)
    for name in ("kept", content.what, "hot B", "cold B", "work", "ms", "batch"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in content.rows():
        exact = point is content.found.exact
        funnel = "exact, fp32" if exact else (
            f"{point.granularity} {point.codec} {point.index} {point.keep}>{point.ranking}"
        )  # fmt: skip
        value = point.overlap if point.ndcg is None else point.ndcg
        table.add_row(
            funnel,
            f"{point.kept:.1%}",
            f"{value:.4f}",
            f"{point.hot_bytes:,.0f}",
            f"{point.cold_bytes:,.0f}",
            f"{point.multiply_adds / content.found.exact.multiply_adds:.1%}",
            f"{point.ms_single:.2f}",
            f"{point.ms_batch:.3f}",
            style="bold" if point == content.chosen else None,
        )
    console.print(table)
    console.print(
        "kept: share of exact search's; work: of its multiply-adds; B: bytes an item; ms: of one "
        "user, alone and in a batch",
        style="dim",
    )
    console.print(content.headline, soft_wrap=True)
    if content.command:
        console.print(content.command, soft_wrap=True, markup=False, highlight=False)
