"""The progress bar, for everything that takes more than a few seconds."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from recsys.console import make_console

console = make_console(stderr=True)


@contextmanager
def progress(*extra: str) -> Iterator[Progress]:
    """A bar with share, count, elapsed time and ETA, on stderr; hidden if that is not a terminal.

    `extra` names task fields shown behind the bar, as a format, e.g. "{task.fields[rate]}".
    """
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        *(TextColumn(text, markup=False) for text in extra),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        yield bar
