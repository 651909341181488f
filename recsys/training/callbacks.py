"""What a training tells its caller while it runs, and how the caller ends it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Event = Literal["step", "epoch", "validation"]


@dataclass(frozen=True)
class Validation:
    """One look at the held-out part."""

    value: float
    """What early stopping goes by, higher is better."""
    figures: dict[str, float]
    """What the log keeps, e.g. `ndcg@10/d64`."""


@dataclass(frozen=True)
class Moment:
    """Where a training is."""

    event: Event
    """What has just ended: a step, an epoch, or the validation after it."""
    epoch: int
    """Epochs that are finished."""
    step: int
    """Updates that are done."""
    loss: float
    """Mean over the epoch so far: of a step at the full width, of an epoch over all
    granularities by their weights."""
    validation: Validation | None = None
    """What was found; None: the event is no validation."""
    scalars: Mapping[str, float] = field(default_factory=dict)
    """What loggers are sent: of a step its own losses by granularity and the learning rate, of an
    epoch the mean losses, of a validation its figures."""


Callback = Callable[[Moment], str | None]
"""Called after every step, epoch and validation, in every process of a training.

A text ends training for that reason: the run is finished, with its best weights so far. An error
that it raises leaves the run as a kill would; `--resume` goes on from the last checkpoint.
"""
