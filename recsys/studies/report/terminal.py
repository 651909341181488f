"""The tables of a study on a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from recsys.console import make_console
from recsys.reports.view import MISSING
from recsys.studies.report.content import (
    LEAD,
    RETENTION,
    VERSUS_SEPARATE,
    Figure,
    K,
    StudyContent,
)
from recsys.studies.report.tables import TablesContent, print_tables
from recsys.studies.report.words import headline, standing

_ENDLESS = 10_000


def print_study(content: StudyContent | TablesContent, console: Console | None = None) -> None:
    """Prints recall@10 and ndcg@10 by bytes, retention, and nested against separate.

    A study of tables has tables of its own.
    """
    console = console or make_console()
    if isinstance(content, TablesContent):
        print_tables(content, console)
        return
    for metric in content.shown:
        _print(f"{metric}@{K} by bytes of one item", _matrix(content, metric), console)
    if content.ratios(RETENTION):
        title = f"nested: share of the full width (d{content.full}) kept, at k = {K}"
        _print(title, _retention(content), console)
    if content.ratios(VERSUS_SEPARATE):
        title = f"nested over trained separately at the same width: {LEAD}@{K} and ratios"
        _print(title, _tax(content), console)
    console.print(f"{headline(content)} {standing(content)}", highlight=False)
    if content.missing:
        console.print(f"\nmissing ({len(content.missing)}):", style="yellow")
        for line in content.missing:
            console.print(f"  {line}", style="yellow", highlight=False, markup=False)


def _print(title: str, table: Table, console: Console) -> None:
    """Prints at a width at which no number is cut, even if it is more than the console's."""
    console.print(title, style="bold", highlight=False)
    endless = console.options.update(width=_ENDLESS)
    table.width = Measurement.get(console, endless, table).maximum
    console.print(table, crop=False, overflow="ignore", no_wrap=True)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    return table


def _matrix(content: StudyContent, metric: str) -> Table:
    table = _table("", *(f"{budget:,}" for budget in content.budgets))
    best = content.best(metric)
    for method in content.methods:
        if content.opens_family(method):
            table.add_section()
        cells = [
            Text(f.short, style="bold" if round(f.value, 4) == top else "") if f else Text(MISSING)
            for f, top in zip(content.row(metric, method), best, strict=True)
        ]
        table.add_row(Text(content.labels[method]), *cells)
    return table


def _retention(content: StudyContent) -> Table:
    table = _table("prefix", "bytes", *_twice(content, "kept"), "truncation")
    for row in content.ratios(RETENTION):
        figure = next(iter(row.values()))
        shares = [text for m in content.shown for text in _share(row, m)]
        table.add_row(
            figure.vector,
            f"{figure.num_bytes:,}",
            *shares,
            content.kept_by("truncation", figure.granularity),
        )
    return table


def _tax(content: StudyContent) -> Table:
    table = _table("width", "nested", "separate", *_twice(content, "ratio"), "")
    for row in content.ratios(VERSUS_SEPARATE):
        width = next(iter(row.values())).granularity
        table.add_row(
            f"d{width}",
            content.mean_of("nested", LEAD, width),
            content.mean_of("separate", LEAD, width),
            *(text for m in content.shown for text in _share(row, m)),
            row[LEAD].verdict,
        )
    return table


def _twice(content: StudyContent, what: str) -> list[str]:
    return [text for metric in content.shown for text in (f"{metric} {what}", "95 %")]


def _share(row: dict[str, Figure], metric: str) -> tuple[str, str]:
    figure = row.get(metric)
    return (figure.share, figure.share_interval) if figure else (MISSING, "")
