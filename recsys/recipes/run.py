"""A run: its config, what its folder holds, and how both are read again.

runs/NAME/
    config.yaml           the resolved config
    run.json              commit, versions, data set hash, seed, machine, state
    log.jsonl             one record per epoch and validation; TensorBoard scalars beside it
    tensorboard/
    checkpoints/          what --resume continues from
    model.safetensors     the best weights
    metrics/PART-PROTOCOL.json
    report/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationInfo, model_validator

from recsys.baselines import NAMES
from recsys.config import StrictModel, apply_overrides, load_yaml, parse
from recsys.data.batching import BatchingConfig
from recsys.data.dataset import MANIFEST, Dataset, SplitRule, load_dataset
from recsys.data.features.loading import load_features
from recsys.data.negatives import NegativesConfig
from recsys.data.splitting import Split, make_split
from recsys.errors import ProtocolError, RunError
from recsys.evaluation.protocol import FitOn, find_protocol
from recsys.files.atomic import read_json, write_json
from recsys.files.named import inside
from recsys.losses.bpr import nested_bpr
from recsys.losses.gbce import GBCE
from recsys.losses.softmax import NestedLossOutput, nested_softmax
from recsys.models import MODELS, Model, ModelConfig, SASRecConfig
from recsys.recipes.idle import refuse_idle
from recsys.tables import DenseConfig
from recsys.tables.distributed.plan import ShardedConfig
from recsys.training.checkpoint import WEIGHTS, load_weights
from recsys.training.trainer import TrainerConfig

CONFIG = "config.yaml"
RUN = "run.json"
METRICS = "metrics"
RUN_SCHEMA = 1


class LossConfig(StrictModel):
    """The training objective, taken at every granularity."""

    name: Literal["softmax", "sampled_softmax", "gbce", "bpr"] = "sampled_softmax"
    """softmax: over the full catalogue. sampled_softmax, gbce, bpr: over `negatives`."""
    negatives: NegativesConfig = NegativesConfig()
    distillation: float = Field(default=0.5, ge=0, le=1)
    """softmax and sampled_softmax: the share of the full width's own probabilities, beside the
    target, in what every prefix learns to predict."""
    calibration: float = Field(default=0.75, ge=0, le=1)
    """gbce only. 0: binary cross-entropy, overconfident; 1: probabilities as of all items."""

    def objective(self, num_items: int, num_sizes: int) -> Callable[..., NestedLossOutput]:
        """What a model of `num_items` items and `num_sizes` granularities is trained on."""
        if self.name == "gbce":
            return GBCE(num_sizes, num_items, self.calibration)
        if self.name == "bpr":
            return nested_bpr
        return partial(nested_softmax, distillation=self.distillation)


class RunConfig(StrictModel):
    """Everything a training run is made from: one YAML file, and `key=value` overrides."""

    data: Path
    """A dataset folder, as `recsys prepare` writes it."""
    mapped: bool = False
    """Histories stay on disk and are mapped: for those larger than memory. The same batches."""
    protocol: str = "s3rec"
    """The preset that decides the split, and whether validation filters seen items."""
    fit_on: FitOn = "train"
    """train+valid: nothing is held out to stop by, so exactly `trainer.epochs` are trained."""
    split: SplitRule | None = None
    """Quantiles of a global-time split; None: the data set's own rule, or the protocol's."""
    model: ModelConfig = Field(default_factory=SASRecConfig)
    loss: LossConfig = LossConfig()
    batching: BatchingConfig = BatchingConfig()
    trainer: TrainerConfig = TrainerConfig()
    threads: int | None = Field(default=None, ge=1)
    """Threads of torch; None: all cores. Bit-identical repetition needs the same number."""

    @model_validator(mode="after")
    def _metric_can_be_measured(self) -> RunConfig:
        _, slash, size = self.trainer.metric.partition("/d")
        if slash and int(size) not in self.model.granularities.sizes:
            raise ValueError(
                f"trainer.metric {self.trainer.metric} names a granularity that is not among "
                f"{self.model.granularities.sizes}"
            )
        return self

    @model_validator(mode="after")
    def _sharded_tables_are_sampled(self) -> RunConfig:
        tables = [getattr(self.model, name) for name in type(self.model).model_fields]
        if self.loss.name == "softmax" and any(isinstance(x, ShardedConfig) for x in tables):
            raise ValueError(
                "loss.name softmax would gather the sharded table in every step; choose "
                "sampled_softmax or gbce, or another table"
            )
        return self

    @model_validator(mode="after")
    def _options_do_something(self, info: ValidationInfo) -> RunConfig:
        if not (info.context or {}).get("stored"):  # an older version may have taken it
            refuse_idle(self)
        return self

    def split_rule(self, dataset: Dataset) -> SplitRule:
        """The rule this run cuts histories by.

        Raises:
            ProtocolError: `split` contradicts the protocol.
        """
        wanted = find_protocol(self.protocol).split
        if self.split is not None and self.split.name != wanted:
            raise ProtocolError(
                f"split.name is {self.split.name}, protocol {self.protocol} wants {wanted}; "
                "leave split out or choose another protocol"
            )
        own = dataset.manifest.split
        return self.split or (own if own.name == wanted else SplitRule(name=wanted))


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """A config file with overrides put in.

    Raises:
        ConfigError: naming the file, the key and the nearest known one.
    """
    path = Path(path)
    return parse(RunConfig, apply_overrides(load_yaml(path), list(overrides)), str(path))


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """Enough to find the data set again, or to prepare it again."""
    known = ("name", "content_hash", "source", "filters", "num_users", "num_items")
    told = dataset.manifest.model_dump(mode="json")
    return {"folder": str(dataset.folder.resolve()), **{key: told[key] for key in known}}


def load_config(folder: Path) -> RunConfig:
    """The resolved config of a run.

    Raises:
        RunError: the folder is no run.
        DataError: the file is a link that leads out of it.
    """
    if not inside(folder, CONFIG).is_file():
        raise RunError(f"{folder} is no run folder (no {CONFIG}); train one with `recsys train`")
    return parse(RunConfig, load_yaml(folder / CONFIG), str(folder / CONFIG), stored=True)


def load_run_info(folder: Path) -> dict[str, Any]:
    """What `run.json` says.

    Raises:
        RunError: the folder is no run, or of another schema version.
    """
    path = inside(folder, RUN)
    if not path.is_file():
        raise RunError(f"{folder} is no run folder (no {RUN}); train one with `recsys train`")
    info = read_json(path, "train again")
    if info.get("schema_version") != RUN_SCHEMA:
        raise RunError(
            f"{path} has schema_version {info.get('schema_version')!r}, this version reads "
            f"{RUN_SCHEMA}; train again"
        )
    return info


def update_run_info(folder: Path, **changes: Any) -> None:
    """Replaces fields of `run.json`."""
    write_json(folder / RUN, {**load_run_info(folder), **changes})


def check_dataset(folder: Path, dataset: Dataset) -> None:
    """Raises RunError when `dataset`, or a feature in it, is not what the run was trained on."""
    trained, found = load_run_info(folder)["dataset"], describe_data(dataset)
    if trained["content_hash"] != found["content_hash"]:
        raise RunError(
            f"{folder} was trained on data with content hash {_summary(trained)}; "
            f"{dataset.folder} has {_summary(found)}. It was prepared again, from another file or "
            f"with other options, or is another data set: name the right one as `data` in "
            f"{folder / CONFIG}, prepare it as it was, or train again"
        )
    config = load_config(folder)
    before, now = load_run_info(folder).get("features_hash"), features_hash(config, dataset)
    if before != now:
        raise RunError(
            f"{folder} was trained on features ({', '.join(config.model.features)}) with hash "
            f"{str(before)[:12]}, those of {dataset.folder} have {str(now)[:12]}; make them again "
            "with the same encoder and options (`recsys encode`, `attach`, `columns`), or train "
            "again"
        )


def _summary(told: dict[str, Any]) -> str:
    """A data set in a few words, as far as `run.json` tells of it."""
    parts = [told["name"]]
    if "num_users" in told:
        parts += [f"{told['num_users']:,} users", f"{told['num_items']:,} items"]
    parts += [f"source: {told['source']}"] if "source" in told else []
    parts += [f"filters: {'; '.join(told['filters'])}"] if told.get("filters") else []
    return f"{told['content_hash'][:12]} ({', '.join(parts)})"


def features_hash(config: RunConfig, dataset: Dataset) -> str | None:
    """Of the features that the model reads; None: it reads none."""
    names = config.model.features
    return load_features(dataset.folder, names).features_hash if names else None


def build_model(config: RunConfig, dataset: Dataset) -> Model:
    """An untrained model, initialized from the run's seed.

    Raises:
        DataError: the data set lacks a feature that the model reads.
    """
    _, module = MODELS[config.model.name]
    names = config.model.features
    features = load_features(dataset.folder, names) if names else None
    with torch.random.fork_rng(devices=[]):  # the caller's own random numbers go on as they were
        torch.manual_seed(config.trainer.seed)
        built: Model = module(
            config.model,
            dataset.num_items,
            num_users=dataset.num_users,
            features=features,
            objective=config.loss.objective(dataset.num_items, len(config.model.granularities)),
        )
    return built


def run_name(folder: str | Path) -> str:
    """A run's name in tables: that of its folder, told apart from those of baselines."""
    name = Path(folder).resolve().name
    return f"{name} (run)" if name.partition(" ")[0] in NAMES else name


