"""The origin of a run: commit, package versions, machine, data set and features."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from recsys.data.dataset import Dataset
from recsys.data.features.loading import load_features
from recsys.data.features.user_columns import user_features
from recsys.doctor import installed
from recsys.errors import RunError
from recsys.runs.config import RunConfig
from recsys.runs.finding import summary_of
from recsys.runs.records import RUN_SCHEMA, load_config, load_run_info

PACKAGES = (
    *("recsys", "torch", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu"),
    *("numpy", "polars", "scipy", "implicit"),
)


def describe_run(config: RunConfig, dataset: Dataset) -> dict[str, Any]:
    """What `run.json` says when training starts."""
    return {
        "schema_version": RUN_SCHEMA,
        "name": config.model.name,
        "state": "started",
        "dataset": describe_data(dataset),
        "features_hash": features_hash(config, dataset),
        "seed": config.trainer.seed,
        "commit": git_commit(),
        "versions": {
            "python": platform.python_version(),
            **{name: found for name in PACKAGES if (found := installed(name))},
        },
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def git_commit() -> str | None:
    """Commit of the checkout this package runs from, with `+` when it was changed; None: no git."""
    here = Path(__file__).resolve().parent
    git = ["git", "-C", str(here)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changes.stdout.strip() else "")


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """Enough to find the data set again, or to prepare it again."""
    known = ("name", "content_hash", "source", "filters", "num_users", "num_items")
    told = dataset.manifest.model_dump(mode="json")
    return {"folder": str(dataset.folder.resolve()), **{key: told[key] for key in known}}


def features_hash(config: RunConfig, dataset: Dataset) -> str | None:
    """Of the features of items and columns of users that the model reads; None: it reads none."""
    names, columns = config.model.item_features, config.model.user_columns
    found = load_features(dataset.folder, names).features_hash if names else None
    if columns is None:
        return found
    users = user_features(dataset.user_frame(), columns, str(dataset.folder)).features_hash
    return hashlib.sha256(f"{found} {users}".encode()).hexdigest()


def check_dataset(folder: Path, dataset: Dataset) -> None:
    """Raises RunError when `dataset`, or a feature in it, is not what the run was trained on."""
    trained, found = load_run_info(folder)["dataset"], describe_data(dataset)
    if trained["content_hash"] != found["content_hash"]:
        raise RunError(
            f"{folder} was trained on data with content hash {summary_of(trained)}; "
            f"{dataset.folder} has {summary_of(found)}. It was prepared again, from another file "
            f"or with other options, or is another data set: give the right one (--data FOLDER), "
            "prepare it as it was, or train again"
        )
    config = load_config(folder)
    before, now = load_run_info(folder).get("features_hash"), features_hash(config, dataset)
    if before != now:
        columns = config.model.user_columns
        names = (*config.model.item_features, *(() if columns is None else columns.names))
        told = "" if columns is None else ", and columns of users by the same user_file"
        raise RunError(
            f"{folder} was trained on features ({', '.join(names)}) with hash "
            f"{str(before)[:12]}, those of {dataset.folder} have {str(now)[:12]}; make them again "
            f"with the same encoder and options (`recsys encode`, `attach`, `columns`){told}, or "
            "train again"
        )
