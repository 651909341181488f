"""The config of a run: all settings of a training, in one YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from recsys.config import StrictModel, apply_overrides, load_yaml, parse
from recsys.data.batching import BatchingConfig
from recsys.data.dataset import Dataset, SplitRule
from recsys.devices import checked_name
from recsys.errors import ConfigError, ProtocolError
from recsys.evaluation.protocol import PROTOCOLS, FitOn, check_time, find_protocol
from recsys.losses import AnyLossConfig, SampledSoftmaxConfig
from recsys.models import MODELS, AnyModelConfig, ModelConfig, SASRecConfig
from recsys.progress import console
from recsys.runs.idle import refuse_idle
from recsys.runs.updating import UpdateConfig
from recsys.tables.distributed.plan import ShardedConfig
from recsys.training.loggers import AnyLoggerConfig, LoggerConfig
from recsys.training.loggers.tensorboard import TensorBoardConfig
from recsys.training.trainer import TrainerConfig


class RunConfig(StrictModel):
    """All settings of a training run: one YAML file and `key=value` overrides."""

    data: Path
    """A dataset folder, as `recsys prepare` writes it."""
    mapped: bool = False
    """Histories stay on disk and are mapped: for those larger than memory. The same batches."""
    protocol: str = "s3rec"
    """The preset that decides the split, and whether validation filters seen items."""
    fit_on: FitOn = "train"
    """train+valid, all: nothing is held out to stop by, so exactly `trainer.epochs` are trained.
    all is for use, not for figures: the evaluator refuses such a run."""
    split: SplitRule | None = None
    """Quantiles of a global-time split; None: the data set's own rule, or the protocol's."""
    model: AnyModelConfig = Field(default_factory=SASRecConfig)
    loss: AnyLossConfig = Field(default_factory=SampledSoftmaxConfig)
    batching: BatchingConfig = BatchingConfig()
    trainer: TrainerConfig = TrainerConfig()
    update: UpdateConfig | None = None
    """The run that is gone on from, and how; None: trained anew. `recsys update` writes it."""
    logs: tuple[AnyLoggerConfig, ...] = (TensorBoardConfig(),)
    """Loggers, by name (`[tensorboard, wandb, mlflow]`) or as sections with a name and options."""
    device: str = "auto"
    """Where the model is trained: auto (a GPU, if there is one), cpu, cuda, cuda:1 or mps."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of torch and numpy; None: all cores. To repeat a run bit for bit, give its number."""

    @model_validator(mode="before")
    @classmethod
    def _as_the_model_is_usually_trained(cls, given: Any, info: ValidationInfo) -> Any:
        if (info.context or {}).get("stored") or not isinstance(given, Mapping):
            return given
        usual, trainer = _usual_of(given.get("model")), given.get("trainer")
        if isinstance(trainer, Mapping) and "epochs" in trainer:  # asked for: not to be shortened
            usual = {**usual, "trainer": {**usual.get("trainer", {})}}
            usual["trainer"].pop("histories", None)
        return merge_usual(usual, given)

    @field_validator("logs", mode="before")
    @classmethod
    def _names_are_sections(cls, given: Any) -> Any:
        if not isinstance(given, list | tuple):
            raise ValueError("a list of loggers is expected, such as [tensorboard, wandb]")
        return [{"name": each} if isinstance(each, str) else each for each in given]

    @field_validator("logs")
    @classmethod
    def _each_logger_once(cls, given: tuple[LoggerConfig, ...]) -> tuple[LoggerConfig, ...]:
        names = [each.name for each in given]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} stands twice among the loggers")
        return given

    @field_validator("device")
    @classmethod
    def _there_is_such_a_device(cls, given: str) -> str:
        try:
            return checked_name(given)
        except ConfigError as error:
            raise ValueError(str(error)) from error

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
        if self.loss.draws is None and any(isinstance(x, ShardedConfig) for x in tables):
            raise ValueError(
                f"loss.name {self.loss.name} would gather the sharded table in every step; choose "
                "sampled_softmax or gbce, or another table"
            )
        return self

    @model_validator(mode="after")
    def _loss_fits_the_model(self) -> RunConfig:
        if not self.model.own_loss and (reason := self.loss.misfit(self.model)):
            raise ValueError(reason)
        return self

    @model_validator(mode="after")
    def _protocol_tells_the_time(self) -> RunConfig:
        if self.protocol in PROTOCOLS:  # another is refused where it is looked up
            try:
                reads = self.model.reads_time
                check_time(reads, PROTOCOLS[self.protocol], f"model {self.model.name}")
            except ProtocolError as error:
                raise ValueError(str(error)) from error
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
                f"split.name is {self.split.name}, protocol {self.protocol} needs {wanted}; "
                "leave split out or choose another protocol"
            )
        own = dataset.manifest.split
        return self.split or (own if own.name == wanted else SplitRule(name=wanted))


def _usual_of(model: object) -> Mapping[str, Any]:
    """What a section, or a config object, of a model is usually trained with."""
    if isinstance(model, ModelConfig):
        return model.usual
    name = (model or {}).get("name", "sasrec") if isinstance(model, Mapping | None) else None
    try:
        return MODELS.find(name).Config.usual if isinstance(name, str) else {}
    except ConfigError:
        return {}  # it is told where the section is read


def used_tree(config: RunConfig) -> dict[str, Any]:
    """The tree of a config that was used before, for a run that is made like it.

    What its model is usually trained with today is named in it as that run had it, so that a
    setting which an earlier version did not know is not put in.
    """
    tree = config.model_dump(mode="json", exclude_unset=True)
    return merge_usual(_same_keys(config.model.usual, config.model_dump(mode="json")), tree)


def _same_keys(usual: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _same_keys(value, whole[key]) if isinstance(value, Mapping) else whole[key]
        for key, value in usual.items()
        if key in whole
    }


def merge_usual(usual: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A tree of settings with those of `usual` for what is not named.

    A section of another `name` is of another kind, which nothing here belongs to.
    """
    merged = {**usual, **given}
    for key in usual.keys() & given.keys():
        value, own = usual[key], given[key]
        sections = isinstance(value, Mapping) and isinstance(own, Mapping)
        if sections and own.get("name", value.get("name")) == value.get("name"):
            merged[key] = merge_usual(value, own)
    return merged


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """A config file with overrides put in; the space of `recsys tune` in it is left out, and told.

    Raises:
        ConfigError: naming the file, the key and the nearest known one.
    """
    tree, space = read_tree(path, overrides)
    if space is not None:
        console.print(
            f"{path} has a section `tune`, the space of `recsys tune`; one run is made without it",
            style="yellow",
            soft_wrap=True,
        )
    return parse(RunConfig, tree, str(path))


def read_tree(path: str | Path, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], Any]:
    """What a config file says with overrides put in, and its section `tune` (None: it has none).

    Raises:
        ConfigError: the file is absent or no YAML, or an override is not of the form key=value.
    """
    tree = apply_overrides(load_yaml(Path(path)), list(overrides))
    return tree, tree.pop("tune", None)