class LoadedRun:
    """A trained run, ready to be measured: config, data, split and the model in eval mode."""

    def __init__(self, folder: str | Path, *, unfinished: bool = False) -> None:
        """Reads a run folder; `unfinished`: also one whose training has not ended.

        Raises:
            RunError: it is no run, has not ended, or its weights or its data set do not fit.
        """
        self.folder = Path(folder)
        self.info = load_run_info(self.folder)
        if self.info["state"] != "finished" and not unfinished:
            raise RunError(
                f"training of {folder} has not ended; continue it with `recsys train --resume`, "
                "or ask for the best weights so far with --unfinished"
            )
        self.config = load_config(self.folder)
        self.dataset = load_dataset(find_data(self.config, self.folder), mapped=self.config.mapped)
        check_dataset(self.folder, self.dataset)
        self.split: Split = make_split(self.dataset, self.config.split_rule(self.dataset))
        self.model = build_model(on_one_process(self.config), self.dataset)
        load_weights(self.model, inside(self.folder, WEIGHTS))
        self.model.eval()

    @property
    def name(self) -> str:
        """The run's name in tables."""
        return run_name(self.folder)

    @property
    def fit_on(self) -> FitOn:
        """What anything in the model was fitted on: training, or calibration after it."""
        return fitted_on(self.config, self.info)

    def check_part(self, part: str) -> None:
        """Refuses a part that something in the model was fitted to.

        Raises:
            ProtocolError: it was.
        """
        if part == "valid" and self.fit_on == "train+valid":
            calibrated = "calibrated" in self.info
            how = "calibrated on the validation part" if calibrated else "fitted on train+valid"
            raise ProtocolError(
                f"{self.folder} was {how}, so figures of that part would be of what it has seen; "
                "measure it on the test part (--split test)"
            )


