"""Loading of trained runs from their folders, and construction of models from a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from recsys.data.dataset import Dataset, load_dataset
from recsys.data.features.loading import load_features
from recsys.data.features.user_columns import user_features
from recsys.data.splitting import Split, make_split
from recsys.devices import AUTO, checked_name, find_device, is_host, memory_told
from recsys.errors import ConfigError, DataError, ProtocolError, RunError
from recsys.evaluation.held_out import fit_histories
from recsys.evaluation.protocol import FitOn
from recsys.files.named import inside
from recsys.models import MODELS, Model
from recsys.runs.config import RunConfig
from recsys.runs.finding import find_data
from recsys.runs.provenance import check_dataset
from recsys.runs.records import fitted_on, load_config, load_run_info, run_name
from recsys.tables import DenseConfig, MappedTable
from recsys.tables.distributed.plan import ShardedConfig, sharded_tables
from recsys.training.checkpoint import WEIGHTS, load_weights
from recsys.training.trainer import has_checkpoint

_BUILT = ("config", "granularities", "scales")


def build_model(config: RunConfig, dataset: Dataset) -> Model:
    """An untrained model, initialized from the run's seed.

    Raises:
        DataError: the data set lacks a feature that the model reads, or times.
        ConfigError: the model lacks something, or the users a column that it reads.
    """
    if not (dataset.manifest.ordered or config.model.order_free):
        raise ConfigError(
            f"{config.model.name} reads the order of histories, and those of "
            f"{dataset.manifest.name} have none; choose a model that does not, such as two_tower, "
            "elsa or ials"
        )
    module: Any = MODELS.find(config.model.name)
    names = config.model.item_features
    if config.model.reads_time != "none" and dataset.timestamps is None:
        raise DataError(
            f"model {config.model.name} reads time, and {dataset.manifest.name} has no timestamps; "
            "prepare it with a column of times, or say model.time=none"
        )
    features = load_features(dataset.folder, names) if names else None
    more, columns = {}, config.model.user_columns
    if columns is not None:
        more["user_features"] = user_features(dataset.user_frame(), columns, str(dataset.folder))
    sizes = dataset.num_items, len(config.model.granularities)
    loss = config.loss
    with torch.random.fork_rng(devices=[]):  # the caller's own random numbers go on as they were
        torch.manual_seed(config.trainer.seed)
        built: Model = module(
            config.model,
            dataset.num_items,
            num_users=dataset.num_users,
            features=features,
            **more,
            objective=loss.grouped(*sizes) if config.model.groups_pairs else loss.objective(*sizes),
        )
    if missing := [name for name in _BUILT if not hasattr(built, name)]:
        raise ConfigError(
            f"{config.model.name} was built without {', '.join(missing)}; its __init__ must set "
            "what recsys.models.Model declares"
        )
    return built


def tell_rows(model: Model, dataset: Dataset, split: Split, fit_on: FitOn) -> None:
    """Tells a model what it is fitted on, if it wants to know."""
    if model.config.reads_rows:
        model.note_rows(fit_histories(dataset, split, fit_on))


def has_begun(folder: Path) -> bool:
    """Whether a run has weights beyond its first ones: a killed one may have no checkpoint yet."""
    return has_checkpoint(folder) or load_run_info(folder)["state"] == "finished"


class LoadedRun:
    """A trained run: config, data, split, and the model in evaluation mode."""

    def __init__(
        self,
        folder: str | Path,
        *,
        unfinished: bool = False,
        data: str | Path | None = None,
        device: str | None = None,
    ) -> None:
        """Reads a run folder; `unfinished`, `data`, `device`: see `load_run`.

        Raises:
            ConfigError: there is no such device, or it cannot hold the model.
            RunError: it is not a run, has not ended, or its weights or its data set do not fit.
        """
        self.folder = Path(folder)
        checked_name(device or AUTO)
        self.info = load_run_info(self.folder)
        if self.info["state"] != "finished" and not unfinished:
            raise RunError(
                f"training of {folder} has not ended; continue it with `recsys train --resume` "
                "(`recsys evaluate --unfinished` alone measures the best weights so far)"
            )
        self.config = load_config(self.folder)
        where = find_data(self.config, self.folder, data)
        self.dataset = load_dataset(where, mapped=self.config.mapped)
        check_dataset(self.folder, self.dataset)
        self.split: Split = make_split(self.dataset, self.config.split_rule(self.dataset))
        self.model = build_model(on_one_process(self.config), self.dataset)
        load_weights(self.model, inside(self.folder, WEIGHTS))
        tell_rows(self.model, self.dataset, self.split, self.config.fit_on)
        place(self.model, device or _usual(self.config.device)).eval()

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
        if self.fit_on == "all":
            raise ProtocolError(
                f"{self.folder} was fitted on all rows, so figures of any part would be of what it "
                "has seen; measure the run it takes its epochs from"
            )
        if part == "valid" and self.fit_on == "train+valid":
            calibrated = "calibrated" in self.info
            how = "calibrated on the validation part" if calibrated else "fitted on train+valid"
            raise ProtocolError(
                f"{self.folder} was {how}, so figures of that part would be of what it has seen; "
                "measure it on the test part (--split test)"
            )


def place(model: Model, device: str) -> Model:
    """Moves a model to the device of that name; `auto` is the CPU for one that only that can hold.

    Raises:
        ConfigError: there is no such device, or a table of the model cannot go there.
        RunError: its memory is too small.
    """
    stuck = [name for name, module in model.named_modules() if isinstance(module, MappedTable)]
    stuck += [name for name, _ in sharded_tables(model)]
    if stuck and device == AUTO:
        return model
    found = find_device(device)
    if stuck and not is_host(found):
        raise ConfigError(
            f"{stuck[0]} is a table in files or in several processes, which the CPU alone trains; "
            "choose device=cpu, or a table that a device holds (model.table.name: dense, hashed)"
        )
    with memory_told(found, "choose a smaller kind of model.table, or device=cpu"):
        return model.to(found)


def _usual(device: str) -> str:
    """The device of a run's training, if this machine has it."""
    try:
        find_device(device)
    except ConfigError:
        return AUTO
    return device


def on_one_process(config: RunConfig) -> RunConfig:
    """The same with tables that one process can read: a sharded one is stored as a dense one is."""
    model = config.model
    swapped = {
        name: DenseConfig()
        for name in type(model).model_fields
        if isinstance(getattr(model, name), ShardedConfig)
    }
    return config.model_copy(update={"model": model.model_copy(update=swapped)})


def open_run(run: str | Path | LoadedRun) -> LoadedRun:
    """A run folder, opened; what is opened already is left as it is.

    Raises:
        RunError: it is no finished run, or its weights or its data set do not fit.
    """
    return run if isinstance(run, LoadedRun) else LoadedRun(run)


def load_run(
    folder: str | Path,
    *,
    unfinished: bool = False,
    data: str | Path | None = None,
    device: str | None = None,
) -> LoadedRun:
    """A trained run with its model in eval mode; verbs take it in place of the folder.

    Args:
        folder: of the run.
        unfinished: also one whose training has not ended.
        data: its dataset folder; None: looked for where the run says, above it and beside it.
        device: where its model goes: auto, cpu, cuda, cuda:1 or mps; None: where it was trained,
            if this machine has that.

    Raises:
        RunError: it is not a run, or its weights or its data set do not fit.
    """
    return LoadedRun(folder, unfinished=unfinished, data=data, device=device)
