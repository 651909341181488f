"""The training loop.

Everything random is a function of (seed, step), so a run that was killed and resumed ends with the
weights of one that was not (same machine, same number of threads).

Shape legend: G granularities.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol, cast

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from rich.progress import Progress, TaskID
from torch import Tensor

from recsys.config import StrictModel
from recsys.data.batching import Batch, TrainBatches
from recsys.data.negatives import NegativeSampler
from recsys.errors import ConfigError, RunError
from recsys.evaluation.metrics import METRICS
from recsys.files.atomic import remove
from recsys.granularity import Granularities
from recsys.losses.softmax import Negatives, NestedLossOutput
from recsys.processes import ALONE, Processes
from recsys.progress import console, progress
from recsys.tables import note_events, note_progress, penalty_of
from recsys.tables.distributed.plan import sharded_tables
from recsys.training.callbacks import Callback, Event, Moment, Validation
from recsys.training.checkpoint import (
    WEIGHTS,
    TrainState,
    load_checkpoint,
    save_checkpoint,
    save_weights,
)
from recsys.training.distributed import (
    average_gradients,
    joined_losses,
    share_of,
)
from recsys.training.logs import NoLog, RunLog, open_log
from recsys.training.optimizers import (
    OptimizerConfig,
    build_optimizer,
    clip_gradients,
    set_rate,
)

CHECKPOINTS = "checkpoints"


class TrainerConfig(StrictModel):
    """Options of the length of training, of validation and of early stopping."""

    epochs: int = Field(default=20, ge=1)
    """At most this many; exactly this many when nothing is held out to stop by."""
    patience: int = Field(default=10, ge=1)
    """Epochs without a better validation value before training stops."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs from one validation to the next."""
    metric: str = Field(default="ndcg@10", pattern=r"^[^@/]+@[1-9][0-9]*(/d[1-9][0-9]*)?$")
    """What early stopping goes by: the mean over granularities, or one of them as `ndcg@10/d64`;
    any metric, also one from outside (`my_package.my_module:rbp@10`)."""
    checkpoint_seconds: float = Field(default=120.0, ge=0)
    """A checkpoint is written at least this often, and after every epoch."""
    keep_checkpoint: bool = True
    """Keep the last checkpoint of a finished run, about three times its weights, so that `--resume`
    can train more epochs."""
    optimizer: OptimizerConfig = OptimizerConfig()
    seed: int = Field(default=0, ge=0)

    @field_validator("metric")
    @classmethod
    def _there_is_such_a_metric(cls, given: str) -> str:
        try:
            METRICS.find(given.partition("@")[0])
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return given

    @model_validator(mode="after")
    def _looks_before_it_gives_up(self) -> TrainerConfig:
        if self.patience < self.validate_every:
            raise ValueError(
                f"patience {self.patience} is shorter than validate_every {self.validate_every}: "
                "training would stop before it is first validated; raise patience"
            )
        return self


class Trainable(Protocol):
    """The methods the loop needs from a model, which is also an nn.Module."""

    @property
    def granularities(self) -> Granularities:
        """The nested prefixes."""
        ...

    def loss(self, batch: Batch, negatives: Negatives | None) -> NestedLossOutput:
        """The loss of one batch."""
        ...


class StoppedError(RunError):
    """Training was asked to stop (SIGTERM or Ctrl-C) and has saved its state."""

    exit_code = 130


def train(
    model: torch.nn.Module,
    batches: TrainBatches,
    config: TrainerConfig,
    folder: Path,
    *,
    sampler: NegativeSampler | None,
    validate: Callable[[], Validation] | None,
    processes: Processes = ALONE,
    callback: Callback | None = None,
) -> TrainState:
    """Trains until the epochs or the patience end; the best weights stand in `folder`.

    Continues from the newest checkpoint in `folder`, if there is one.

    Args:
        model: a module that is also `Trainable`.
        batches: what to train on.
        config: how long, and with which optimizer.
        folder: the run folder; checkpoints, log and weights go there.
        sampler: draws negatives; None: full softmax.
        validate: called after every `validate_every` epochs; None: train all epochs.
        processes: those that train together, each calling this; the first one writes the files.
        callback: called after every step, epoch and validation; what it answers ends training.

    Returns:
        The final state.

    Raises:
        StoppedError: SIGTERM or Ctrl-C came; the state is saved.
        RunError: the loss is no longer finite.
    """
    loop = _Loop(model, batches, config, folder, sampler, validate, processes, callback)
    with (
        open_log(folder, loop.state.epoch, loop.state.step, silent=not processes.first) as log,
        progress("{task.fields[note]}") as bar,
    ):
        loop.run(log, bar)
    return loop.state


