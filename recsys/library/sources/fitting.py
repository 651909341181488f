"""`recsys.fit`: a data set and the name of a model, or a config, become a recommender."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from typing import Any, cast

from recsys.baselines import BASELINES
from recsys.baselines.base import BaselineConfig
from recsys.config import StrictModel, apply_overrides, load_yaml, parse
from recsys.data.dataset import Dataset, load_dataset
from recsys.errors import ConfigError, DataError
from recsys.evaluation.protocol import FitOn
from recsys.library.recommender import Recommender
from recsys.library.sources.baselines import (
    baseline_config,
    fitted_baseline,
    is_baseline,
    recommender_of_baseline,
)
from recsys.library.sources.runs import recommender_of_run, take_along
from recsys.models import MODELS
from recsys.recipes.training.train import train
from recsys.runs.config import RunConfig
from recsys.runs.folder import check_empty


def fit(
    data: Dataset | str | Path,
    model: str | Path | StrictModel,
    overrides: Sequence[str] = (),
    *,
    epochs: int | None = None,
    protocol: str | None = None,
    fit_on: FitOn | None = None,
    out: str | Path | None = None,
    device: str | None = None,
) -> Recommender:
    """Fits a model on a data set.

    Args:
        data: of `Dataset.from_frame`, or a dataset folder.
        model: a name (sasrec, fmrlrec, two_tower; popularity, markov, ease, ...), the config file
            of a run, or the config object of a run or a baseline.
        overrides: `key=value` changes: of a run `model.history_length=100`, of a baseline `l2=50`.
        epochs: of training; None: the config's.
        protocol: the preset that decides what is held out; None: the config's, or s3rec.
        fit_on: train, train+valid or all; None: the config's, or train: the validation part then
            decides when to stop.
        device: auto, cpu, cuda, cuda:1 or mps; None: the config's, or auto. Baselines are fitted
            on the CPU.
        out: a folder to be kept; None: what is trained goes with the object, unless it is saved.

    Raises:
        ConfigError: there is no such model, or an option is none of its.
        DataError, RunError, ProtocolError: as of training.
    """
    dataset = _dataset_of(data)
    if out is not None:
        check_empty(Path(out))
    if is_baseline(model):
        if epochs is not None:
            raise ConfigError(f"{model} is fitted at once; leave epochs={epochs} out")
        config = baseline_config(cast("str | BaselineConfig", model), overrides)
        fitted = fitted_baseline(config, dataset, protocol or "s3rec", fit_on or "train")
        made = recommender_of_baseline(fitted)
        if out is not None:
            made.save(out)
        return made
    options = {"trainer.epochs": epochs, "protocol": protocol, "fit_on": fit_on, "device": device}
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    return _trained(_run_config(model, dataset, [*overrides, *given]), dataset, out)


def _dataset_of(data: object) -> Dataset:
    if isinstance(data, Dataset):
        return data
    if isinstance(data, str | Path):
        return load_dataset(data)
    raise DataError(
        f"data is a {type(data).__name__}; make a data set of a frame by recsys.Dataset.from_frame("
        "frame, user=..., item=..., time=...), or name a dataset folder"
    )


def _run_config(
    model: str | Path | StrictModel, dataset: Dataset, overrides: Sequence[str]
) -> RunConfig:
    tree: Mapping[str, Any]
    if isinstance(model, RunConfig):
        tree, origin = model.model_dump(mode="json", exclude_unset=True), "the config"
    elif isinstance(model, str) and (model in MODELS.names() or ":" in model):
        tree, origin = {"model": {"name": model}}, f"the options of {model}"
    elif isinstance(model, Path) or (isinstance(model, str) and model.endswith((".yaml", ".yml"))):
        tree, origin = load_yaml(Path(model)), str(model)
    else:
        known = ", ".join([*MODELS.names(), *BASELINES.names()])
        raise ConfigError(
            f"there is no model {model!r}; there are {known}, or name a "
            "config file (.yaml), or give a RunConfig"
        )
    here = {**tree, "data": str(dataset.folder.resolve())}
    return parse(RunConfig, apply_overrides(here, list(overrides)), origin)


def _trained(config: RunConfig, dataset: Dataset, out: str | Path | None) -> Recommender:
    if out is not None:
        folder = train(config, out=out)
        if dataset.temporary:
            take_along(folder, dataset)
        return recommender_of_run(folder, dataset)
    place = Path(tempfile.mkdtemp(prefix="recsys-"))
    try:
        made = recommender_of_run(train(config, out=place / "run"), dataset)
    except BaseException:
        rmtree(place, ignore_errors=True)
        raise
    weakref.finalize(made, rmtree, place, ignore_errors=True)
    return made
