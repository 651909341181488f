"""`recsys prepare clicks` and its like: a folder of labelled events from a raw table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from data_prep import option_use
from data_prep.clicks.ml1m_rating import read_ml1m_ratings
from data_prep.options import PrepareOptions
from data_prep.raw_tables.raw import Table, column
from data_prep.raw_tables.tabular import TableFormat, kind_of, scan
from recsys.data.clicks.options import ClickOptions
from recsys.data.clicks.reading import Clicks
from recsys.data.clicks.writing import ClickOrigin, write_clicks
from recsys.errors import DataError
from recsys.files.scratch import scratch_folder
from recsys.progress import progress


@dataclass(frozen=True)
class RawEvents:
    """A table of events, and how it is read."""

    table: Table
    options: ClickOptions
    origin: ClickOrigin


@dataclass(frozen=True)
class ClickSource:
    """One name of labelled events that `prepare` knows."""

    description: str
    options: set[str]
    """The options it reads."""
    read: Callable[[Path, PrepareOptions, Path], RawEvents]


def _read_table(source: Path, options: PrepareOptions, workspace: Path) -> RawEvents:
    form = TableFormat(
        kind_of(source, options.delimiter),
        delimiter=options.delimiter,
        encoding=options.encoding,
        quote=options.quote,
        comment=options.comment,
        header=options.header != "none",
        usual=options.clicks.columns,
    )
    origin = ClickOrigin(
        options.dataset_name or source.stem, source.name, options.licence or "unknown"
    )
    return RawEvents(scan(source, form, workspace), options.clicks, origin)


def _read_ml1m(source: Path, options: PrepareOptions, workspace: Path) -> RawEvents:
    found = read_ml1m_ratings(source, options, workspace)
    origin = ClickOrigin(
        options.dataset_name or "ml-1m-rating", source.name, found.licence, found.notes
    )
    return RawEvents(found.table, found.options, origin)


CLICK_SOURCES = {
    "clicks": ClickSource(
        "labelled events: columns named by clicks.label, clicks.fields ... (--source FILE)",
        option_use.TEXT | {"clicks"},
        _read_table,
    ),
    "ml-1m-rating": ClickSource(
        "MovieLens 1M, ratings above 3 against below 3 (--source FOLDER)",
        {"clicks"},
        _read_ml1m,
    ),
}
"""Every name of labelled events."""


def prepare_clicks(
    name: str,
    options: PrepareOptions | None = None,
    *,
    source: str | Path | None = None,
    out: str | Path | None = None,
) -> Clicks:
    """Turns a table of labelled events into a folder, whole or not at all.

    Args:
        name: clicks, ml-1m-rating.
        options: the section `clicks` says which columns there are; others say how the file is
            written.
        source: the raw file or folder.
        out: default `data/<name>`.

    Raises:
        DataError: the name is unknown, the source is absent or malformed, or something that is no
            such folder stands at `out`.
        ConfigError: an option is given that this name does not read.
    """
    if name not in CLICK_SOURCES:
        raise DataError(f"no labelled events are named {name!r}; known: {', '.join(CLICK_SOURCES)}")
    found = CLICK_SOURCES[name]
    options = options or PrepareOptions()
    option_use.check_options(name, options, found.options)
    if source is None or not Path(source).exists():
        given = "none is given" if source is None else f"there is no {source}"
        raise DataError(f"{name} needs --source PATH of its raw file or folder; {given}")
    target = Path(out) if out is not None else Path("data") / name
    with scratch_folder(target) as workspace, progress() as bar:
        raw = found.read(Path(source), options, workspace)
        task = bar.add_task(f"prepare {name}", total=len(raw.options.columns))
        known = raw.table.columns()

        def read(wanted: str) -> pl.Series:
            if wanted not in known:
                raise DataError(
                    f"{raw.table.file} has no column {wanted!r}; found {', '.join(known)}: name "
                    "the columns by clicks.label, clicks.fields, clicks.numbers ..."
                )
            values = raw.table.collect(raw.table.frame.select(column(wanted)))[wanted]
            bar.update(task, advance=1)
            return values

        return write_clicks(target, read, raw.options, raw.origin)