def fitted_on(config: RunConfig, info: Mapping[str, Any]) -> FitOn:
    """What a run was fitted on, all its steps taken together: its card says so."""
    return "train+valid" if "calibrated" in info else config.fit_on


def on_one_process(config: RunConfig) -> RunConfig:
    """The same with tables that one process can read: a sharded one is stored as a dense one is."""
    model = config.model
    swapped = {
        name: DenseConfig()
        for name in type(model).model_fields
        if isinstance(getattr(model, name), ShardedConfig)
    }
    return config.model_copy(update={"model": model.model_copy(update=swapped)})


def find_data(config: RunConfig, folder: Path) -> Path:
    """Where the data set of a run lies.

    A relative path is looked for from here and from the folders above the run; what is not there,
    where it lay when the run was trained. Of several the one with the run's content hash is taken.

    Raises:
        RunError: there is none in any of these places.
    """
    trained = load_run_info(folder)["dataset"]
    if config.data.is_absolute() and config.data.exists():
        return config.data
    above = () if config.data.is_absolute() else folder.resolve().parents
    places = [config.data, *(parent / config.data for parent in above)]
    places += [Path(trained["folder"])] if "folder" in trained else []
    found = [place for place in places if (place / MANIFEST).is_file()]
    if not found:
        raise RunError(
            f"there is no {config.data} here, nor above {folder}; name the data set of "
            f"{_summary(trained)} as `data` in {folder / CONFIG}: its content hash is compared"
        )
    hashes = {
        place: read_json(place / MANIFEST, "prepare again")["content_hash"] for place in found
    }
    same = [place for place in found if hashes[place] == trained["content_hash"]]
    return same[0] if same else found[0]


def load_run(folder: str | Path, *, unfinished: bool = False) -> LoadedRun:
    """A trained run with its model in eval mode; see `LoadedRun`.

    Raises:
        RunError: it is no run, or its weights or its data set do not fit.
    """
    return LoadedRun(folder, unfinished=unfinished)
