"""Where the data set of a run lies: as named, above the run, or beside it; by its content hash."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from recsys.data.dataset import MANIFEST
from recsys.errors import RunError
from recsys.files.atomic import read_json
from recsys.files.kinds import found_at
from recsys.runs.config import RunConfig
from recsys.runs.records import load_run_info

_NEAR = 3
"""The run's own folder and so many less one above it, in which any data set is looked for."""
_TOLD = 4
"""Of the data sets that were found and are others, so many are named."""


def find_data(config: RunConfig, folder: Path, data: str | Path | None = None) -> Path:
    """The data set of a run.

    A relative path of the config is looked for from here, in the run and in the folders above it;
    then where it lay when the run was trained; then any data set in the run, in the two folders
    above it, or in a folder `data` of these. The first with the run's content hash is taken.

    Args:
        config: of the run; its `data` is looked for first.
        folder: of the run.
        data: the dataset folder, or a folder that holds it; None: looked for as told above.

    Raises:
        RunError: none of these is the run's data set; the message names what was found.
    """
    trained = load_run_info(folder)["dataset"]
    if data is not None:
        places = [Path(data), *_inside(Path(data))]
        begin = f"{data} is not the data set of {folder}"
        if not (Path(data) / MANIFEST).is_file():
            begin += f" ({found_at(data)})"
        return choose(trained, places, begin)
    home = folder.resolve()
    above = () if config.data.is_absolute() else (home, *home.parents)
    named = [config.data, *(parent / config.data for parent in above)]
    named += [Path(trained["folder"])] if "folder" in trained else []
    missing = f"the data set of {folder} is neither at {config.data} nor beside or above the run"
    return choose(trained, chain(named, near(folder)), missing)


def near(folder: Path) -> Iterator[Path]:
    """Data sets in a folder, in those just above it, and in a folder `data` of each."""
    home = folder.resolve()
    for place in (home, *home.parents)[:_NEAR]:
        yield from (place, *_inside(place), *_inside(place / "data"))


def choose(trained: dict[str, Any], places: Iterable[Path], begin: str) -> Path:
    """The first of the places that holds the data set with the content hash.

    Args:
        trained: what is told of the data set: its `content_hash`, `name` and more.
        places: dataset folders, perhaps; the same one may come twice.
        begin: how the error begins.

    Raises:
        RunError: there is none.
    """
    others: dict[Path, dict[str, Any]] = {}
    for place in places:
        told = _told_of(place)
        if told is None:
            continue
        if told["content_hash"] == trained["content_hash"]:
            return place
        others.setdefault(place.resolve(), told)
    raise RunError(
        f"{begin}: it was trained on data with content hash {summary_of(trained)}; found "
        + ("; ".join(_listed(others)) or "no data set")
        + ". Give the right folder (--data FOLDER, in Python data=FOLDER), "
        "prepare the data as it was, or train again"
    )


def _inside(place: Path) -> list[Path]:
    """Dataset folders directly in a folder."""
    return sorted(path.parent for path in place.glob(f"*/{MANIFEST}")) if place.is_dir() else []


def _told_of(place: Path) -> dict[str, Any] | None:
    """The manifest of a dataset folder; None: it is none, or one that cannot be read."""
    if not (place / MANIFEST).is_file():
        return None
    try:
        told = read_json(place / MANIFEST, "prepare again")
    except RunError:
        return None
    return told if isinstance(told.get("content_hash"), str) and "name" in told else None


def _listed(others: dict[Path, dict[str, Any]]) -> list[str]:
    named = [f"{place} with {summary_of(told)}" for place, told in list(others.items())[:_TOLD]]
    left = len(others) - len(named)
    return [*named, f"{left} more"] if left else named


def summary_of(told: dict[str, Any]) -> str:
    """A data set in a few words, as far as `run.json` or a manifest tells of it."""
    parts = [told["name"]]
    if "num_users" in told:
        parts += [f"{told['num_users']:,} users", f"{told['num_items']:,} items"]
    parts += [f"source: {told['source']}"] if "source" in told else []
    parts += [f"filters: {'; '.join(told['filters'])}"] if told.get("filters") else []
    return f"{told['content_hash'][:12]} ({', '.join(parts)})"
