"""`recsys baselines`: figures of the baselines by the same evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from recsys.baselines import (
    BASELINES,
    AnyBaselineConfig,
    default_baselines,
    fit_baseline,
    label_of,
    order_obstacle,
)
from recsys.baselines.base import BaselineConfig
from recsys.config import StrictModel, apply_overrides, parse
from recsys.data.dataset import Dataset, SplitRule, load_dataset
from recsys.data.features.loading import ItemFeatures, load_features
from recsys.data.splitting import Split, make_split
from recsys.errors import ConfigError
from recsys.evaluation.evaluate import DEFAULT_KS, EvaluationOptions, evaluate
from recsys.evaluation.held_out import fit_histories
from recsys.evaluation.metric_table import MetricTable, join_tables
from recsys.evaluation.protocol import FitOn, Part, Protocol, find_protocol
from recsys.progress import console
from recsys.recipes.evaluating.baseline_settings import tune


class BaselinesConfig(StrictModel):
    """The baselines to fit, each with its options."""

    models: tuple[AnyBaselineConfig, ...] = Field(default=())
    """Empty: popularity, recent popularity, item-kNN and (where it fits in memory) EASE."""


@dataclass(frozen=True)
class Figures:
    """Metrics and cutoffs of the figures."""

    ks: Sequence[int] = DEFAULT_KS
    """Metric cutoffs."""
    metrics: tuple[str, ...] = ()
    """Further metrics, by name."""


def evaluate_baselines(
    data: str | Path,
    names: Sequence[str] = (),
    overrides: Sequence[str] = (),
    *,
    protocol: str = "s3rec",
    part: Part = "test",
    fit_on: FitOn = "train",
    ks: Sequence[int] = DEFAULT_KS,
    metrics: Sequence[str] = (),
) -> MetricTable:
    """Fits baselines on a dataset folder and measures them.

    Settings that are not given are chosen on the validation part (`baseline_settings`).

    Args:
        data: a dataset folder.
        names: the baselines; empty: `DefaultBaselines`.
        overrides: `NAME.key=value` options of the named baselines, e.g. `ease.l2=50`.
        protocol: a preset, see `recsys.evaluation.protocol`.
        part: `valid` or `test`.
        fit_on: `train` or `train+valid`.
        ks: metric cutoffs.
        metrics: further metrics, by name.

    Raises:
        ConfigError: an unknown name. DataError, ProtocolError: see their messages.
    """
    dataset, preset = load_dataset(data), find_protocol(protocol)
    split = split_of(dataset, protocol)
    chosen = choose(names, dataset, overrides)
    figures = Figures(ks, tuple(metrics))
    return measure_baselines(
        chosen, dataset, split, preset, part, fit_on, figures, named=bool(names)
    )


def split_of(dataset: Dataset, protocol: str) -> Split:
    """The split of a protocol, by the data set's own rule where it has one of that name.

    Raises:
        ProtocolError: there is no such protocol. DataError: the data cannot be split so.
    """
    own, wanted = dataset.manifest.split, find_protocol(protocol).split
    return make_split(dataset, own if own.name == wanted else SplitRule(name=wanted))


def choose(
    names: Sequence[str], dataset: Dataset, overrides: Sequence[str] = ()
) -> tuple[BaselineConfig, ...]:
    """Configs of the named baselines, or of the default ones; says what is left out and why.

    Raises:
        ConfigError: an unknown name, or an override of what was not named.
    """
    given = {name: [o for o in overrides if o.startswith(f"{name}.")] for name in names}
    if strangers := [o for o in overrides if not any(o in own for own in given.values())]:
        owner = strangers[0].partition("=")[0].rpartition(".")[0] or strangers[0]
        if "=" not in owner:
            BASELINES.find(owner)  # refuses what is no baseline
        raise ConfigError(
            f"{owner} has options but is not among the named baselines; name it as well"
        )
    changes = {
        name: apply_overrides({}, [o.removeprefix(f"{name}.") for o in own])
        for name, own in given.items()
    }
    if not names:
        default = default_baselines(dataset.num_items, np.diff(dataset.offsets))
        for name, reason in default.left_out.items():
            console.print(f"{name} is left out: {reason}", style="yellow")
        reasons = [order_obstacle(config, dataset.manifest) for config in default.configs]
        for reason in filter(None, reasons):
            console.print(f"left out: {reason}", style="yellow", soft_wrap=True)
        pairs = zip(default.configs, reasons, strict=True)
        return tuple(config for config, reason in pairs if reason is None)
    tree = {"models": [{**changes[name], "name": name} for name in names]}
    configs = parse(BaselinesConfig, tree, "the baselines asked for").models
    for config in configs:
        check_order(config, dataset)
    return configs


def check_order(config: BaselineConfig, dataset: Dataset) -> None:
    """Refuses what reads an order that is not there.

    Raises:
        ConfigError: with the baselines that there are instead.
    """
    if reason := order_obstacle(config, dataset.manifest):
        raise ConfigError(f"{reason}; choose popularity, item_knn, ease, als or bpr")


def measure_baselines(
    configs: Sequence[BaselineConfig],
    dataset: Dataset,
    split: Split,
    protocol: Protocol,
    part: Part,
    fit_on: FitOn,
    figures: Figures,
    *,
    named: bool = False,
) -> MetricTable:
    """Chooses the settings of each, fits it on the rows of `fit_on` and joins their tables.

    Baselines that nobody has named keep their default settings where to choose them takes minutes.
    """
    histories, timed = fit_histories(dataset, split, fit_on), dataset.timestamps is not None

    def table_of(config: BaselineConfig) -> MetricTable:
        if named or not config.takes_minutes(dataset.num_items, histories.lengths):
            config = tune(config, dataset, split, protocol)
        else:
            console.print(
                f"{config.name}: its settings are the default's, as choosing them takes minutes "
                f"here; for chosen ones: recsys baselines {dataset.folder} {config.name}",
                style="yellow",
            )
        return evaluate(
            fit_baseline(config, histories, dataset.num_items, features_of(config, dataset)),
            dataset,
            split,
            protocol=protocol,
            part=part,
            fit_on=fit_on,
            ks=figures.ks,
            options=EvaluationOptions(run=label_of(config, timed=timed), metrics=figures.metrics),
        )

    return join_tables([table_of(config) for config in configs])


def features_of(config: BaselineConfig, dataset: Dataset) -> ItemFeatures | None:
    """What a baseline reads of the items."""
    names = config.item_features
    return load_features(dataset.folder, names) if names else None
