"""Small tables from files, by their name: parquet, csv, lines of JSON, ids one a line."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recsys.errors import DataError
from recsys.files.kinds import found_at


def read_table(path: str | Path, column: str = "id") -> pl.DataFrame:
    """A table from a file by its name; values of a .csv are text, lines of a .txt are `column`.

    Raises:
        DataError: it is absent, of another form, or cannot be read.
    """
    file = Path(path)
    readers = {
        ".parquet": lambda: pl.read_parquet(file, glob=False),
        ".csv": lambda: pl.read_csv(file, infer_schema=False, glob=False),
        ".jsonl": lambda: pl.read_ndjson(file),
        ".txt": lambda: pl.DataFrame({column: file.read_text("utf-8").split("\n")}).filter(
            pl.col(column).str.strip_chars() != ""
        ),
    }
    if not file.is_file():
        raise DataError(
            f"there is no file {file}: {found_at(file)}; give one of {', '.join(readers)}"
        )
    if file.suffix not in readers:
        raise DataError(f"{file} is named as none of {', '.join(readers)}; choose one of these")
    if not file.stat().st_size and file.suffix != ".txt":  # no ids are a list, too
        raise DataError(f"{file} is empty; give another file")
    try:
        return readers[file.suffix]()
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        raise DataError(
            f"{file} cannot be read as {file.suffix} ({error}); write it anew"
        ) from error
