"""Trained runs as recommenders: read from their folders, kept by copying them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recsys.data.dataset import Dataset
from recsys.library.engines.model_engine import ModelEngine
from recsys.library.recommender import Recommender
from recsys.library.sources.keeping import DATA, keep_data
from recsys.library.sources.updating import updated
from recsys.runs.folder import check_empty, new_folder
from recsys.runs.loading import LoadedRun
from recsys.runs.records import load_config, write_config

_LEFT = shutil.ignore_patterns("checkpoints", ".*")
"""What only a training that goes on needs."""


def recommender_of_run(
    folder: Path,
    dataset: Dataset | None = None,
    *,
    data: str | Path | None = None,
    device: str | None = None,
) -> Recommender:
    """The face of a finished run.

    Args:
        folder: of the run.
        dataset: the one it was trained on, to be kept as long as the recommender; None: the run
            says where it lies.
        data: a folder of that data set, where the run has been moved.
        device: where its model goes; None: where it was trained.

    Raises:
        RunError: it is no run, has not ended, or its weights or its data set do not fit.
    """
    loaded = LoadedRun(folder, data=data, device=device)
    known = loaded.dataset if dataset is None else dataset

    def keep(out: Path) -> Path:
        check_empty(out)
        with new_folder(out) as temporary:
            shutil.copytree(folder, temporary, ignore=_LEFT, dirs_exist_ok=True)
            if known.temporary:
                take_along(temporary, known)
            elif data is not None:
                moved = loaded.config.model_copy(update={"data": known.folder.resolve()})
                write_config(temporary, moved)
        return out

    def go_on(new: Any, overrides: Sequence[str], **options: Any) -> Recommender:
        return updated(loaded, known, new, overrides, _remake, **options)

    users, items = known.user_frame()["user_id"], known.item_frame()["item_id"]
    engine = ModelEngine(loaded.model, known, loaded.name)
    return Recommender(
        engine, users, items, name=loaded.name, keep=keep, go_on=go_on, origin=loaded
    )


def _remake(folder: Path, dataset: Dataset, kept: bool) -> Recommender:
    if kept:
        take_along(folder, dataset)
    return recommender_of_run(folder, dataset)


def take_along(folder: Path, dataset: Dataset) -> None:
    """Puts the data set of a run into its folder."""
    keep_data(folder, dataset)
    write_config(folder, load_config(folder).model_copy(update={"data": Path(DATA)}))
