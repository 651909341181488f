"""`recsys baselines`: the simple models that must be beaten, through the same evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from recsys.baselines import (
    NAMES,
    BaselineConfig,
    default_baselines,
    fit_baseline,
    is_dear,
    label_of,
)
from recsys.baselines.content_knn import ContentKNNConfig
from recsys.config import StrictModel, apply_overrides, parse
from recsys.data.dataset import Dataset, SplitRule, load_dataset
from recsys.data.features.loading import ItemFeatures, load_features
from recsys.data.splitting import Split, make_split
from recsys.errors import ConfigError
from recsys.evaluation.evaluate import DEFAULT_KS, evaluate
from recsys.evaluation.held_out import fit_histories
from recsys.evaluation.metric_table import MetricTable, join_tables
from recsys.evaluation.protocol import FitOn, Part, Protocol, find_protocol
from recsys.progress import console
from recsys.recipes.evaluating.baseline_settings import tune


class BaselinesConfig(StrictModel):
    """Which baselines to fit, each with its options."""

    models: tuple[BaselineConfig, ...] = Field(default=())
    """Empty: popularity, recent popularity, item-kNN and (where it fits in memory) EASE."""


def evaluate_baselines(
    data: str | Path,
    names: Sequence[str] = (),
    overrides: Sequence[str] = (),
    *,
    protocol: str = "s3rec",
    part: Part = "test",
    fit_on: FitOn = "train",
    ks: Sequence[int] = DEFAULT_KS,
    out: str | Path | None = None,
) -> MetricTable:
    """Fits baselines on a dataset folder and measures them.

    Settings that are not given are chosen on the validation part (`recipes.tuning`).

    Args:
        data: a dataset folder.
        names: which ones; empty: those always printed beside a neural model.
        overrides: `NAME.key=value` options of the named ones, e.g. `ease.l2=50`.
        protocol: a preset, see `recsys.evaluation.protocol`.
        part: `valid` or `test`.
        fit_on: `train` or `train+valid`.
        ks: metric cutoffs.
        out: a JSON file for the table.

    Raises:
        ConfigError: an unknown name. DataError, ProtocolError: see their messages.
    """
    dataset, preset = load_dataset(data), find_protocol(protocol)
    own = dataset.manifest.split
    split = make_split(dataset, own if own.name == preset.split else SplitRule(name=preset.split))
    chosen = choose(names, dataset, overrides)
    table = measure_baselines(chosen, dataset, split, preset, part, fit_on, ks, named=bool(names))
    if out is not None:
        table.save(Path(out))
    return table


def choose(
    names: Sequence[str], dataset: Dataset, overrides: Sequence[str] = ()
) -> tuple[BaselineConfig, ...]:
    """Configs of the named baselines, or of the default ones; says what is left out and why.

    Raises:
        ConfigError: an unknown name, or an override of what was not named.
    """
    changes = apply_overrides({}, list(overrides))
    if strangers := [name for name in changes if name not in names]:
        raise ConfigError(f"{strangers[0]} has options but is not named; name it as well")
    if not names:
        default = default_baselines(dataset.num_items, np.diff(dataset.offsets))
        for name, reason in default.left_out.items():
            console.print(f"{name} is left out: {reason}", style="yellow")
        return default.configs
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ConfigError(f"no baseline {', '.join(unknown)}; there are {', '.join(NAMES)}")
    tree = {"models": [{**changes.get(name, {}), "name": name} for name in names]}
    return parse(BaselinesConfig, tree, "the baselines asked for").models


def measure_baselines(
    configs: Sequence[BaselineConfig],
    dataset: Dataset,
    split: Split,
    protocol: Protocol,
    part: Part,
    fit_on: FitOn,
    ks: Sequence[int],
    *,
    named: bool = False,
) -> MetricTable:
    """Chooses the settings of each, fits it on the rows of `fit_on` and joins their tables.

    Baselines that nobody has named keep their default settings where to choose them takes minutes.
    """
    histories, timed = fit_histories(dataset, split, fit_on), dataset.timestamps is not None

    def table_of(config: BaselineConfig) -> MetricTable:
        if named or not is_dear(config, dataset.num_items, histories.lengths):
            config = tune(config, dataset, split, protocol)
        else:
            console.print(
                f"{config.name}: its settings are the default's, as choosing them takes minutes "
                f"here; for chosen ones: recsys baselines {dataset.folder} {config.name}",
                style="yellow",
            )
        return evaluate(
            fit_baseline(config, histories, dataset.num_items, _features(config, dataset)),
            dataset,
            split,
            protocol=protocol,
            part=part,
            fit_on=fit_on,
            ks=ks,
            run=label_of(config, timed=timed),
        )

    return join_tables([table_of(config) for config in configs])


def _features(config: BaselineConfig, dataset: Dataset) -> ItemFeatures | None:
    """What a baseline reads of the items."""
    if not isinstance(config, ContentKNNConfig):
        return None
    return load_features(dataset.folder, config.features)
