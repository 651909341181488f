"""The start of an update: the parent's weights and moments in the new model, and what is new.

    RUN2/update/rows.safetensors       the rows and items that the parent was fitted on
    RUN2/checkpoints/step-0...         where training starts from; later ones take its place

With these a run that was killed goes on without its parent.

Shape legend: T rows, N items, U users.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor

from recsys.data.batching import TrainBatches
from recsys.data.dataset import Dataset
from recsys.data.histories import item_counts, select
from recsys.data.splitting import Split
from recsys.errors import ConfigError, ProtocolError, RunError
from recsys.files.atomic import atomic_path, sha256_of
from recsys.files.named import inside
from recsys.files.tensor_file import write_tensors
from recsys.models import Model
from recsys.processes import Processes
from recsys.recipes.updating.first_vectors import Trained, start_vectors
from recsys.recipes.updating.growing import Growth, grow_moments, grow_weights
from recsys.recipes.updating.holding import anchor_items, hold_items
from recsys.recipes.updating.trained_rows import trained_rows
from recsys.recipes.updating.windows import choose_windows
from recsys.runs.config import RunConfig
from recsys.runs.loading import LoadedRun, has_begun
from recsys.runs.provenance import describe_data
from recsys.runs.records import RUN, update_run_info
from recsys.training.checkpoint import WEIGHTS, TrainState, load_checkpoint, save_checkpoint
from recsys.training.optimizers import build_optimizer
from recsys.training.trainer import CHECKPOINTS, has_checkpoint

ROWS = Path("update") / "rows.safetensors"
FITTED = ("train", "train+valid", "all")
"""What a run was fitted on, less first."""


@dataclass(frozen=True)
class Start:
    """What an update starts from, ready to be written into its run folder."""

    tensors: dict[str, Tensor]
    moments: dict[str, Tensor]
    told: dict[str, Any]
    """For `run.json`."""

    def write(self, folder: Path, model: Model, config: RunConfig) -> None:
        """Puts it into a run folder that has just been made."""
        path = folder / ROWS
        path.parent.mkdir(exist_ok=True)
        with atomic_path(path) as temporary:
            write_tensors(temporary, self.tensors)
        optimizer = build_optimizer(model, config.trainer.optimizer)
        for name, parameter in model.named_parameters():
            slots = {
                key.partition("/")[0]: tensor
                for key, tensor in self.moments.items()
                if key.partition("/")[2] == name
            }
            if slots and parameter.requires_grad:
                optimizer.state[parameter] = slots
        update_run_info(folder, **self.told)
        # Last: it says that the start is whole.
        save_checkpoint(folder / CHECKPOINTS, model, optimizer, TrainState())


def begin(
    config: RunConfig,
    folder: Path,
    model: Model,
    data: tuple[Dataset, Split],
    batches: TrainBatches,
    processes: Processes,
) -> Start | None:
    """Makes a model and its batches those of an update.

    Args:
        config: with a section `update`.
        folder: the run folder, which may not be there yet.
        model: untrained; it gets the parent's weights.
        data: the data set and its split.
        batches: of training anew; epochs become those of the update.
        processes: one alone.

    Returns:
        What has to be written before training; None: it stands there already.

    Raises:
        ConfigError, ProtocolError, RunError: it cannot be gone on from the parent.
    """
    assert config.update is not None
    if processes.world_size > 1:
        raise ConfigError(
            f"an update runs in one process, and there are {processes.world_size}; run it without "
            "torchrun"
        )
    (dataset, split), update = data, config.update
    stands = (folder / RUN).is_file() and (folder / ROWS).is_file()
    if stands and has_begun(folder):
        tensors = load_file(inside(folder, str(ROWS)))
        start = None
        if config.model.solved:  # a solver reads no checkpoint, and goes on from the parent
            optimizer = build_optimizer(model, config.trainer.optimizer)
            load_checkpoint(folder / CHECKPOINTS, model, optimizer)
    else:
        start = _from_parent(config, model, dataset, split)
        tensors = start.tensors
    rows = tensors["rows"].numpy()
    size = choose_windows(batches, rows, replay=update.replay, seed=config.trainer.seed)
    if start is not None:
        start.told["update"]["epoch"] = asdict(size)
    if update.hold == "anchor":
        anchor_items(model, tensors["items"], tensors["vectors"], update.anchor)
    elif update.hold == "items":
        _hold(config, model, tensors["items"], start)
    return start


def _hold(config: RunConfig, model: Model, trained: Tensor, start: Start | None) -> None:
    if config.trainer.optimizer.table_weight_decay:
        raise ConfigError(
            "trainer.optimizer.table_weight_decay draws all rows to zero, and update.hold: items "
            "keeps those of trained items where they are; say "
            "trainer.optimizer.table_weight_decay=0"
        )
    for name, kept in hold_items(model, trained):
        first = None if start is None else start.moments.get(f"exp_avg/{name}")
        if first is not None:
            first[kept] = 0.0  # momentum would move a row without a gradient


def _from_parent(config: RunConfig, model: Model, dataset: Dataset, split: Split) -> Start:
    assert config.update is not None
    update = config.update
    parent = LoadedRun(update.parent)
    _check(parent, config)
    rows = trained_rows(parent, dataset)
    _check_held_out(parent, dataset, split, config, rows)
    growth = Growth.between(parent.dataset, dataset)
    grow_weights(parent.model, model, growth)
    model.eval()  # nothing is left out of what starts
    known = _trained_of(parent, growth)
    trained = Trained(*known, split.fit_end(config.fit_on))
    started = start_vectors(model, dataset, split, trained, window=update.neighbours)
    _note_trained(model, dataset, split, trained)
    moments = _moments(parent, model, growth)
    tensors = {"rows": torch.from_numpy(rows), "items": torch.from_numpy(known[0])}
    if update.hold == "anchor":
        with torch.no_grad():
            tensors["vectors"] = model.item_vectors().detach()[tensors["items"]].clone()
    told = {
        "parent": {
            "run": str(parent.folder.resolve()),
            "weights": update.weights,
            "commit": parent.info["commit"],
            "dataset": describe_data(parent.dataset),
        },
        "update": {
            "rows": {"trained": int(rows.sum()), "new": int((~rows).sum())},
            "users": list(growth.users),
            "items": list(growth.items),
            "started": asdict(started),
            "moments": bool(moments),
        },
    }
    return Start(tensors, moments, told)


def _check(parent: LoadedRun, config: RunConfig) -> None:
    assert config.update is not None
    found = sha256_of(parent.folder / WEIGHTS)
    if found != config.update.weights:
        raise RunError(
            f"the weights of {parent.folder} have the sha256 {found[:12]}, the update starts from "
            f"{config.update.weights[:12]}: it was trained on since; name the run that is meant "
            "(`recsys update RUN DATA --out ...` takes the weights that stand there)"
        )
    if "calibrated" in parent.info:
        raise RunError(
            f"{parent.folder} was calibrated on its validation part; update the run that it was "
            f"calibrated from ({parent.info['calibrated']['run']}), then calibrate again"
        )
    if FITTED.index(parent.fit_on) > FITTED.index(config.fit_on):
        raise ProtocolError(
            f"{parent.folder} was fitted on {parent.fit_on}, so an update with fit_on "
            f"{config.fit_on} would be validated on what it has seen; say fit_on={parent.fit_on}"
        )


def _check_held_out(
    parent: LoadedRun,
    dataset: Dataset,
    split: Split,
    config: RunConfig,
    rows: npt.NDArray[np.bool_],
) -> None:
    """Refuses where rows that are held out now were trained on by the parent."""
    before = np.concatenate([[0], np.cumsum(rows)])
    seen = int((before[split.end] - before[split.fit_end(config.fit_on)]).sum())
    if seen:
        raise ProtocolError(
            f"{seen:,} rows that {dataset.folder} holds out were trained on by {parent.folder}, so "
            "figures of them would say nothing; keep all old rows (append), or update with "
            "fit_on=all"
        )


def _trained_of(
    parent: LoadedRun, growth: Growth
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """`[N]`, `[U]`: the items and users of the new data that the parent was fitted on."""
    start, end = parent.split.start, parent.split.fit_end(parent.fit_on)
    items, users = np.zeros(growth.items[1], np.bool_), np.zeros(growth.users[1], np.bool_)
    items[: growth.items[0]] = item_counts(parent.dataset, start, end) > 0
    users[: growth.users[0]] = end > start
    lineage = parent.folder / ROWS
    if lineage.is_file():  # what its own parents trained stays trained, whatever rows are gone
        earlier = load_file(inside(parent.folder, str(ROWS)))["items"].numpy()
        items[: len(earlier)] |= earlier
    return items, users


def _note_trained(model: Model, dataset: Dataset, split: Split, trained: Trained) -> None:
    """Tells the model which items and users have a row of their own."""
    table: Any = getattr(model, "table", None)
    if hasattr(table, "note_trained"):
        counts = item_counts(dataset, split.start, trained.end)
        table.note_trained(counts + trained.items)
    if model.config.pairs:
        model.note_users(trained.users | (trained.end > split.start))
    if model.config.reads_rows:
        users = np.arange(dataset.num_users)
        model.note_rows(select(dataset, users, split.start, trained.end))


def _moments(parent: LoadedRun, model: Model, growth: Growth) -> dict[str, Tensor]:
    """The parent's optimizer state; empty where it keeps none."""
    if not has_checkpoint(parent.folder):
        return {}
    optimizer = build_optimizer(parent.model, parent.config.trainer.optimizer)
    weights = {name: tensor.clone() for name, tensor in parent.model.state_dict().items()}
    load_checkpoint(parent.folder / CHECKPOINTS, parent.model, optimizer)
    slots = {
        f"{slot}/{name}": tensor
        for name, parameter in parent.model.named_parameters()
        for slot, tensor in optimizer.state.get(parameter, {}).items()
    }
    parent.model.load_state_dict(weights)  # the best ones again
    return grow_moments(slots, parent.model, model, growth)
