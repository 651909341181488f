"""Fixed splits as files of user lists: `train.txt` and `test.txt`, one user a line.

The files of the graph papers: `user item item ...`, without any order (He et al., LightGCN, SIGIR
2020; Wang et al., NGCF, SIGIR 2019). A `valid.txt` beside them is the validation part; without, one
is drawn from the training part.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from data_prep.options import PrepareOptions
from data_prep.raw_tables.parts import plain_name
from data_prep.raw_tables.raw import Columns, RawData, Table
from data_prep.raw_tables.tabular import text_file
from data_prep.readers.item_files import item_file
from recsys.errors import DataError

_NAMES = {"train": "train.txt", "valid": "valid.txt", "test": "test.txt"}
_NEEDED = ("train", "test")


def read_user_lists(source: Path, options: PrepareOptions, workspace: Path) -> RawData:
    """Interactions from a folder of user lists; a line that holds a user alone gives no row.

    Raises:
        DataError: a file is absent, empty or there twice, packed and not.
    """
    files = {part: _file(source, name) for part, name in _NAMES.items()}
    if absent := [_NAMES[part] for part in _NEEDED if files[part] is None]:
        raise DataError(
            f"{source} has no {' and no '.join(absent)} (packed or not); give the folder of both "
            "files with --source"
        )
    found = [(part, path) for part, path in files.items() if path is not None]
    words = pl.col("line").str.extract_all(r"\S+")
    frames = [
        pl.scan_lines(text_file(path, options.encoding, workspace).absolute(), glob=False)
        .filter(words.list.len() > 1)
        .select(user_id=words.list.first(), item_id=words.list.slice(1), part=pl.lit(part))
        .explode("item_id", empty_as_null=True)
        for part, path in found
    ]
    names = " and ".join(path.name for _, path in found)
    return RawData(
        table=Table(names, pl.concat(frames), lambda _: names),
        columns=Columns(user="user_id", item="item_id", part="part"),
        items=item_file(options, workspace),
        source=names,
        licence="unknown",
        ordered=False,
    )


def _file(folder: Path, name: str) -> Path | None:
    """The file of that name, packed or not."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give the one that holds train.txt and test.txt")
    found = sorted(path for path in folder.iterdir() if plain_name(path).name == name)
    if len(found) > 1:
        raise DataError(
            f"{folder} holds {' and '.join(path.name for path in found)}; remove one of them"
        )
    return found[0] if found else None
