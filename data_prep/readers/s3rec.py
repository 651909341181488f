"""S3-Rec sequence files: one user a line, items in order.

Reference: Zhou et al., S3-Rec, CIKM 2020 (github.com/RUCAIBox/CIKM2020-S3Rec, folder data).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from data_prep.options import PrepareOptions
from data_prep.raw_tables.raw import Columns, RawData, Table
from data_prep.raw_tables.tabular import text_file
from data_prep.readers.item_files import item_file, user_file


def read_sequences(source: Path, options: PrepareOptions, workspace: Path) -> RawData:
    """Interactions from one sequence file.

    Raises:
        DataError: the file is absent or empty, or a line holds a user without items.
    """
    plain = text_file(source, options.encoding, workspace)
    words = pl.col("line").str.extract_all(r"\S+")
    lines = pl.scan_lines(plain.absolute(), glob=False).filter(words.list.len() > 0)
    frame = lines.select(user_id=words.list.first(), item_id=words.list.slice(1)).explode(
        "item_id", empty_as_null=True
    )
    table = Table(source.name, frame, lambda _: f"{source.name} {_first_without_items(plain)}")
    return RawData(
        table=table,
        columns=Columns(user="user_id", item="item_id"),
        items=item_file(options, workspace),
        users=user_file(options, workspace),
        source=source.name,
        licence="unknown",
    )


def _first_without_items(plain: Path) -> str:
    with plain.open(encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, start=1):
            if len(line.split()) == 1:
                return f"line {number} (a user without items)"
    return "(a line unknown)"
