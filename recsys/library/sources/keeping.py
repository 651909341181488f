"""Folders that keep what was fitted, with the data of a frame in them."""

from __future__ import annotations

import shutil
from pathlib import Path

from recsys.data.dataset import Dataset

DATA = "data"
"""Where a folder holds its own data set."""


def keep_data(folder: Path, dataset: Dataset) -> None:
    """Copies a data set into a folder."""
    shutil.copytree(dataset.folder, folder / DATA)
