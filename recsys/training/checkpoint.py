"""Checkpoints: weights, optimizer state and position of a run.

checkpoints/step-0000001234-epoch-000007/    the newest; older ones are removed after it stands
    model.safetensors  optimizer.safetensors  state.json
    tables/NAME/                the parts of a sharded table, as each process has written them
model.safetensors               the best weights so far, and in the end the run's model
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from recsys.config import StrictModel, parse
from recsys.errors import RunError
from recsys.files.atomic import atomic_path, read_json, remove, write_json
from recsys.files.named import inside
from recsys.files.tensor_file import write_tensors
from recsys.processes import ALONE, Processes
from recsys.tables import SelfUpdating, self_updating
from recsys.tables.distributed.plan import sharded_tables
from recsys.towers.modalities import take_bins

WEIGHTS = "model.safetensors"
TABLES = "tables"
_PREFIX = "step-"


class TrainState(StrictModel):
    """The position of a run: `index` batches of `epoch` are done."""

    step: int = 0
    epoch: int = 0
    index: int = 0
    loss_sums: tuple[float, ...] = ()
    """Per granularity, over the batches of the epoch so far."""
    best_value: float | None = None
    best_epoch: int = 0
    seconds: float = 0.0
    """Wall time of training so far, over all sessions."""
    ended: str | None = None
    """Why a callback ended training before its time."""


def save_weights(model: nn.Module, path: Path, processes: Processes = ALONE) -> None:
    """Writes a model's tensors as safetensors, tables of many processes among them as if of one.

    All processes call it; the first one writes.
    """
    with ExitStack() as stack:
        tensors = dict(model.state_dict())
        for name, table in sharded_tables(model):
            tensors[f"{name}.weight"] = stack.enter_context(table.gathered(path.parent))
        if processes.first:
            _write_weights(model, tensors, path)
    processes.wait()


def _write_weights(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    with atomic_path(path) as temporary:
        write_tensors(temporary, tensors, after_block=_release(model))


def load_weights(model: nn.Module, path: Path) -> None:
    """Reads what `save_weights` wrote into a model of the same config.

    Raises:
        RunError: the file is absent, damaged, or of another model.
    """
    tensors = _read(path)
    take_bins(model, tensors)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        raise RunError(
            f"{path} does not fit its config: {_differences(expected, found)}. It is another run's "
            "file, or another version of recsys has written it: train again"
        )
    model.load_state_dict(tensors)


def _differences(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> str:
    """What a model of the config has, and what the file holds in its place; the first few."""
    names = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    told = [
        f"{name} should be {expected.get(name, 'absent')} and is {found.get(name, 'absent')}"
        for name in names[:3]
    ]
    return "; ".join([*told, f"{len(names) - 3} more"] if len(names) > 3 else told)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise RunError(f"no weights at {path}; has the run finished an epoch? try --resume")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise RunError(f"{path} is damaged ({error}); train again") from error


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: TrainState,
    processes: Processes = ALONE,
) -> None:
    """Writes a checkpoint, then removes older ones.

    All processes call it, and see the same folder: each writes its part of sharded tables, the
    first one everything else.
    """
    # The end of an epoch is another state than its last step: no name is ever written twice.
    target = folder / f"{_PREFIX}{state.step:010d}-epoch-{state.epoch:06d}"
    if any(processes.any(processes.first and target.is_dir())):
        return
    if not processes.first:
        _save_tables(model, Path(processes.tell("")))
        processes.wait()
        return
    with atomic_path(target) as temporary:
        temporary.mkdir(parents=True)
        for name, _ in sharded_tables(model):
            (temporary / TABLES / name).mkdir(parents=True)
        _save_tables(model, Path(processes.tell(str(temporary.resolve()))))
        _write_weights(model, dict(model.state_dict()), temporary / WEIGHTS)
        state_path = temporary / "optimizer.safetensors"
        write_tensors(state_path, _optimizer_tensors(model, optimizer), after_block=_release(model))
        write_json(temporary / "state.json", state.model_dump())
    for old in folder.iterdir():
        if old != target:
            remove(old)
    processes.wait()


def _save_tables(model: nn.Module, checkpoint: Path) -> None:
    for name, table in sharded_tables(model):
        table.save(checkpoint / TABLES / name)


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> TrainState | None:
    """Restores the newest checkpoint in place; None when there is none yet."""
    found = sorted(folder.glob(f"{_PREFIX}*")) if folder.is_dir() else []
    if not found:
        return None
    newest = found[-1]
    tree = read_json(inside(newest, "state.json"), "remove that folder and train again")
    load_weights(model, inside(newest, WEIGHTS))
    for name, table in sharded_tables(model):
        table.load(newest / TABLES / name)
    tensors = _read(inside(newest, "optimizer.safetensors"))
    for name, parameter in model.named_parameters():
        slots = {key.partition("/")[0]: t for key, t in tensors.items() if key.endswith("/" + name)}
        if slots:
            moved = {slot: tensor.to(parameter.device) for slot, tensor in slots.items()}
            optimizer.state[parameter] = moved
    for name, slot, tensor in _own_slots(model):
        tensor.copy_(tensors[f"{slot}/{name}"])
    return parse(TrainState, tree, str(newest / "state.json"))


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """`slot/parameter` -> tensor, and `slot/table` of tables that update themselves."""
    tensors = {
        f"{slot}/{name}": tensor
        for name, parameter in model.named_parameters()
        for slot, tensor in optimizer.state.get(parameter, {}).items()
    }
    return tensors | {f"{slot}/{name}": tensor for name, slot, tensor in _own_slots(model)}


def _own_slots(model: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    """`(table, slot, tensor)` of tables that update themselves."""
    for name, table in self_updating(model):
        for slot, tensor in cast(SelfUpdating, table).optimizer_slots().items():
            yield name, slot, tensor


def _release(model: nn.Module) -> Callable[[], None]:
    """Lets go of what was read of tables that are larger than memory."""

    def release() -> None:
        for _, table in self_updating(model):
            cast(SelfUpdating, table).release()

    return release
