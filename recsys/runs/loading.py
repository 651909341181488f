"""Loading of trained runs from their folders, and construction of models from a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from recsys.data.dataset import MANIFEST, Dataset, load_dataset
from recsys.data.features.loading import load_features
from recsys.data.splitting import Split, make_split
from recsys.errors import ConfigError, ProtocolError, RunError
from recsys.evaluation.protocol import FitOn
from recsys.files.atomic import read_json
from recsys.files.named import inside
from recsys.models import MODELS, Model
from recsys.runs.config import RunConfig
from recsys.runs.provenance import check_dataset, summary_of
from recsys.runs.records import CONFIG, fitted_on, load_config, load_run_info, run_name
from recsys.tables import DenseConfig
from recsys.tables.distributed.plan import ShardedConfig
from recsys.training.checkpoint import WEIGHTS, load_weights

_BUILT = ("config", "granularities", "scales")


def build_model(config: RunConfig, dataset: Dataset) -> Model:
    """An untrained model, initialized from the run's seed.

    Raises:
        DataError: the data set lacks a feature that the model reads.
        ConfigError: the model lacks something.
    """
    module: Any = MODELS.find(config.model.name)
    names = config.model.item_features
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
    if missing := [name for name in _BUILT if not hasattr(built, name)]:
        raise ConfigError(
            f"{config.model.name} was built without {', '.join(missing)}; its __init__ must set "
            "what recsys.models.Model declares"
        )
    return built


class LoadedRun:
    """A trained run: config, data, split, and the model in evaluation mode."""

    def __init__(self, folder: str | Path, *, unfinished: bool = False) -> None:
        """Reads a run folder; `unfinished`: also one whose training has not ended.

        Raises:
            RunError: it is not a run, has not ended, or its weights or its data set do not fit.
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

    A relative path is looked for from here, in the run and in the folders above it; what is not
    there, where it lay when the run was trained. Of several the one with the run's content hash is
    taken.

    Raises:
        RunError: there is none in any of these places.
    """
    trained = load_run_info(folder)["dataset"]
    if config.data.is_absolute() and config.data.exists():
        return config.data
    home = folder.resolve()
    above = () if config.data.is_absolute() else (home, *home.parents)
    places = [config.data, *(parent / config.data for parent in above)]
    places += [Path(trained["folder"])] if "folder" in trained else []
    found = [place for place in places if (place / MANIFEST).is_file()]
    if not found:
        raise RunError(
            f"there is no {config.data} here, nor above {folder}; name the data set of "
            f"{summary_of(trained)} as `data` in {folder / CONFIG}: its content hash is compared"
        )
    hashes = {
        place: read_json(place / MANIFEST, "prepare again")["content_hash"] for place in found
    }
    same = [place for place in found if hashes[place] == trained["content_hash"]]
    return same[0] if same else found[0]


def load_run(folder: str | Path, *, unfinished: bool = False) -> LoadedRun:
    """A trained run with its model in eval mode; see `LoadedRun`.

    Raises:
        RunError: it is not a run, or its weights or its data set do not fit.
    """
    return LoadedRun(folder, unfinished=unfinished)
