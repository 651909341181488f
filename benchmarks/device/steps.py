"""Time of the loss and of a training step: one granularity and six, naive and ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch

from benchmarks.device.plan import Plan
from benchmarks.device.timing import Clock
from benchmarks.measure import Row
from benchmarks.steps import granularities, naive_loss, random_batch
from recsys.layers.precision import Precision, forward_in
from recsys.losses.softmax import Negatives, nested_softmax
from recsys.models import SASRec, SASRecConfig
from recsys.training.optimizers import OptimizerConfig, build_optimizer, clip_gradients

Candidates = Literal["full", "sampled"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16")
_HISTORY = 8


def variants(plan: Plan) -> Iterator[tuple[int, Candidates, Precision, tuple[int, ...]]]:
    """Catalogue, candidates, precision and granularities of every row."""
    for items in plan.catalogues:
        for candidates in ("full", "sampled"):
            for precision in PRECISIONS:
                for sizes in (plan.sizes[-1:], plan.sizes):
                    yield items, candidates, precision, sizes


def measure(plan: Plan, clock: Clock) -> dict[str, list[Row]]:
    """Two tables: the loss alone, naive and ours, and a step of SASRec."""
    losses, steps = [], []
    for items, candidates, precision, sizes in variants(plan):
        what: dict[str, object] = {
            "items": items,
            "softmax": candidates,
            "precision": precision,
            "granularities": len(sizes),
        }
        for form in ("naive", "ours"):
            run = loss_of(plan, clock.device, items, candidates, precision, sizes, form == "naive")
            losses.append(clock.row({**what, "form": form}, run))
        run = step_of(plan, clock.device, items, candidates, precision, sizes)
        steps.append(clock.row(what, run))
    return {
        "loss alone, forward and backward": with_ratios(losses),
        "training step of SASRec": with_ratios(steps),
    }


def with_ratios(rows: list[Row | None]) -> list[Row]:
    """The rows, each with its time over that of one granularity of the same kind."""
    kept = [row for row in rows if row is not None]
    ones = {_kind(row): row["ms"] for row in kept if row["granularities"] == 1}
    for row in kept:
        one = ones.get(_kind(row))
        both = isinstance(one, float) and isinstance(row["ms"], float)
        row["ratio"] = row["ms"] / one if both else ""
    return kept


def _kind(row: Row) -> tuple[object, ...]:
    return tuple(value for key, value in row.items() if key not in _FOUND)


_FOUND = ("granularities", "ms", "MiB", "ratio")


def loss_of(
    plan: Plan,
    device: torch.device,
    items: int,
    candidates: Candidates,
    precision: Precision,
    sizes: tuple[int, ...],
    naive: bool,
) -> Callable[[], Callable[[], None]]:
    """Makes forward and backward of a loss over random vectors."""

    def make() -> Callable[[], None]:
        torch.manual_seed(0)
        scored = items if candidates == "full" else min(items, plan.negatives)
        users = torch.randn(plan.tokens, sizes[-1], device=device, requires_grad=True)
        table = torch.randn(scored, sizes[-1], device=device, requires_grad=True)
        targets = torch.randint(scored, (plan.tokens,), device=device)
        scales = torch.full((len(sizes),), 15.0, device=device, requires_grad=True)
        sample = None
        if candidates == "sampled":
            sample = Negatives(torch.arange(scored, device=device), None)

        def run() -> None:
            with forward_in(precision, device):
                if naive:
                    loss = naive_loss(users, table, targets, sizes)
                else:
                    given = table if sample is None else torch.cat([table, table[targets]])
                    loss = nested_softmax(
                        users,
                        given,
                        targets,
                        scales,
                        granularities(sizes),
                        negatives=sample,
                    ).total
            loss.backward()
            users.grad = table.grad = scales.grad = None

        return run

    return make


def step_of(
    plan: Plan,
    device: torch.device,
    items: int,
    candidates: Candidates,
    precision: Precision,
    sizes: tuple[int, ...],
) -> Callable[[], Callable[[], None]]:
    """Makes a whole training step: batch to device, forward, backward, clipping, AdamW."""

    def make() -> Callable[[], None]:
        torch.manual_seed(0)
        config = SASRecConfig(
            granularities=granularities(sizes), sparse_gradients=candidates == "sampled"
        )
        model = SASRec(config, items).to(device)
        optimizer = build_optimizer(model, OptimizerConfig())
        batch = random_batch(items, num_users=plan.tokens // _HISTORY, length=_HISTORY)
        sample = None
        if candidates == "sampled":
            drawn = np.random.default_rng(1).choice(items, min(items, plan.negatives), False)
            sample = Negatives(torch.from_numpy(np.sort(drawn)).to(device), None)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with forward_in(precision, device):
                loss = model.loss(batch, sample)
            loss.total.backward()
            clip_gradients(model.parameters(), 1.0)
            optimizer.step()

        return step

    return make
