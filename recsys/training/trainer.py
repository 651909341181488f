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
from dataclasses import dataclass
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
from recsys.devices import device_of, is_host, memory_told, on_device, to_indices
from recsys.errors import ConfigError, RunError
from recsys.evaluation.metrics import METRICS
from recsys.files.atomic import remove
from recsys.granularity import Granularities
from recsys.layers.precision import Precision, forward_in
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
    shared_total,
)
from recsys.training.feed import AHEAD, Fed, Feed
from recsys.training.logs import NoLog, RunLog, open_log
from recsys.training.optimizers import (
    OptimizerConfig,
    build_optimizer,
    clip_gradients,
    set_rate,
)

CHECKPOINTS = "checkpoints"
_READ_EVERY = 50
"""Steps on a device from one look at their losses to the next: each look waits for the device."""
_ADVICE = (
    "lower batching.batch_tokens, loss.negatives.uniform or model.history_length, choose a smaller "
    "kind of model.table, or train on the CPU (device=cpu)"
)


class TrainerConfig(StrictModel):
    """Options of the length of training, of validation and of early stopping."""

    epochs: int = Field(default=20, ge=1)
    """At most this many; exactly this many when nothing is held out to stop by."""
    histories: int | None = Field(default=None, ge=1)
    """Fewer epochs where so many histories are read in about as many passes over the data set,
    since large data sets are learned by heart in fewer; None: as many as `epochs` says. The number
    that it comes to stands in run.json."""
    least_epochs: int = Field(default=9, ge=1)
    """What `histories` leaves of `epochs` at least."""
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
    precision: Precision = "float32"
    """bf16: forward passes multiply matrices in bfloat16 (torch.autocast); sums of the loss,
    weights and the optimizer stay in float32. For GPUs; slow on CPUs without such instructions."""
    seed: int = Field(default=0, ge=0)

    @field_validator("metric")
    @classmethod
    def _there_is_such_a_metric(cls, given: str) -> str:
        try:
            METRICS.find(given.partition("@")[0])
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return given

    def for_histories(self, count: int) -> TrainerConfig:
        """The same with `histories` put into `epochs`, for a data set of so many."""
        if self.histories is None:
            return self
        fewer = max(self.least_epochs, round(self.histories / count))
        given = self.model_dump(exclude={"histories", "least_epochs"}, exclude_unset=True)
        return TrainerConfig.model_validate(given | {"epochs": min(self.epochs, fewer)})

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
        open_log(folder, loop.state.epoch, silent=not processes.first) as log,
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
        self.model, self.batches, self.folder = model, batches, folder
        self.config = config.for_histories(batches.num_histories)
        self.nested = cast(Trainable, model)
        self.validate, self.callback = validate, callback
        self.device = device_of(model)
        self.read_every = 1 if is_host(self.device) else _READ_EVERY
        self.unread: list[_Unread] = []
        ahead = 0 if is_host(self.device) else AHEAD
        self.feed = Feed(batches, sampler, config.seed, ahead=ahead)
        self.processes, self.sharded = processes, [table for _, table in sharded_tables(model)]
        self.optimizer = build_optimizer(model, config.optimizer)
        found = load_checkpoint(folder / CHECKPOINTS, model, self.optimizer) or TrainState()
        self.state = found.model_copy(update={"ended": None})  # whoever ended it is asked again
        self.clock = time.monotonic() - self.state.seconds
        self.saved = time.monotonic()
        self.loss = math.nan
        self.step_losses = torch.full((len(self.nested.granularities.sizes),), math.nan)

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

    def _tell(
        self,
        event: Event,
        found: Validation | None = None,
        scalars: dict[str, float] | None = None,
    ) -> bool:
        """Calls the callback, if there is one; whether it wants training to end."""
        if self.callback is None:
            return False
        state, summed = self.state, self.loss
        told = self._scalars() if scalars is None else scalars
        answer = self.callback(Moment(event, state.epoch, state.step, summed, found, told))
        if answer:
            self._move(ended=answer)
        return bool(answer)

    def _scalars(self) -> dict[str, float]:
        """Of the last step: its loss at every granularity, and the learning rate."""
        sizes = self.nested.granularities.sizes
        losses = zip(sizes, self.step_losses.tolist(), strict=True)
        return {
            **{f"loss/d{size}": value for size, value in losses},
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
        }

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
        for fed in self.feed.epoch(state.epoch, state.index, state.step):
            index = fed.index
            with memory_told(self.device, _ADVICE):
                self._step(fed, (state.epoch + index / num_batches) / self.config.epochs)
            self._move(step=self.state.step + 1, index=index + 1)
            if len(self.unread) >= self.read_every:
                self._read()
            done += len(fed.batch.targets)
            rate = done / (time.monotonic() - started)
            note = f"epoch {state.epoch + 1}  loss {self.loss:.3f}  {rate:,.0f} items/s"
            bar.update(task, completed=self.state.step, total=total, note=note)
            yield

    def _read(self) -> None:
        """Adds the losses of the last steps to the sums of the epoch.

        Raises:
            RunError: one is no longer finite.
        """
        if not self.unread:
            return
        first = self.state.step - len(self.unread)
        with memory_told(self.device, _ADVICE):
            rows = torch.stack([torch.cat([each.checks, each.losses]) for each in self.unread])
        for number, (total, norm, *losses) in enumerate(rows.cpu().tolist()):
            _refuse_loss(total, first + number)
            _refuse_norm(norm, first + number)
            found, sums = torch.tensor(losses, dtype=torch.float64), self.state.loss_sums
            self.step_losses = found
            found = found + torch.tensor(sums).double() if sums else found
            self._move(loss_sums=tuple(found.tolist()))
        self.unread.clear()
        self.loss = self.state.loss_sums[-1] / self.state.index

    def _step(self, fed: Fed, done: float) -> None:
        """One update; its losses are read later."""
        step, seed, batch = self.state.step, self.config.seed, fed.batch
        torch.manual_seed(seed * 1_000_003 + step + (self.processes.rank << 40))
        negatives = self._negatives(fed)
        note_events(self.model, *_events_of(batch))
        note_progress(self.model, done)
        rate = self.config.optimizer.rate(step, done)
        for table in self.sharded:  # they step inside backward
            table.set_rate(rate / self.config.optimizer.learning_rate)
        share = share_of(batch, self.processes)
        with forward_in(self.config.precision, self.device):
            output = self.nested.loss(share.batch, negatives)
        loss = output.total.detach()
        if self.read_every == 1:
            _refuse_loss(float(loss), step)
        self.optimizer.zero_grad(set_to_none=True)
        penalty = penalty_of(self.model)
        total = shared_total(output, share, self.processes)
        (total if penalty is None else total + penalty).backward()
        average_gradients(self.model, self.processes)
        optimizer = self.config.optimizer
        norm = clip_gradients(self.model.parameters(), optimizer.clip_norm)
        if not isinstance(norm, Tensor):  # elsewhere before it gets into a checkpoint
            _refuse_norm(norm, step)
        set_rate(self.optimizer, rate)
        self.optimizer.step()
        losses = joined_losses(output.per_granularity, share, self.processes)
        checks = torch.stack([loss, norm if isinstance(norm, Tensor) else loss.new_tensor(norm)])
        self.unread.append(_Unread(losses, checks.to(losses.dtype)))

    def _negatives(self, fed: Fed) -> Negatives | None:
        if fed.drawn is None:
            return None
        items, log_q = fed.drawn
        corrections = None if log_q is None else on_device(log_q.astype(np.float32), self.device)
        return Negatives(to_indices(items, self.device), corrections)

    def _end_epoch(self, log: RunLog | NoLog) -> None:
        self._read()
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
        # On a CPU nothing is made ahead: making a batch is work, and not a wait.
        waited = {} if is_host(self.device) else {"waited": round(self.feed.waited, 3)}
        self.feed.waited = 0.0
        log.write("train", state.step, scalars, epoch=epoch, seconds=self._seconds(), **waited)
        self.loss = total
        self._tell("epoch", scalars=scalars)
        if self.validate is None:
            self._keep_best(None)
        elif epoch % self.config.validate_every == 0 or epoch == self.config.epochs:
            self.model.eval()
            found = self.validate()
            if self.state.best_value is None or found.value > self.state.best_value:
                self._keep_best(found.value)
            figures = {"value": found.value, **found.figures}
            log.write("valid", state.step, figures, epoch=epoch, seconds=self._seconds())
            self._tell("validation", found, figures)
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
        self._read()
        self._move(seconds=self._seconds())
        target = self.folder / CHECKPOINTS
        save_checkpoint(target, self.model, self.optimizer, self.state, self.processes)
        self.saved = time.monotonic()


@dataclass(frozen=True)
class _Unread:
    """What a step has left on the device."""

    losses: Tensor
    """`[G]`."""
    checks: Tensor
    """`[2]`: the loss, and the norm of the gradients."""


def _refuse_loss(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise RunError(
            f"the loss is {loss} at step {step}; lower trainer.optimizer.learning_rate, or raise "
            "its warmup_steps"
        )


def _refuse_norm(norm: float, step: int) -> None:
    if not math.isfinite(norm):
        raise RunError(
            f"the gradients have the norm {norm} at step {step}; lower "
            "trainer.optimizer.learning_rate, or raise its warmup_steps"
        )


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
