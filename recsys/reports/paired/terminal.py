"""Paired comparisons on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from recsys.console import make_console
from recsys.reports.paired.families import METHOD, Family
from recsys.reports.paired.words import sentences

_ENDLESS = 10_000


def print_paired(
    found: Sequence[Family], run: str, label: str, console: Console | None = None
) -> None:
    """Prints every family, what it says, and how it was tested.

    Args:
        found: the families of a run.
        run: its name.
        label: of the figure: `ndcg@10`.
        console: where to print; None: standard output.
    """
    console = console or make_console()
    for family in found:
        users = family.comparisons[0].paired.num_users
        title = f"{label} of {run}, {users:,} users: {family.title}"
        console.print(title, style="bold", highlight=False, markup=False)
        table = _table(family)
        endless = console.options.update(width=_ENDLESS)
        table.width = Measurement.get(console, endless, table).maximum  # no figure is cut
        console.print(table, crop=False, overflow="ignore")
    console.print(" ".join(sentences(found, run)), highlight=False, markup=False)
    console.print(f"\n{METHOD}", style="dim", highlight=False, markup=False)


def _table(family: Family) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
    table.add_column("vector", no_wrap=True)
    for name in ("difference", "95 % interval", "p", "corrected"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("says", no_wrap=True)
    for each in family.comparisons:
        figures = (f"{each.paired.difference:+.4f}", each.interval, each.raw, each.corrected)
        style = "" if each.paired.verdict == "level" else "bold"
        table.add_row(Text(each.vector), *figures, each.says, style=style)
    return table
