"""`model.update(frame)`: a run goes on with new rows, in memory or in a folder."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import rmtree
from typing import Any

from recsys.data.dataset import Dataset
from recsys.errors import ConfigError
from recsys.library.recommender import Recommender
from recsys.recipes.updating.update import update
from recsys.runs.folder import check_empty
from recsys.runs.loading import LoadedRun

COLUMNS = {"user": "user_id", "item": "item_id", "time": "timestamp"}


def updated(
    loaded: LoadedRun,
    known: Dataset,
    data: Any,
    overrides: Sequence[str],
    remake: Callable[[Path, Dataset, bool], Recommender],
    *,
    out: str | Path | None,
    compatible: bool,
    **columns: Any,
) -> Recommender:
    """See `Recommender.update`.

    Args:
        loaded: the run that is gone on from.
        known: its data set.
        data, overrides, out, compatible, columns: see there.
        remake: the recommender of a run folder and its data set, which is to be kept in it or not.
    """
    if out is not None:
        check_empty(Path(out))
    if isinstance(data, Dataset) and columns:
        raise ConfigError(
            f"{', '.join(columns)} are of a frame, and a data set was given; leave them out"
        )
    dataset = data if isinstance(data, Dataset) else _appended(known, data, columns)
    place = None if out is not None else Path(tempfile.mkdtemp(prefix="recsys-"))
    folder = Path(str(out)) if place is None else place / "run"
    try:
        update(loaded.folder, dataset, overrides, out=folder, compatible=compatible)
        made = remake(folder, dataset, place is None and dataset.temporary)
    except BaseException:
        if place is not None:
            rmtree(place, ignore_errors=True)
        raise
    if place is not None:
        weakref.finalize(made, rmtree, place, ignore_errors=True)
    return made


def _appended(known: Dataset, frame: Any, columns: dict[str, Any]) -> Dataset:
    """The known rows and those of a frame."""
    given = {key: value for key, value in columns.items() if value is not None}
    if known.timestamps is None:
        given.setdefault("order", "given")
    else:
        given = {**COLUMNS, **given}
    return Dataset.from_frame(frame, like=known, append=True, **given)
