"""`recsys baselines`: the simple models that must be beaten, through the same evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from recsys.baselines import (
    NAMES,
    BaselineConfig,
    default_baselines,
    fit_baseline,
)
from recsys.baselines.content_knn import ContentKNNConfig
from recsys.config import StrictModel, apply_overrides, parse
from recsys.data.dataset import Dataset, SplitRule, load_dataset
from recsys.data.features import ItemFeatures, load_features
from recsys.data.splitting import Split, make_split
from recsys.errors import ConfigError
from recsys.evaluation.evaluate import DEFAULT_KS, evaluate
from recsys.evaluation.held_out import fit_histories
from recsys.evaluation.protocol import FitOn, Part, Protocol, find_protocol
from recsys.evaluation.table import MetricTable, join_tables
from recsys.progress import console


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
    table = measure_baselines(
        choose(names, dataset.num_items, overrides), dataset, split, preset, part, fit_on, ks
    )
    if out is not None:
        table.save(Path(out))
    return table


def choose(
    names: Sequence[str], num_items: int, overrides: Sequence[str] = ()
) -> tuple[BaselineConfig, ...]:
    """Configs of the named baselines, or of the default ones; says what is left out and why.

    Raises:
        ConfigError: an unknown name, or an override of what was not named.
    """
    changes = apply_overrides({}, list(overrides))
    if strangers := [name for name in changes if name not in names]:
        raise ConfigError(f"{strangers[0]} has options but is not named; name it as well")
    if not names:
        default = default_baselines(num_items)
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
) -> MetricTable:
    """Fits each on the rows of `fit_on` and joins their tables."""
    histories = fit_histories(dataset, split, fit_on)
    tables = [
        evaluate(
            fit_baseline(config, histories, dataset.num_items, _features(config, dataset)),
            dataset,
            split,
            protocol=protocol,
            part=part,
            fit_on=fit_on,
            ks=ks,
            run=config.name,
        )
        for config in configs
    ]
    return join_tables(tables)


def _features(config: BaselineConfig, dataset: Dataset) -> ItemFeatures | None:
    """What a baseline reads of the items."""
    if not isinstance(config, ContentKNNConfig):
        return None
    return load_features(dataset.folder, config.features)