class _Loop:
    def __init__(
        self,
        model: torch.nn.Module,
        batches: TrainBatches,
        config: TrainerConfig,
        folder: Path,
        sampler: NegativeSampler | None,
        validate: Callable[[], Validation] | None,
        processes: Processes = ALONE,
        callback: Callback | None = None,
    ) -> None:
        self.model, self.batches, self.config, self.folder = model, batches, config, folder
        self.nested = cast(Trainable, model)
        self.sampler, self.validate, self.callback = sampler, validate, callback
        self.processes, self.sharded = processes, [table for _, table in sharded_tables(model)]
        self.optimizer = build_optimizer(model, config.optimizer)
        found = load_checkpoint(folder / CHECKPOINTS, model, self.optimizer) or TrainState()
        self.state = found.model_copy(update={"ended": None})  # whoever ended it is asked again
        self.clock = time.monotonic() - self.state.seconds
        self.saved = time.monotonic()
        self.loss = math.nan

    def run(self, log: RunLog | NoLog, bar: Progress) -> None:
        """Epoch after epoch; a resumed one starts in the middle."""
        task = bar.add_task("training", total=None, note="")
        with _stop_signals() as stop:
            while not self._finished():
                for _ in self._epoch(bar, task):
                    asked, due, ended = self.processes.any(
                        bool(stop.asked), self._checkpoint_due(), self._tell("step")
                    )
                    if asked or due or ended:
                        self._save()
                    if asked:
                        raise StoppedError(
                            f"stopped by {stop.asked or 'another process'}; the state of step "
                            f"{self.state.step} is saved, continue with --resume"
                        )
                    if ended:
                        break
                else:
                    self._end_epoch(log)
                    self._save()
                self._note_end()

    def _finished(self) -> bool:
        state = self.state
        waited = state.epoch - state.best_epoch
        impatient = self.validate is not None and waited >= self.config.patience
        return bool(state.ended) or state.epoch >= self.config.epochs or impatient

    def _tell(self, event: Event, found: Validation | None = None) -> bool:
        """Calls the callback, if there is one; whether it wants training to end."""
        if self.callback is None:
            return False
        state, summed = self.state, self.loss
        answer = self.callback(Moment(event, state.epoch, state.step, summed, found))
        if answer:
            self._move(ended=answer)
        return bool(answer)

    def _note_end(self) -> None:
        """Ends all processes where one was told to.

        The weights of the moment are kept where none have been validated.
        """
        (ended,) = self.processes.any(bool(self.state.ended))
        if not ended:
            return
        self._move(ended=self.state.ended or "another process")
        if self.state.best_value is None:
            self._keep_best(None)
        self._save()

    def _epoch(self, bar: Progress, task: TaskID) -> Iterator[None]:
        """Runs what is left of the current epoch, one step at a time."""
        state = self.state
        num_batches = self.batches.num_batches(state.epoch)
        total = num_batches * self.config.epochs
        self.model.train()
        started, done = time.monotonic(), 0
        for index in range(state.index, num_batches):
            batch = self.batches.batch(state.epoch, index)
            losses = self._step(batch, (state.epoch + index / num_batches) / self.config.epochs)
            sums = losses if not index else losses + torch.tensor(self.state.loss_sums).double()
            self._move(step=self.state.step + 1, index=index + 1, loss_sums=tuple(sums.tolist()))
            self.loss = float(sums[-1]) / (index + 1)
            done += len(batch.targets)
            rate = done / (time.monotonic() - started)
            note = f"epoch {state.epoch + 1}  loss {self.loss:.3f}  {rate:,.0f} items/s"
            bar.update(task, completed=self.state.step, total=total, note=note)
            yield

    def _step(self, batch: Batch, done: float) -> Tensor:
        """One update; returns the loss per granularity `[G]` in float64."""
        step, seed = self.state.step, self.config.seed
        torch.manual_seed(seed * 1_000_003 + step + (self.processes.rank << 40))
        # In the first steps this is also the stream that shuffles epoch `step`: one draw in
        # thousands depends on the order of an epoch. Another would change every trained figure.
        negatives = self._draw(batch, np.random.default_rng([seed, step]))
        note_events(self.model, *_events_of(batch))
        note_progress(self.model, done)
        rate = self.config.optimizer.rate(step, done)
        for table in self.sharded:  # they step inside backward
            table.set_rate(rate / self.config.optimizer.learning_rate)
        share = share_of(batch, self.processes)
        output = self.nested.loss(share.batch, negatives)
        if not math.isfinite(float(output.total.detach())):
            raise RunError(
                f"the loss is {float(output.total.detach())} at step {step}; lower "
                "trainer.optimizer.learning_rate, or raise its warmup_steps"
            )
        self.optimizer.zero_grad(set_to_none=True)
        penalty = penalty_of(self.model)
        total = output.total * share.weight
        (total if penalty is None else total + penalty).backward()
        average_gradients(self.model, self.processes)
        optimizer = self.config.optimizer
        norm = clip_gradients(self.model.parameters(), optimizer.clip_norm)
        if not math.isfinite(norm):  # before it gets into weights and a checkpoint
            raise RunError(
                f"the gradients have the norm {norm} at step {step}; lower "
                "trainer.optimizer.learning_rate, or raise its warmup_steps"
            )
        set_rate(self.optimizer, rate)
        self.optimizer.step()
        return joined_losses(output.per_granularity, share, self.processes)

    def _draw(self, batch: Batch, rng: np.random.Generator) -> Negatives | None:
        if self.sampler is None:
            return None
        items, log_q = self.sampler.draw(batch.targets, rng)
        corrections = None if log_q is None else torch.from_numpy(log_q).float()
        return Negatives(torch.from_numpy(items), corrections)

    def _end_epoch(self, log: RunLog | NoLog) -> None:
        state = self.state
        sizes = self.nested.granularities.sizes
        losses = {
            f"loss/d{size}": summed / state.index
            for size, summed in zip(sizes, state.loss_sums, strict=True)
        }
        weights = self.nested.granularities.normalized_weights
        total = sum(w * value for w, value in zip(weights, losses.values(), strict=True))
        self._move(epoch=state.epoch + 1, index=0, loss_sums=())
        epoch = self.state.epoch
        scalars = {"loss": total, **losses}
        log.write("train", state.step, scalars, epoch=epoch, seconds=self._seconds())
        self.loss = total
        self._tell("epoch")
        if self.validate is None:
            self._keep_best(None)
        elif epoch % self.config.validate_every == 0 or epoch == self.config.epochs:
            self.model.eval()
            found = self.validate()
            if self.state.best_value is None or found.value > self.state.best_value:
                self._keep_best(found.value)
            figures = {"value": found.value, **found.figures}
            log.write("valid", state.step, figures, epoch=epoch, seconds=self._seconds())
            self._tell("validation", found)
            if not console.is_terminal:  # no bar to look at
                console.print(f"epoch {epoch}: loss {total:.3f}, validation {found.value:.4f}")

    def _keep_best(self, value: float | None) -> None:
        save_weights(self.model, self.folder / WEIGHTS, self.processes)
        self._move(best_value=value, best_epoch=self.state.epoch)

    def _move(self, **changes: object) -> None:
        self.state = self.state.model_copy(update=changes)

    def _seconds(self) -> float:
        return round(time.monotonic() - self.clock, 3)

    def _checkpoint_due(self) -> bool:
        late = time.monotonic() - self.saved > self.config.checkpoint_seconds
        return late and self.processes.first  # one clock for all

    def _save(self) -> None:
        self._move(seconds=self._seconds())
        target = self.folder / CHECKPOINTS
        save_checkpoint(target, self.model, self.optimizer, self.state, self.processes)
        self.saved = time.monotonic()


def _events_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """Users and items `[T]` of the interactions a batch learns to forecast."""
    users = np.repeat(batch.histories.users, batch.histories.lengths)
    return torch.from_numpy(users), torch.from_numpy(batch.targets)


class _Stop:
    asked: str | None = None


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """Notes SIGTERM and SIGINT instead of dying by them; a second one does what it always did.

    Only the main thread of a process can: in another one training goes on until it ends.
    """
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, _: FrameType | None) -> None:
        stop.asked = signal.Signals(number).name
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def drop_checkpoints(folder: Path) -> None:
    """Removes what only a resume needs, once a run has ended."""
    remove(folder / CHECKPOINTS)


def has_checkpoint(folder: Path) -> bool:
    """Whether a run folder keeps a checkpoint to go on from."""
    return any((folder / CHECKPOINTS).glob("step-*"))
