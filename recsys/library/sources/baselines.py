"""Baselines as recommenders: kept as their config, and fitted again when they are opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from recsys.baselines import BASELINES, fit_baseline
from recsys.baselines.base import Baseline, BaselineConfig
from recsys.config import apply_overrides, parse
from recsys.data.dataset import Dataset, load_dataset
from recsys.data.splitting import Split
from recsys.evaluation.held_out import fit_histories
from recsys.evaluation.protocol import FitOn
from recsys.files.atomic import read_json, write_json
from recsys.library.engines.model_engine import ModelEngine
from recsys.library.recommender import Recommender
from recsys.library.sources.keeping import DATA, keep_data
from recsys.recipes.evaluating.baselines import (
    BaselinesConfig,
    check_order,
    features_of,
    split_of,
)
from recsys.runs.finding import choose, near
from recsys.runs.folder import check_empty, new_folder

BASELINE = "baseline.json"


@dataclass(frozen=True)
class FittedBaseline:
    """A baseline with what it was fitted on."""

    config: BaselineConfig
    model: Baseline
    dataset: Dataset
    split: Split
    protocol: str
    fit_on: FitOn


def is_baseline(model: object) -> bool:
    """Whether this is the name or the config of a baseline."""
    if isinstance(model, str):
        return model in BASELINES.names()
    return isinstance(model, BaselineConfig)


def baseline_config(model: str | BaselineConfig, overrides: Sequence[str] = ()) -> BaselineConfig:
    """The config that a name, or a config with `key=value` changes, stands for.

    Raises:
        ConfigError: an option is none of its.
    """
    if isinstance(model, str):
        return _parsed({"name": model}, overrides)
    return _parsed(model.model_dump(mode="json"), overrides)


def _parsed(tree: dict[str, Any], overrides: Sequence[str]) -> BaselineConfig:
    changed = apply_overrides(tree, list(overrides))
    return parse(BaselinesConfig, {"models": [changed]}, f"the options of {tree['name']}").models[0]


def fitted_baseline(
    config: BaselineConfig, dataset: Dataset, protocol: str, fit_on: FitOn
) -> FittedBaseline:
    """Fits on the rows of `fit_on`.

    Raises:
        ConfigError, DataError, ProtocolError: as of `fit_baseline`, `make_split`.
    """
    check_order(config, dataset)
    split = split_of(dataset, protocol)
    rows = fit_histories(dataset, split, fit_on)
    model = fit_baseline(config, rows, dataset.num_items, features_of(config, dataset))
    return FittedBaseline(config, model, dataset, split, protocol, fit_on)


def recommender_of_baseline(fitted: FittedBaseline) -> Recommender:
    """Its face."""
    dataset, name = fitted.dataset, fitted.config.name

    def keep(out: Path) -> Path:
        check_empty(out)
        with new_folder(out) as temporary:
            where = str(dataset.folder.resolve())
            if dataset.temporary:
                keep_data(temporary, dataset)
                where = DATA
            record = {
                "config": fitted.config.model_dump(mode="json"),
                "data": where,
                "content_hash": dataset.manifest.content_hash,
                "protocol": fitted.protocol,
                "fit_on": fitted.fit_on,
            }
            write_json(temporary / BASELINE, record)
        return out

    engine = ModelEngine(fitted.model, dataset, name)
    users, items = dataset.user_frame()["user_id"], dataset.item_frame()["item_id"]
    return Recommender(engine, users, items, name=name, keep=keep, origin=fitted)


def _data_of(folder: Path, told: dict[str, Any], data: str | Path | None) -> Path:
    """Where the data of a kept baseline lies: as named, where it lay, or beside it."""
    trained = {"name": told["config"]["name"], "content_hash": told["content_hash"]}
    places = [folder / told["data"], *near(folder)] if data is None else [Path(data)]
    return choose(trained, places, f"the data set of {folder} is not there")


def load_baseline(folder: Path, data: str | Path | None) -> Recommender:
    """Opens what `save` wrote: fits the same config on the same data again.

    Raises:
        RunError: the data is other data.
    """
    told: dict[str, Any] = read_json(folder / BASELINE, "fit it again")
    dataset = load_dataset(_data_of(folder, told, data))
    config, fit_on = _parsed(told["config"], ()), cast(FitOn, told["fit_on"])
    return recommender_of_baseline(fitted_baseline(config, dataset, told["protocol"], fit_on))
