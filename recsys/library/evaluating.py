"""`recsys.evaluate`: figures of a run folder, or of any recommender on its data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from recsys.data.dataset import Dataset, load_dataset
from recsys.errors import ConfigError, RunError
from recsys.evaluation.evaluate import DEFAULT_KS, EvaluationOptions
from recsys.evaluation.evaluate import evaluate as measure
from recsys.evaluation.metric_table import MetricTable, join_tables
from recsys.evaluation.protocol import FitOn, Part, find_protocol
from recsys.library.engines.model_engine import ModelEngine
from recsys.library.recommender import Recommender
from recsys.library.sources.baselines import FittedBaseline
from recsys.library.sources.bundle_model import BundleModel
from recsys.model_protocols import ScoreModel, VectorModel
from recsys.recipes.evaluating.baselines import Figures, choose, measure_baselines, split_of
from recsys.recipes.evaluating.evaluate import evaluate as evaluate_run
from recsys.runs.loading import LoadedRun


def evaluate(
    model: Recommender | str | Path,
    data: Dataset | str | Path | None = None,
    *,
    protocol: str | None = None,
    part: Part = "test",
    ks: Sequence[int] = DEFAULT_KS,
    metrics: Sequence[str] = (),
    with_baselines: bool | None = None,
    **options: Any,
) -> MetricTable:
    """Recall, ndcg and more at every granularity, under a protocol.

    Args:
        model: a recommender, or a run folder (then its table is kept there; see
            `recipes.evaluating.evaluate`, whose options may follow).
        data: what the model was fitted on; None: a run or a baseline knows where it lies.
        protocol: a preset; None: the one it was fitted under.
        part: `valid` or `test`.
        ks: metric cutoffs.
        metrics: more of them, by name.
        with_baselines: fit and measure the baselines too; None: beside a run folder.

    Raises:
        RunError: the data is not what the model was fitted on.
        ProtocolError, ConfigError, DataError: see their messages.
    """
    if not isinstance(model, Recommender):
        folder = data.folder if isinstance(data, Dataset) else data
        beside = with_baselines is not False
        return evaluate_run(
            model if folder is None else LoadedRun(model, data=folder),
            part=part,
            protocol=protocol,
            ks=ks,
            metrics=metrics,
            with_baselines=beside,
            **options,
        )
    if options:
        raise ConfigError(f"{', '.join(options)}: options of run folders; name the folder")
    dataset = _dataset_of(model, data)
    under, fit_on = _fitted(model)
    preset = find_protocol(protocol or under)
    split = split_of(dataset, preset.name)
    if isinstance(model.origin, LoadedRun):
        model.origin.check_part(part)
        if model.origin.split.rule.name == preset.split:
            split = model.origin.split
    table = measure(
        _measurable(model), dataset, split, protocol=preset, part=part, fit_on=fit_on, ks=ks,
        options=EvaluationOptions(run=Path(model.name).name, metrics=tuple(metrics)),
    )  # fmt: skip
    if not with_baselines:
        return table
    chosen = choose((), dataset)
    others = measure_baselines(
        chosen, dataset, split, preset, part, fit_on, Figures(ks, tuple(metrics))
    )
    return join_tables([table, others])


def _dataset_of(model: Recommender, data: Dataset | str | Path | None) -> Dataset:
    own = model.engine.dataset if isinstance(model.engine, ModelEngine) else None
    if data is None:
        if own is None:
            raise ConfigError(f"{model.name} is a bundle, without its data; name it: data=...")
        return own
    dataset = data if isinstance(data, Dataset) else load_dataset(data)
    wanted = own.manifest.content_hash if own is not None else _told(model, "content_hash")
    if wanted is None or wanted != dataset.manifest.content_hash:
        raise RunError(
            f"{model.name} was fitted on data with content hash {str(wanted)[:12]}, "
            f"{dataset.folder} has {dataset.manifest.content_hash[:12]}; its users and items are "
            "others: give the data it was fitted on"
        )
    return dataset


def _fitted(model: Recommender) -> tuple[str, FitOn]:
    """The protocol a model was fitted under, and the part it was fitted on."""
    origin = model.origin
    if isinstance(origin, LoadedRun):
        return origin.config.protocol, origin.fit_on
    if isinstance(origin, FittedBaseline):
        return origin.protocol, origin.fit_on
    return _told(model, "protocol"), _told(model, "fit_on")


def _told(model: Recommender, key: str) -> Any:
    """What a bundle's card says."""
    card = model.engine.bundle.manifest.protocol  # type: ignore[attr-defined]
    return card.get(key)


def _measurable(model: Recommender) -> VectorModel | ScoreModel:
    if isinstance(model.engine, ModelEngine):
        return model.engine.model
    with torch.inference_mode():
        return BundleModel(model.engine.bundle)  # type: ignore[attr-defined]
