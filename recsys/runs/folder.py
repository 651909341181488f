"""The folder of a run: created by one process, locked during training, resumable."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recsys.data.dataset import Dataset
from recsys.errors import ConfigError, RunError
from recsys.files.atomic import atomic_path, check_writable, held, remove, write_json
from recsys.files.scratch import sweep
from recsys.progress import console
from recsys.runs.config import RunConfig
from recsys.runs.provenance import check_dataset, describe_run
from recsys.runs.records import (
    METRICS,
    RUN,
    load_config,
    load_run_info,
    update_run_info,
    write_config,
)
from recsys.training.logs import LOG, read_lines
from recsys.training.trainer import TrainerConfig, has_checkpoint

_LOCK = ".lock"


def create_run(folder: Path, config: RunConfig, dataset: Dataset, *, resume: bool) -> None:
    """Makes the run folder, or checks that `resume` continues the very same run.

    Raises:
        RunError: the folder holds a run and `resume` is not set, or another data set's.
        ConfigError: the run to resume was started with another config.
    """
    check_place(folder, resume=resume)
    if resume and (folder / RUN).is_file():
        check_same(folder, config, dataset)
        return
    with new_folder(folder) as temporary:
        write_config(temporary, config)
        write_json(temporary / RUN, describe_run(config, dataset))


def check_place(folder: Path, *, resume: bool) -> None:
    """Refuses a folder in which no run can be made or, with `resume`, gone on with.

    Raises:
        RunError: it holds a run and `resume` is not set, or something else.
        OSError: nothing can be written there.
    """
    if not (folder / RUN).is_file():
        check_empty(folder)
    elif not resume:
        raise RunError(
            f"{folder} holds a run already; continue it with --resume, or choose another --out"
        )


def check_empty(folder: Path, what: str = "run folder") -> None:
    """Raises RunError where something exists at `folder`, OSError where nothing can be written."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; choose another place for the {what}")
    if folder.is_dir() and any(folder.iterdir()):
        raise RunError(f"{folder} is not empty; choose another {what} (--out)")
    check_writable(folder, folder=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """An empty folder that becomes the run folder in the end, whole or not at all.

    Raises:
        RunError: meanwhile another process has made it.
    """
    try:
        with atomic_path(folder, replace=False) as temporary:
            temporary.mkdir()
            yield temporary
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not folder.is_dir():
            raise
        raise RunError(f"another process has just made {folder}; choose another one") from error


@contextmanager
def training(folder: Path) -> Iterator[None]:
    """Holds a run folder while it is trained; what killed trainings left in it is removed.

    Raises:
        BusyError: another process trains it.
    """
    busy = f"another process is training {folder}; wait for it, or choose another --out"
    with held(folder / _LOCK, busy):
        sweep(folder)
        yield


def check_same(folder: Path, config: RunConfig, dataset: Dataset, *, exact: bool = False) -> None:
    """Refuses to go on with a run by another config, or on other data.

    The data may lie elsewhere, and training may take longer or shorter (see `_may_differ`),
    unless all must be `exact`.

    Raises:
        ConfigError: naming the keys that differ.
        RunError: the data set, or a feature in it, is another.
    """
    before, now = (_leaves(c.model_dump(mode="json")) for c in (load_config(folder), config))
    done = max((line["epoch"] for line in read_lines(folder / LOG)), default=0)
    changed = [
        f"  {key}: {before.get(key)!r} -> {now.get(key)!r}"
        + (f" ({done} are done)" if key == "trainer.epochs" else "")
        for key in {**before, **now}
        if before.get(key) != now.get(key)
        and (exact or not _may_differ(key, before.get(key), now.get(key), done))
    ]
    if changed:
        lines = "\n".join(changed)
        raise ConfigError(f"{folder} was started with another config:\n{lines}\nuse another --out")
    check_dataset(folder, dataset)


def _may_differ(key: str, before: Any, now: Any, done: int) -> bool:
    """The place of the data, the device, loggers; epochs, no fewer than done; more patience."""
    if key == "trainer.epochs":
        return bool(now >= done)
    if key in ("trainer.histories", "trainer.least_epochs"):
        return True
    return key in ("data", "device", "logs") or (key == "trainer.patience" and now > before)


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value by its dotted key."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        inner = _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {}
        found |= inner or {f"{prefix}{key}": value}
    return found


def change_length(folder: Path, trainer: TrainerConfig) -> None:
    """Puts another length of training into a run, whose state is then that of a started one.

    Raises:
        RunError: it has finished, and keeps no checkpoint to go on from.
    """
    before, info = load_config(folder), load_run_info(folder)
    if trainer == before.trainer:
        return
    if info["state"] == "finished" and not has_checkpoint(folder):
        raise RunError(
            f"{folder} has finished its {before.trainer.epochs} epochs and keeps no checkpoint to "
            f"go on from; train {trainer.epochs} epochs into another --out"
        )
    planned = [*info.get("planned_epochs", ()), before.trainer.epochs]
    update_run_info(folder, state="started", planned_epochs=planned)
    remove(folder / METRICS)  # of weights that will be others
    # Last: a kill before it leaves a run that has not ended, of the length it had.
    write_config(folder, before.model_copy(update={"trainer": trainer}))
    if trainer.optimizer.schedule != "constant":
        console.print(
            f"the learning rate follows its schedule over {trainer.epochs} epochs from here on; "
            f"trained at once, a run of {trainer.epochs} epochs ends with other weights",
            style="yellow",
        )


def change_logs(folder: Path, config: RunConfig) -> None:
    """Notes the loggers that a run goes on with, where they are others than before."""
    before = load_config(folder)
    if config.logs != before.logs:
        write_config(folder, before.model_copy(update={"logs": config.logs}))
