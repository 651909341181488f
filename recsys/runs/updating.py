"""The section `update` of a run config: the run that is gone on from, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from recsys.config import StrictModel


class UpdateConfig(StrictModel):
    """Settings of a run that goes on from another one (`recsys update`)."""

    parent: Path
    """The run folder that is gone on from."""
    weights: str = Field(pattern=r"^[0-9a-f]{64}$")
    """sha256 of its weights."""
    replay: float = Field(default=0.3, ge=0, lt=1)
    """Share of an epoch's targets that are drawn from users without new rows, others each epoch."""
    neighbours: int = Field(default=3, ge=0)
    """A new item without content starts as the mean of the items up to so many places before and
    after it in histories; 0: at random."""
    hold: Literal["nothing", "items", "anchor"] = "nothing"
    """items: what makes the vectors of trained items stands still, so that old and new vectors can
    be used together (`--compatible`). anchor: they are drawn to where they were."""
    anchor: float = Field(default=1.0, gt=0)
    """Of hold: anchor: the weight of the mean of 1 - cosine to the old vectors, over prefixes."""

    @model_validator(mode="after")
    def _anchor_does_something(self) -> UpdateConfig:
        if self.anchor != 1.0 and self.hold != "anchor":
            raise ValueError(
                f"update.anchor {self.anchor:g} is the weight of update.hold: anchor, and hold is "
                f"{self.hold}; leave it out, or say update.hold=anchor"
            )
        return self
