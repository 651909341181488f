"""State of a study's runs on a terminal: finished, missing, time left."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from recsys.console import make_console
from recsys.studies.panel.verb import PanelResult
from recsys.studies.runs import duration, remaining_seconds
from recsys.studies.tables.verb import TableStudyResult
from recsys.studies.verb import StudyResult

_STYLES = {"finished": "green", "training": "cyan", "other config": "red"}


def print_states(
    result: StudyResult | TableStudyResult | PanelResult, console: Console | None = None
) -> None:
    """Prints every run of the plan with its state, and the training that is left."""
    console = console or make_console()
    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
    for name in ("run", "state", "training"):
        table.add_column(name, no_wrap=True)
    for each in result.states:
        took = "" if each.seconds is None else duration(each.seconds)
        table.add_row(each.run.name, each.state, took, style=_STYLES.get(each.state, ""))
    console.print(table)
    done = sum(each.state == "finished" for each in result.states)
    left = remaining_seconds(result.states)
    text = f"{done} of {len(result.states)} runs in {result.folder} are finished"
    if left:
        text += f"; about {duration(left)} of training left, as long as the finished ones took"
    console.print(text, highlight=False)
