"""Cost of reading time: a training step and users' vectors of SASRec, HSTU and FuXi-alpha.

Random histories of the shape of configs/time_panel.yaml on MovieLens: 1,682 items, batches of 1,024
targets, histories of 100, 256 coordinates at six granularities, two layers, 512 negatives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch

from benchmarks.measure import Row, as_rows, in_turns
from benchmarks.steps import SIX, granularities, random_batch
from recsys.data.batching import Batch
from recsys.losses.softmax import Negatives
from recsys.models import MODELS, Model
from recsys.training.optimizers import OptimizerConfig, build_optimizer, clip_gradients

KINDS = ("sasrec", "hstu", "fuxi")
TIMES = ("none", "request")
NUM_ITEMS, NEGATIVES, USERS, LENGTH = 1_682, 512, 10, 100
SERVED = 25
"""Times the users of a training batch whose vectors are made at once."""


def build(kind: str, when: str) -> Model:
    """A model whose settings are those of the panel."""
    torch.manual_seed(0)
    owner: Any = MODELS.find(kind)
    told = {
        "granularities": granularities(SIX).model_dump(),
        "encoder": {"num_layers": 2, "dropout": 0.4},
        "history_length": LENGTH,
        "time": when,
    }
    return cast(Model, owner(owner.Config.model_validate(told), NUM_ITEMS))


def timed_batch(num_users: int) -> Batch:
    """Histories in which something is taken every hour or so, and a target behind each item."""
    batch = random_batch(NUM_ITEMS, num_users=num_users, length=LENGTH)
    rng = np.random.default_rng(2)
    times = rng.integers(1, 7_200, (num_users, LENGTH + 1)).cumsum(1)
    read, asked = times[:, :-1].ravel(), times[:, -1]
    return Batch(replace(batch.histories, timestamps=read, asked_at=asked), batch.targets)


def stepper(model: Model) -> Callable[[], None]:
    """Forward, backward, clipping, AdamW."""
    optimizer, batch = build_optimizer(model, OptimizerConfig()), timed_batch(USERS)
    chosen = np.random.default_rng(1).choice(NUM_ITEMS, NEGATIVES, replace=False)
    negatives = Negatives(torch.from_numpy(chosen), torch.zeros(NEGATIVES))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model.train().loss(batch, negatives).total.backward()
        clip_gradients(model.parameters(), 1.0)
        optimizer.step()

    return step


def server(model: Model) -> Callable[[], None]:
    """Vectors of many users, of whole histories."""
    histories = timed_batch(SERVED * USERS).histories

    def serve() -> None:
        with torch.inference_mode():
            model.eval().user_vectors(histories)

    return serve


def measure(rounds: int) -> dict[str, list[Row]]:
    """Two tables and the number of weights; the reference is SASRec that reads no time."""
    cases = [(kind, when) for kind in KINDS for when in TIMES]
    models = {f"{kind}, time: {when}": build(kind, when) for kind, when in cases}
    reference = next(iter(models))
    steps = {name: stepper(model) for name, model in models.items()}
    served = {name: server(model) for name, model in models.items()}
    return {
        "training step": as_rows(in_turns(steps, rounds), reference),
        f"vectors of {SERVED * USERS} users": as_rows(in_turns(served, rounds), reference),
        "weights beside the item table": [
            {"variant": name, "weights": _weights(model)} for name, model in models.items()
        ],
    }


def _weights(model: Model) -> int:
    rows = NUM_ITEMS * SIX[-1]
    return sum(each.numel() for each in model.parameters()) - rows
