"""Fitting of a ranking network: all widths in each step, early stopping on the validation rows.

Shape legend: R rows of a batch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.progress import Progress, TaskID
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from recsys.devices import find_device, memory_told, on_device
from recsys.errors import DataError, RunError
from recsys.progress import progress
from recsys.rankers.examples import Examples, Schema
from recsys.rankers.layers.inputs import Batch
from recsys.rankers.networks.base import Features, Network
from recsys.rankers.neural.batches import (
    Batches,
    Picked,
    check_examples,
    single_rows,
    whole_requests,
)
from recsys.rankers.neural.losses import LOSSES, Labelled, distilled
from recsys.rankers.neural.statistics import number_statistics

if TYPE_CHECKING:
    from recsys.rankers.models.neural import NeuralConfig


class _Part:
    """Labelled examples, batch by batch on a device."""

    def __init__(self, examples: Examples, network: Network, config: NeuralConfig) -> None:
        self.examples, self.options = examples, config.training
        self.device = find_device(config.training.device)
        self.batches = Batches(examples, network.reads, config.history_length)
        assert examples.labels is not None
        self._labels = examples.labels
        if config.training.loss != "pointwise":
            _check_requests(examples)

    def plan(self, rng: np.random.Generator | None) -> list[Picked]:
        """The batches of one pass."""
        if self.options.loss == "pointwise":
            found = single_rows(len(self._labels), self.options.batch_rows, rng)
        else:
            found = whole_requests(self.examples.offsets, self.options.batch_rows, rng)
        return list(found)

    def load(self, picked: Picked) -> tuple[Batch, Labelled]:
        """One batch on the device."""
        arrays = self.batches.arrays(picked.rows)
        weights = self.examples.weights
        rows = np.ones(len(picked.rows), np.float32) if weights is None else weights[picked.rows]
        labelled = (self._labels[picked.rows], rows.astype(np.float32), picked.starts)
        return (
            Batch(**{name: on_device(array, self.device) for name, array in arrays.items()}),
            Labelled(*(on_device(array, self.device) for array in labelled)),
        )


def _check_requests(examples: Examples) -> None:
    """Raises DataError where no request has both a target and another row: nothing to learn."""
    assert examples.labels is not None
    targets = np.add.reduceat(np.append(examples.labels > 0, False), examples.offsets[:-1])
    sizes = np.diff(examples.offsets)
    if not ((targets > 0) & (targets < sizes)).any():
        raise DataError(
            "no request has a target and another row, so a loss within requests learns nothing; "
            "use training.loss=pointwise, or give examples with both"
        )


def fit_network(
    config: NeuralConfig, schema: Schema, train: Examples, validation: Examples, seed: int
) -> nn.Module:
    """A network with the weights that were best on the validation rows, in evaluation mode.

    The global random state stays as it was.

    Raises:
        DataError: the examples have no labels, no features of the schema, or nothing to learn from.
        ConfigError: the network cannot be built on this schema.
        RunError: the loss is no number any more.
    """
    for examples in (train, validation):
        check_examples(examples, schema, labelled=True)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        statistics = number_statistics(train.numbers, config.inputs.num_quantiles, seed)
        network: Any = config.build(Features(schema, statistics, config.inputs))
        device = find_device(config.training.device)
        network.to(device)
        fitting = Fitting(config, network, (train, validation), seed)
        with memory_told(device, "lower training.batch_rows"):
            return fitting.run()


class Fitting:
    """The loop over epochs, with a check of the validation rows every so often."""

    def __init__(
        self, config: NeuralConfig, network: Any, parts: tuple[Examples, Examples], seed: int
    ) -> None:
        self.config, self.network, self.options = config, network, config.training
        self.train, self.validation = (_Part(each, network, config) for each in parts)
        self.rng = np.random.default_rng(seed)
        self.optimizer = _optimizer(network, config)
        decay = self.options.averaging
        self.average = (
            AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None
        )
        self.best: dict[str, Any] | None = None
        self.best_loss, self.worse = float("inf"), 0

    def run(self) -> nn.Module:
        """Trains until nothing gets better, or all epochs are done."""
        steps = len(self.train.plan(None))
        with progress("loss {task.fields[loss]}", "best {task.fields[best]}") as bar:
            task = bar.add_task(
                f"fit {self.config.name}", total=steps * self.options.epochs, loss="-", best="-"
            )
            for _ in range(self.options.epochs):
                if self._epoch(bar, task):
                    break
        if self.best is None:
            raise RunError(
                f"the validation loss of {self.config.name} was never a number; lower "
                f"training.learning_rate ({self.options.learning_rate})"
            )
        self.network.load_state_dict(self.best)
        found: nn.Module = self.network.eval().cpu().requires_grad_(False)
        return found

    def _epoch(self, bar: Progress, task: TaskID) -> bool:
        """One pass over the training rows; True: training ends."""
        plan = self.train.plan(self.rng)
        checks = np.unique(
            np.linspace(0, len(plan), self.options.checks_per_epoch + 1).astype(int)[1:]
        )
        for step, picked in enumerate(plan, start=1):
            loss = self._step(picked)
            bar.update(task, advance=1)
            if step in checks:
                bar.update(task, loss=f"{loss:.4f}")
                done = self._check()
                bar.update(task, best=f"{self.best_loss:.4f}")
                if done:
                    return True
        return False

    def _step(self, picked: Picked) -> float:
        self.network.train()
        batch, given = self.train.load(picked)
        total = torch.zeros((), device=given.labels.device)
        for sums in self._losses(self.network, batch, given, distil=True):
            total = total + sums[0] / sums[1].clamp(min=1e-12)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        value = float(total.detach())
        if not np.isfinite(value):
            raise RunError(
                f"the loss of {self.config.name} is {value}; lower training.learning_rate "
                f"({self.options.learning_rate})"
            )
        return value

    def _losses(
        self, network: Any, batch: Batch, given: Labelled, *, distil: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Those of each width, the widest first, and what each has to learn from the one before."""
        wider: Tensor | None = None
        loss, weight = self.options.loss, self.config.widths.distillation
        for share in reversed(self.config.widths.shares):
            scores = network(batch, share)
            yield LOSSES[loss](scores, given)
            if distil and wider is not None and weight:
                sums, weights = distilled(loss, scores, wider, given)
                yield weight * sums, weights
            wider = scores

    def _check(self) -> bool:
        """Scores the validation rows and keeps the best weights; True: training ends."""
        network = self.network if self.average is None else self.average.module
        loss = self._validation_loss(network)
        if loss < self.best_loss:
            self.best_loss, self.worse = loss, 0
            self.best = copy.deepcopy(network.state_dict())
            return False
        self.worse += 1
        for group in self.optimizer.param_groups:
            group["lr"] *= self.options.slow_down
        return self.worse >= self.options.patience

    @torch.no_grad()
    def _validation_loss(self, network: Any) -> float:
        """The mean over widths."""
        network.eval()
        shares = len(self.config.widths.shares)
        sums, weights = np.zeros(shares), np.zeros(shares)
        for picked in self.validation.plan(None):
            batch, given = self.validation.load(picked)
            for place, found in enumerate(self._losses(network, batch, given, distil=False)):
                sums[place] += float(found[0])
                weights[place] += float(found[1])
        return float((sums / weights).mean())


def _optimizer(network: Any, config: NeuralConfig) -> torch.optim.Optimizer:
    """Adam or AdamW, with a decay of their own for tables."""
    inputs, options = network.inputs, config.training
    tables = [
        parameter
        for module in (inputs.fields, inputs.items)
        if module is not None
        for parameter in module.parameters()
    ]
    known = {id(each) for each in tables}
    others = [each for each in network.parameters() if id(each) not in known]
    groups = [
        {"params": tables, "weight_decay": options.table_decay},
        {"params": others, "weight_decay": options.weight_decay},
    ]
    kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
    return kind([group for group in groups if group["params"]], lr=options.learning_rate)
