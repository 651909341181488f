"""`recsys prepare`: a dataset folder from a named raw data set."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data_prep import option_use
from data_prep.assemble import assemble
from data_prep.options import Kind, PrepareOptions
from data_prep.raw_tables.parts import exists
from data_prep.raw_tables.raw import RawData
from data_prep.readers.amazon import read_amazon
from data_prep.readers.generic import read_table
from data_prep.readers.movielens import read_movielens
from data_prep.readers.recbole import read_recbole
from data_prep.readers.s3rec import read_sequences
from data_prep.readers.synthetic import write_synthetic
from data_prep.readers.user_lists import read_user_lists
from recsys.data.dataset import Dataset, check_replaceable, load_manifest
from recsys.data.features.manifest import FEATURES, feature_names
from recsys.errors import ConfigError, DataError, RecsysError
from recsys.files.scratch import scratch_folder
from recsys.plugins.registry import Registry
from recsys.progress import console

Reader = Callable[[Path | None, PrepareOptions, Path], RawData]


@dataclass(frozen=True)
class Source:
    """One name that `prepare` knows."""

    description: str
    """One line for the list of names."""
    options: set[str]
    """The options it reads, beside those that every data set has."""
    read: Reader | None
    """Gives the raw data; None: `synthetic`, which is written without being read."""


def _local(name: str, read: Callable[[Path, PrepareOptions, Path], RawData]) -> Reader:
    """A reader of files that nobody downloads."""

    def from_source(source: Path | None, options: PrepareOptions, workspace: Path) -> RawData:
        if source is None:
            raise DataError(f"{name} cannot be downloaded; give --source PATH")
        if not exists(source):
            raise DataError(f"there is no {source}; give the right --source")
        return read(source, options, workspace)

    return from_source


def _movielens(name: str, size: str) -> Source:
    text = f"MovieLens, {size} (downloaded, or --source ZIP or FOLDER)"
    return Source(text, option_use.MOVIELENS, partial(read_movielens, name))


def _amazon(name: str, text: str) -> Source:
    return Source(
        f"Amazon reviews {text}, content by metadata_file=FILE (--source FILE)",
        option_use.AMAZON,
        _local(name, partial(read_amazon, name)),
    )


def _file(kind: Kind, text: str) -> Source:
    return Source(
        f"{text}, packed or not, columns named by options (--source FILE, FOLDER, PATTERN or -)",
        option_use.GENERIC,
        _local(kind, partial(read_table, kind)),
    )


SOURCES: dict[str, Source] = {
    "ml-100k": _movielens("ml-100k", "100,000 ratings of 1,682 films"),
    "ml-1m": _movielens("ml-1m", "1 million ratings of 3,706 films"),
    "ml-10m": _movielens("ml-10m", "10 million ratings of 10,677 films"),
    "ml-20m": _movielens("ml-20m", "20 million ratings of 26,744 films"),
    "ml-25m": _movielens("ml-25m", "25 million ratings of 59,047 films"),
    "ml-32m": _movielens("ml-32m", "32 million ratings of 84,432 films"),
    "ml-latest-small": _movielens("ml-latest-small", "100,836 ratings of 9,724 films"),
    "amazon-2014": _amazon("amazon-2014", "2014: reviews_X[_5].json.gz or ratings_X.csv"),
    "amazon-2018": _amazon("amazon-2018", "2018: X[_5].json.gz or X.csv"),
    "amazon-2023": _amazon("amazon-2023", "2023: X.jsonl, parquet, 0core / 5core csv"),
    "s3rec": Source(
        "sequence file, lines of `user item item ...` (--source FILE)",
        option_use.SEQUENCES,
        _local("s3rec", read_sequences),
    ),
    "lightgcn": Source(
        "train.txt and test.txt, lines of `user item item ...` (--source FOLDER)",
        option_use.USER_LISTS,
        _local("lightgcn", read_user_lists),
    ),
    "recbole": Source(
        "RecBole atomic files NAME.inter and NAME.item (--source FOLDER)",
        option_use.ATOMIC,
        _local("recbole", read_recbole),
    ),
    "csv": _file("csv", "comma separated table"),
    "tsv": _file("tsv", "tab separated table"),
    "parquet": _file("parquet", "Parquet table"),
    "jsonl": _file("jsonl", "JSON Lines table"),
    "synthetic": Source(
        "made up: Zipf popularity, interests that drift; any size", option_use.SYNTHETIC, None
    ),
}
"""Every name of the package's own."""


