"""Trained runs as recommenders: read from their folders, kept by copying them."""

from __future__ import annotations

import shutil
from pathlib import Path

from recsys.data.dataset import Dataset
from recsys.library.engines.model_engine import ModelEngine
from recsys.library.recommender import Recommender
from recsys.library.sources.keeping import DATA, keep_data
from recsys.runs.folder import check_empty, new_folder
from recsys.runs.loading import LoadedRun
from recsys.runs.records import load_config, write_config

_LEFT = shutil.ignore_patterns("checkpoints", ".*")
"""What only a training that goes on needs."""


def recommender_of_run(folder: Path, dataset: Dataset | None = None) -> Recommender:
    """The face of a finished run.

    Args:
        folder: of the run.
        dataset: the one it was trained on, to be kept as long as the recommender; None: the run
            says where it lies.

    Raises:
        RunError: it is no run, has not ended, or its weights or its data set do not fit.
    """
    loaded = LoadedRun(folder)
    data = loaded.dataset if dataset is None else dataset

    def keep(out: Path) -> Path:
        check_empty(out)
        with new_folder(out) as temporary:
            shutil.copytree(folder, temporary, ignore=_LEFT, dirs_exist_ok=True)
            if data.temporary:
                take_along(temporary, data)
        return out

    users, items = data.user_frame()["user_id"], data.item_frame()["item_id"]
    engine = ModelEngine(loaded.model, data, loaded.name)
    return Recommender(engine, users, items, name=loaded.name, keep=keep, origin=loaded)


def take_along(folder: Path, dataset: Dataset) -> None:
    """Puts the data set of a run into its folder."""
    keep_data(folder, dataset)
    write_config(folder, load_config(folder).model_copy(update={"data": Path(DATA)}))
