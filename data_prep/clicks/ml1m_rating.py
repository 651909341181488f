"""The rating task of MovieLens 1M: ratings above 3 against ratings below 3.

As in Song et al., AutoInt, CIKM 2019, and in the authors' code: ratings of 3 are left out; fields
are gender, age, occupation, ZIP code, genres and year of release (decades before 1970). The code
has the time of the rating as a seventh field, and no ids; here users and films are fields too, and
a config chooses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from data_prep.options import PrepareOptions
from data_prep.raw_tables.raw import Table
from data_prep.raw_tables.tabular import TableFormat, scan
from data_prep.readers.movielens import LICENCE
from recsys.data.clicks.options import ClickOptions
from recsys.errors import ConfigError, DataError

FIELDS = ("gender", "age", "occupation", "zip", "year", "user_id", "movie_id")
_LAST_DECADE = 1970
_OURS = {"label", "positive_above", "negative_below", "fields", "lists", "numbers", "user", "split"}


@dataclass(frozen=True)
class Ratings:
    """The joined table, and how it is read."""

    table: Table
    options: ClickOptions
    licence: str = LICENCE
    notes: tuple[str, ...] = ()


def read_ml1m_ratings(source: Path, options: PrepareOptions, workspace: Path) -> Ratings:
    """Ratings with what is known of their users and films.

    Args:
        source: the unpacked folder: ratings.dat (or a table ratings.csv, also packed, with the
            columns user_id, movie_id, rating and perhaps timestamp), users.dat, movies.dat.
        options: of the section `clicks`: shares, seed, min_count.
        workspace: for unpacked files.

    Raises:
        DataError: a file is missing or malformed.
        ConfigError: an option is given that this task decides itself.
    """
    if own := sorted(_OURS & options.clicks.model_fields_set):
        raise ConfigError(f"ml-1m-rating decides clicks.{own[0]} itself; leave it out")
    ratings = _ratings(source, workspace)
    users = _dat(source, "users.dat", ("user_id", "gender", "age", "occupation", "zip"), workspace)
    films = _dat(source, "movies.dat", ("movie_id", "title", "genres"), workspace)
    year = pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int32)
    coarse = pl.when(year < _LAST_DECADE).then(year // 10 * 10).otherwise(year)
    films_frame = films.frame.with_columns(year=coarse.cast(pl.String))
    timed = "timestamp" in ratings.columns()
    frame = ratings.frame.join(users.frame, on="user_id", how="left", maintain_order="left")
    frame = frame.join(films_frame, on="movie_id", how="left", maintain_order="left")
    found = options.clicks.model_copy(
        update={
            "label": "rating",
            "positive_above": 3.0,
            "negative_below": 3.0,
            "fields": FIELDS,
            "lists": ("genres",),
            "numbers": ("timestamp",) if timed else (),
            "user": "user_id",
        }
    )
    table = Table(ratings.file, frame, ratings.where, ratings.explain)
    return Ratings(table, found, notes=() if timed else ("the ratings tell no times",))


def _ratings(source: Path, workspace: Path) -> Table:
    if (source / "ratings.dat").is_file():
        names = ("user_id", "movie_id", "rating", "timestamp")
        return _dat(source, "ratings.dat", names, workspace)
    tables = sorted(source.glob("ratings*.csv*"))
    if len(tables) != 1:
        raise DataError(
            f"{source} holds {len(tables) or 'no'} tables of ratings; ratings.dat, or one "
            "ratings.csv with user_id, movie_id, rating is expected"
        )
    table = scan(tables[0], TableFormat("csv"), workspace)
    if missing := {"user_id", "movie_id", "rating"} - set(table.columns()):
        raise DataError(f"{tables[0].name} has no column {sorted(missing)[0]}")
    return table


def _dat(source: Path, name: str, names: tuple[str, ...], workspace: Path) -> Table:
    """A file of MovieLens 1M: fields between ::, no header, Latin-1."""
    path = source / name
    if not path.is_file():
        raise DataError(f"{source} holds no {name}; give the unpacked folder of MovieLens 1M")
    form = TableFormat("csv", delimiter="::", encoding="latin-1", quote="none", names=names)
    return scan(path, form, workspace)
