"""Rounds of models that solve themselves: validation, patience and the best weights.

A solver keeps no checkpoints: one that was killed starts again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol, cast

import torch

from recsys.data.histories import Histories
from recsys.progress import console, progress
from recsys.training.callbacks import Callback, Event, Moment, Validation
from recsys.training.checkpoint import WEIGHTS, TrainState, save_weights
from recsys.training.logs import open_log
from recsys.training.trainer import TrainerConfig


class Solvable(Protocol):
    """The method the rounds need from a model, which is also an nn.Module."""

    def solve(self, rows: Histories) -> Iterator[None]:
        """Fits in rounds."""
        ...


def solve_rounds(
    model: torch.nn.Module,
    rows: Histories,
    config: TrainerConfig,
    folder: Path,
    *,
    validate: Callable[[], Validation] | None,
    callback: Callback | None = None,
) -> TrainState:
    """Solves until the rounds, `trainer.epochs` or the patience end; the best weights are kept.

    Args:
        model: a module that is also `Solvable`.
        rows: what may be fitted on.
        config: epochs (the most rounds), patience and how often to validate.
        folder: the run folder; log and weights go there.
        validate: called after every `validate_every` rounds; None: the last round counts.
        callback: called after every round and validation; what it answers ends the rounds.

    Returns:
        The final state, with a round for an epoch.
    """
    began, state = time.monotonic(), TrainState()
    model.eval()
    with open_log(folder, 0, silent=False) as log, progress() as bar:
        task = bar.add_task("solving", total=config.epochs)
        for _ in islice(cast(Solvable, model).solve(rows), config.epochs):
            seconds = round(time.monotonic() - began, 3)
            state = state.model_copy(update={"epoch": state.epoch + 1, "seconds": seconds})
            epoch = state.epoch
            log.write("train", epoch, {}, epoch=epoch, seconds=seconds)
            answers = [_tell(callback, "epoch", epoch)]
            if validate is None:
                state = _keep(model, folder, state, None)
            elif epoch % config.validate_every == 0:
                found = validate()
                if state.best_value is None or found.value > state.best_value:
                    state = _keep(model, folder, state, found.value)
                figures = {"value": found.value, **found.figures}
                log.write("valid", epoch, figures, epoch=epoch, seconds=seconds)
                console.print(f"round {epoch}: validation {found.value:.4f}")
                answers.append(_tell(callback, "validation", epoch, found))
            bar.advance(task)
            state = state.model_copy(update={"ended": next(filter(None, answers), None)})
            impatient = validate is not None and epoch - state.best_epoch >= config.patience
            if state.ended or impatient:
                break
    return state if state.best_epoch else _keep(model, folder, state, None)


def _keep(
    model: torch.nn.Module, folder: Path, state: TrainState, value: float | None
) -> TrainState:
    save_weights(model, folder / WEIGHTS)
    return state.model_copy(update={"best_value": value, "best_epoch": state.epoch})


def _tell(
    callback: Callback | None, event: Event, epoch: int, found: Validation | None = None
) -> str | None:
    figures = {} if found is None else {"value": found.value, **found.figures}
    return callback(Moment(event, epoch, epoch, math.nan, found, figures)) if callback else None
