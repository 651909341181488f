"""Training runs of a study: found, listed, trained where missing.

A run is locked while it is trained, so any number of processes may work on one study folder: each
takes the next run that nobody holds. Locks are the kernel's (flock): they end with the process.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recsys.data.dataset import Dataset
from recsys.progress import console
from recsys.recipes.training.train import check_trainable, train
from recsys.runs.folder import check_same
from recsys.runs.records import CONFIG, RUN, load_config, load_run_info
from recsys.studies.config import PlannedRun
from recsys.training.trainer import StoppedError, drop_checkpoints

State = Literal["missing", "unfinished", "training", "finished", "other config"]
LOCKS = ".locks"
_PATIENCE = 1.0
"""Seconds a lock is waited for: as long as somebody may hold it only to look."""


@dataclass(frozen=True)
class RunState:
    """How far a planned run is."""

    run: PlannedRun
    state: State
    seconds: float | None
    """Of training; None: not finished."""


def state_of(folder: Path, run: PlannedRun) -> RunState:
    """What stands in the study folder of a run."""
    place = folder / run.name
    if not (place / RUN).is_file():
        return RunState(run, "training" if _is_held(folder, run) else "missing", None)
    if load_config(place) != run.config:
        return RunState(run, "other config", None)
    info = load_run_info(place)
    if info["state"] == "finished":
        return RunState(run, "finished", float(info["seconds"]))
    return RunState(run, "training" if _is_held(folder, run) else "unfinished", None)


def check_runs(folder: Path, runs: Sequence[PlannedRun], dataset: Dataset) -> None:
    """Refuses to go on from runs that are not those of the plan.

    Raises:
        ConfigError: a run stands that was started with another config.
        RunError: a run stands that was trained on other data.
    """
    for run in runs:
        if (folder / run.name / CONFIG).is_file():
            check_same(folder / run.name, run.config, dataset, exact=True)


def check_missing(folder: Path, runs: Sequence[PlannedRun], dataset: Dataset) -> None:
    """Refuses runs that cannot be trained before the first of them is, whichever they are.

    Raises:
        ConfigError, DataError, InstallationError, ProtocolError: as `train` would raise them.
    """
    seen: set[str] = set()
    for run in runs:
        trainer = run.config.trainer.model_copy(update={"seed": 0})
        alike = run.config.model_copy(update={"trainer": trainer}).model_dump_json()
        if alike not in seen and state_of(folder, run).state != "finished":
            check_trainable(run.config, dataset)
        seen.add(alike)


def train_missing(folder: Path, runs: Sequence[PlannedRun]) -> None:
    """Trains those of `runs` that are not finished and that no other process is training.

    Raises:
        StoppedError: SIGTERM or Ctrl-C came; the same command goes on from there.
    """
    for number, run in enumerate(runs, start=1):
        with hold(folder, run) as mine:
            if mine and state_of(folder, run).state != "finished":
                console.print(f"run {number} of {len(runs)}: {run.name}{_left(folder, runs)}")
                _train(folder, run)


def _train(folder: Path, run: PlannedRun) -> None:
    try:
        train(run.config, out=folder / run.name, resume=True)
    except StoppedError as stop:
        raise StoppedError(
            f"{run.name} was stopped; its state is saved, and the same command continues it"
        ) from stop
    drop_checkpoints(folder / run.name)  # the length of a study's runs is fixed


def _left(folder: Path, runs: Sequence[PlannedRun]) -> str:
    seconds = remaining_seconds([state_of(folder, run) for run in runs])
    return "" if seconds is None else f" (about {duration(seconds)} of training left)"


def remaining_seconds(states: Sequence[RunState]) -> float | None:
    """Training that is left, as long as finished runs took: of the same width, or of any.

    None: nothing has been finished yet, so nothing is known.
    """
    known: dict[int | None, list[float]] = {}
    for each in states:
        if each.seconds is not None:
            known.setdefault(each.run.width, []).append(each.seconds)
    if not known:
        return None
    means = {width: sum(found) / len(found) for width, found in known.items()}
    usual = sum(means.values()) / len(means)
    return sum(means.get(each.run.width, usual) for each in states if each.seconds is None)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _lock_path(folder: Path, run: PlannedRun) -> Path:
    return folder / LOCKS / run.name


@contextmanager
def hold(folder: Path, run: PlannedRun) -> Iterator[bool]:
    """Locks a run, to train or to measure it; gives False where another process has it."""
    path = _lock_path(folder, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)  # and with it the lock


def _lock(descriptor: int) -> bool:
    give_up = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                return False
            time.sleep(0.1)
        else:
            return True


def _is_held(folder: Path, run: PlannedRun) -> bool:
    path = _lock_path(folder, run)
    if not path.exists():
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