def _lacks(found: Any) -> list[str]:
    """What an object lacks to be a source."""
    if not isinstance(found, Source):
        return ["the type data_prep.Source: Source(description, options, read)"]
    unknown = sorted(found.options - set(PrepareOptions.model_fields))
    return [f"options that there are, as {', '.join(unknown)} are none"] if unknown else []


READERS: Registry[Source] = Registry("reader", "recsys.readers", {}, _lacks)
"""Sources of other packages."""


def find_source(name: str) -> Source:
    """The source of that name: one of `SOURCES`, an entry point, or `my_package.my_module:SOURCE`.

    Raises:
        DataError: there is none.
        ConfigError: it cannot be imported, or is not a source.
    """
    if name in SOURCES:
        return SOURCES[name]
    if ":" in name or name in READERS.names():
        return READERS.find(name)
    near = difflib.get_close_matches(name, SOURCES, n=1, cutoff=0.0)[0]
    known = ", ".join([*SOURCES, *READERS.names()])
    raise DataError(f"no data set is named {name!r}; did you mean {near!r}? Known: {known}")


def prepare(
    name: str,
    options: PrepareOptions | None = None,
    *,
    source: str | Path | None = None,
    out: str | Path | None = None,
) -> Dataset:
    """Turns a raw data set into a dataset folder, whole or not at all.

    Args:
        name: see `find_source`.
        options: filters, split, column names and so on.
        source: the raw file or folder; without it the official place is asked.
        out: the dataset folder, replaced if it is one; default `data/<name>`.

    Raises:
        DataError: the name is unknown, the source is absent or malformed, nothing is left after
            filtering, or something that is not a dataset folder, or one with features, stands at
            `out`.
        ConfigError: an option is given that this data set does not read.
        DownloadError: the official place cannot be reached.
        ChecksumError: other bytes than the promised ones arrived.
    """
    found, name = find_source(name), name.rpartition(":")[2]
    options = options or PrepareOptions()
    option_use.check_options(name, options, found.options)
    out = Path(out) if out is not None else Path("data") / name
    check_replaceable(out)
    _check_no_features(out)
    before = _content_hash(out)
    dataset = _make(name, found.read, options, source, out)
    after = dataset.manifest.content_hash
    if before is not None and before != after:
        console.print(
            f"{out} held another data set (content hash {before[:12]}, now {after[:12]}). Runs "
            "trained on it can no longer be evaluated or resumed; to keep both, prepare into "
            "another --out",
            style="yellow",
            soft_wrap=True,
        )
    return dataset


def _make(
    name: str, read: Reader | None, options: PrepareOptions, source: str | Path | None, out: Path
) -> Dataset:
    if read is None:
        if source is not None:
            raise ConfigError(f"{name} is generated, not read; leave out --source {source}")
        return write_synthetic(options, out)
    # Unpacked files are as large as the data, so they go beside it and not to /tmp.
    with scratch_folder(out) as workspace:
        raw = read(Path(source) if source is not None else None, options, workspace)
        return assemble(name, raw, options, out)


def _content_hash(out: Path) -> str | None:
    """Of the data set that exists; None: there is none that can be read."""
    try:
        return load_manifest(out).content_hash
    except RecsysError:
        return None


def _check_no_features(out: Path) -> None:
    """Encoding may have taken hours, so features are not dropped in passing."""
    if names := feature_names(out):
        raise DataError(
            f"{out} holds the features {', '.join(names)}, which a new data set would drop; choose "
            f"another --out and take them over by id (`recsys attach NEW {out} --modality "
            f"{names[0]}`), or remove {out / FEATURES}"
        )
