"""A panel on a terminal: gains of every lever, and the choices with one data set left out."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from recsys.console import make_console
from recsys.studies.panel.config import BEFORE
from recsys.studies.panel.figures import ALL, PanelFigures
from recsys.studies.panel.verb import PanelResult


def print_panel(result: PanelResult, console: Console | None = None) -> None:
    """Prints what has been measured, and what is missing."""
    console = console or make_console()
    if result.content is not None:
        console.print(_gains(result.content))
        console.print(_recipe(result.content))
        console.print(
            f"chosen on all data sets: {result.content.chosen}", style="bold", highlight=False
        )
        for each in result.content.left_out:
            console.print(
                f"without {each.data} the others choose {each.lever}: {each.gain:+.1%} on "
                f"{each.data}",
                highlight=False,
            )
    for line in result.missing:
        console.print(f"not in it: {line}", style="yellow", markup=False, highlight=False)


def _table(title: str, content: PanelFigures) -> tuple[Table, list[int]]:
    sizes = sorted(content.frame["granularity"].unique().to_list())
    table = Table(title=title, box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
    # Narrow terminals: names stay whole, intervals are wrapped.
    longest = max(map(len, (*content.frame["lever"], *content.frame["data"])))
    table.add_column("data", no_wrap=True, min_width=longest)
    for size in sizes:
        table.add_column(f"d{size}", justify="right")
    return table, sizes


def _gains(content: PanelFigures) -> Table:
    table, sizes = _table("gain in ndcg@10 over the recipe, validation users", content)
    for lever in content.frame["lever"].unique(maintain_order=True):
        if lever == BEFORE:
            continue
        rows = content.frame.filter(lever=lever)
        table.add_row(lever, style="bold")
        for data in rows["data"].unique(maintain_order=True):
            mine = {row["granularity"]: row for row in rows.filter(data=data).to_dicts()}
            texts = [_told(mine[size], data == ALL) for size in sizes]
            table.add_row(data, *texts, style="bold" if data == ALL else "")
        table.add_section()
    return table


def _told(row: dict[str, float], with_interval: bool) -> str:
    text = f"{row['gain']:+.1%}"
    return f"{text} ({row['low']:+.1%} {row['high']:+.1%})" if with_interval else text


def _recipe(content: PanelFigures) -> Table:
    """What the recipe itself has, and what it keeps of full width."""
    table, sizes = _table("the recipe itself: ndcg@10, and what is kept of full width", content)
    rows = content.frame.filter(lever=BEFORE)
    for data in rows["data"].unique(maintain_order=True):
        if data == ALL:
            continue
        mine = {row["granularity"]: row for row in rows.filter(data=data).to_dicts()}
        told = [f"{mine[size]['value']:.4f} {mine[size]['keeps']:.0%}" for size in sizes]
        table.add_row(data, *told)
    return table
