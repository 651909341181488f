"""Rows that get smaller during a part of the planned training, down to what is served."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from recsys.config import StrictModel
from recsys.tables.host_buffers import HostBuffers

_ENDS_BY = 0.9


class RampConfig(StrictModel):
    """Options of when rows get smaller."""

    start: float = Field(default=0.15, ge=0)
    """Part of the planned training before rows get smaller."""
    ramp: float = Field(default=0.5, gt=0)
    """Part of it in which they do; what is left trains the rows as served."""

    @model_validator(mode="after")
    def _ends_with_the_training(self) -> RampConfig:
        if self.start + self.ramp > _ENDS_BY:
            raise ValueError(
                f"start {self.start:g} and ramp {self.ramp:g} are parts of the planned training, "
                f"not steps, and together at most {_ENDS_BY}: what is left trains the rows as they "
                "are served"
            )
        return self


class RampedTable(HostBuffers):
    """A table that whoever trains it tells of every step (`note_progress`); whole until then.

    In evaluation mode its rows are always those that are served: what is validated is what would
    be served, also while training still works on larger rows.
    """

    on_host: ClassVar[tuple[str, ...]] = ("progress",)
    progress: Tensor

    def __init__(self, config: RampConfig) -> None:
        super().__init__()
        self.when = config
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))

    @property
    def ramped(self) -> float:
        """How much of the ramp is done: 0 while rows are whole, 1 once they are as served."""
        done = (float(self.progress) - self.when.start) / self.when.ramp
        return min(max(done, 0.0), 1.0)

    @property
    def served_as(self) -> str:
        """What rows are cut to, in words."""
        raise NotImplementedError

    def note_progress(self, progress: float) -> None:
        """One training step at `progress`, 0..1 of what is planned."""
        self.progress.fill_(progress)
