"""Amazon reviews of 2014, 2018 and 2023, with product metadata.

    amazon-2014   reviews_X.json.gz, reviews_X_5.json.gz, or ratings_X.csv (user, item, ...);
                  metadata: lines of Python literals
    amazon-2018   X.json.gz, X_5.json.gz, or X.csv (item, user, ...); metadata: JSON lines
    amazon-2023   X.jsonl, parquet, or the 0core and 5core csv (X.csv, or X.train.csv with
                  X.valid.csv and X.test.csv beside it); metadata: JSON lines or parquet

References: McAuley et al., SIGIR 2015 (2014); Ni et al., EMNLP 2019 (2018); Hou et al., Bridging
Language and Items for Retrieval and Recommendation, 2024 (2023). Times are days as seconds in 2014
and 2018, and milliseconds, stored as seconds, in 2023.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from data_prep.options import PrepareOptions
from data_prep.raw_tables.json_lines import scan_fields
from data_prep.raw_tables.raw import Columns, RawData, Table
from data_prep.raw_tables.stacking import stacked
from data_prep.raw_tables.tabular import TableFormat, kind_of, scan
from data_prep.readers.amazon_items import read_metadata
from data_prep.readers.item_files import item_file
from recsys.errors import ConfigError, DataError

LICENCE = "Amazon reviews as collected by the McAuley lab: research use, no redistribution"
_RATINGS = ("user", "item", "rating", "timestamp")


@dataclass(frozen=True)
class Generation:
    """How the files of one generation are written."""

    columns: Columns
    """Fields of a review; in csv files the columns are called as in `header`."""
    header: tuple[str, ...] | None
    """Columns of ratings files without a header line; None: they have one."""


GENERATIONS = {
    "amazon-2014": Generation(
        Columns("reviewerID", "asin", time="unixReviewTime", weight="overall"), _RATINGS
    ),
    "amazon-2018": Generation(
        Columns("reviewerID", "asin", time="unixReviewTime", weight="overall"),
        ("item", "user", "rating", "timestamp"),
    ),
    # Variants of one product (size, colour) share the parent, which is what metadata describe.
    "amazon-2023": Generation(
        Columns("user_id", "parent_asin", time="timestamp", weight="rating"), None
    ),
}


def read_amazon(name: str, source: Path, options: PrepareOptions, workspace: Path) -> RawData:
    """Interactions of a reviews or ratings file, and the content of `metadata_file`.

    Raises:
        DataError: a file is absent or damaged, or more lines than `max_bad_lines` are malformed.
        ConfigError: metadata_file and item_file are both given.
    """
    if options.metadata_file is not None and options.item_file is not None:
        raise ConfigError("metadata_file and item_file both give item content; leave one out")
    table, columns, notes = _interactions(GENERATIONS[name], source, options, workspace)
    items: pl.DataFrame | pl.LazyFrame | None = item_file(options, workspace)
    if options.metadata_file is not None:
        items = read_metadata(options.metadata_file, workspace, options.max_bad_lines)
    return RawData(
        table=table,
        columns=columns,
        items=items,
        source=source.name,
        licence=LICENCE,
        notes=notes,
    )


def _interactions(
    generation: Generation, source: Path, options: PrepareOptions, workspace: Path
) -> tuple[Table, Columns, tuple[str, ...]]:
    if not source.is_file():
        raise DataError(f"{source} is not a file; give a file of reviews or ratings by --source")
    kind = kind_of(source)
    if kind == "jsonl":
        columns = generation.columns
        fields = [columns.user, columns.item, columns.time, columns.weight]
        wanted = [field for field in fields if field is not None]
        table, notes = scan_fields(
            source, wanted, workspace, options.max_bad_lines, options.encoding
        )
        return table, columns, notes
    form = TableFormat(kind, encoding=options.encoding)
    if kind == "parquet":
        return scan(source, form, workspace), generation.columns, ()
    header = generation.header
    if header is None:
        return _benchmark(source, form, workspace), generation.columns, ()
    table = scan(source, replace(form, names=header), workspace)
    return table, Columns("user", "item", time="timestamp", weight="rating"), ()


def _benchmark(source: Path, form: TableFormat, workspace: Path) -> Table:
    """A csv of 2023; of X.train.csv also X.valid.csv and X.test.csv, which continue it."""
    stem, part, rest = source.name.partition(".train.")
    if not part:
        return scan(source, form, workspace)
    paths = [source, *(source.with_name(f"{stem}.{name}.{rest}") for name in ("valid", "test"))]
    absent = [path.name for path in paths if not path.is_file()]
    if absent:
        raise DataError(
            f"{source.name} is one of three parts; {', '.join(absent)} must stand beside it"
        )
    tables = [scan(path, form, workspace) for path in paths]
    wanted = ["user_id", "parent_asin", "rating", "timestamp"]
    for table in tables:
        if not set(wanted) <= set(table.columns()):
            raise DataError(
                f"{table.file} has the columns {', '.join(table.columns())}; "
                f"{', '.join(wanted)} are expected"
            )
    return stacked([replace(table, frame=table.frame.select(wanted)) for table in tables])
