"""The metric table on a terminal, with the protocol card beneath it."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from recsys.console import make_console
from recsys.evaluation.metric_table import MetricTable
from recsys.reports.content import ALWAYS_SHOWN, View
from recsys.reports.paired.words import differences
from recsys.reports.view import Column, Line
from recsys.reports.words import card_lines, headline, paired_lines, standing

_ENDLESS = 10_000
_LONG_NAME, _SHORT_NAME = 28, 12  # run names are folded at the first, on a narrow console second


def print_table(
    table: MetricTable,
    metrics: Sequence[str] = ALWAYS_SHOWN,
    ks: Sequence[int] = (10,),
    console: Console | None = None,
    main_run: str | None = None,
) -> None:
    """Prints accuracy, segments and beyond-accuracy figures, what they say, and the protocol card.

    Where the console is too narrow the bytes are left out, then the intervals.

    Args:
        table: figures of one or more runs.
        metrics: the accuracy metrics to show.
        ks: cutoffs to show; the first one is used for retention and for the second table.
        console: where to print; None: standard output.
        main_run: the run to put first; None: the first nested one.

    Raises:
        RunError: the table is empty, has a figure that is not a finite number, or has no such run.
    """
    console = console or make_console()
    view = View(table, main_run, metrics, ks)
    _print(_fitting(view, console), console)
    if view.second_columns:
        _print(_second(view, console), console)
    said = " ".join(filter(None, [headline(view), standing(view), *paired_lines(view)]))
    console.print(_plain(said, console), highlight=False, markup=False)
    if view.families and view.subject:
        lines = differences(view.families, view.subject)
        title = f"{view.lead.label}, paired over users, 10,000 draws:"
        text = "\n  ".join([title, *lines])
        console.print(f"\n{_plain(text, console)}", highlight=False, markup=False)
    console.print()
    console.print(_card(view, console), highlight=False)


def _fitting(view: View, console: Console) -> Table:
    """The richest form of the main table that fits the console."""
    for intervals, size in ((True, True), (True, False), (False, True)):
        table = _main(view, console, intervals, size)
        if _width(table, console) <= console.width:
            return table
    return _main(view, console, False, False)


def _width(table: Table, console: Console) -> int:
    """Columns the table would take if the console were endless."""
    endless = console.options.update(width=_ENDLESS)
    return Measurement.get(console, endless, table).maximum


def _print(table: Table, console: Console) -> None:
    """Prints at a width at which no number is cut, even if it is more than the console's."""
    table.columns[0].max_width = _LONG_NAME
    if _width(table, console) > console.width:
        table.columns[0].max_width = _SHORT_NAME
    title, caption, table.title, table.caption = table.title, table.caption, None, None
    console.print(title or "", style="bold", highlight=False)
    table.width = _width(table, console)
    console.print(table, crop=False, overflow="ignore")
    if caption:
        console.print(caption, style="dim", highlight=False)
    console.print()


def _empty(title: str) -> Table:
    table = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        header_style="dim",
        pad_edge=False,
    )
    table.add_column("run", overflow="fold")
    table.add_column("vector", no_wrap=True)
    return table


def _main(view: View, console: Console, intervals: bool, size: bool) -> Table:
    table = _empty("accuracy")
    shown = any(line.interval(column) for line in view.lines for column in view.columns)
    caption = f"keeps: share of the run's own full-width {view.lead.label}"
    if size:
        caption += "; bytes: one item's vector in fp32"
    if intervals and shown:
        caption += "; ±: half the 95 % bootstrap interval over users, of a share that of the two "
        caption += "figures resampled together"
    table.caption = _plain(caption, console)
    for column in view.columns:
        table.add_column(column.label, justify="right", no_wrap=True)
    table.add_column("keeps %", justify="right", no_wrap=True)
    if size:
        table.add_column("bytes", justify="right", no_wrap=True)
    for run in view.runs:
        for line in run:
            figures = [_figure(line, column, intervals, console) for column in view.columns]
            cells = [*figures, _kept(line, intervals, console)]
            cells += [Text(_plain(line.size, console))] if size else []
            _add(table, line, run, cells, view, console)
    return table


def _second(view: View, console: Console) -> Table:
    table = _empty("segments of targets, and beyond accuracy")
    for column in view.second_columns:
        table.add_column(_two_lines(column), justify="right", no_wrap=True)
    for run in view.runs:
        for line in run:
            figures = [_figure(line, column, False, console) for column in view.second_columns]
            _add(table, line, run, figures, view, console)
    return table


def _two_lines(column: Column) -> str:
    """A heading that keeps its column narrow."""
    key = f"{column.metric}@{column.k}"
    return (
        f"{column.metric}\n@{column.k}" if column.segment == "all" else f"{column.segment}\n{key}"
    )


def _add(
    table: Table, line: Line, run: list[Line], cells: list[Text], view: View, console: Console
) -> None:
    """Appends a row; a nested run, and all un-nested ones together, end with a gap."""
    nested = line.granularity is not None
    last = line is run[-1] and (nested or run is view.runs[-1])
    style = "bold" if line.run == view.subject and line.is_full else ""
    name = line.run if line is run[0] or not nested else ""
    vector = Text(_plain(line.vector, console))
    table.add_row(Text(_plain(name, console)), vector, *cells, style=style, end_section=last)


def _figure(line: Line, column: Column, interval: bool, console: Console) -> Text:
    text = Text(_plain(line.value(column), console))
    if interval and line.interval(column):
        text.append(_plain(f" {line.interval(column)}", console), style="dim not bold")
    return text


def _kept(line: Line, interval: bool, console: Console) -> Text:
    text = Text(_plain(line.kept.removesuffix(" %"), console))
    if interval and line.kept_half:
        text.append(_plain(f" {line.kept_half}", console), style="dim not bold")
    return text


def _card(view: View, console: Console) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for what, text in card_lines(view.table.card, view.num_users):
        grid.add_row(what, Text(_plain(text, console)))
    return grid


def _plain(text: str, console: Console) -> str:
    """The text in characters that the console's encoding has."""
    if console.encoding.lower().startswith("utf"):
        return text
    return text.replace("±", "+-").encode(console.encoding, "replace").decode(console.encoding)
