"""The config of last stages that are compared."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from recsys.config import StrictModel, apply_overrides, load_yaml, parse
from recsys.rankers.lists.steps import AnyStep

PLAIN = "by score"
Chains = dict[str, tuple[AnyStep, ...]]


class LastStageConfig(StrictModel):
    """Chains of steps, and the lists that they are tried on."""

    candidates: int = Field(default=200, ge=2)
    """Best items of the run's model that a list is chosen from."""
    k: int = Field(default=10, ge=1)
    """Places of a list."""
    categories: str | None = "genres"
    """Column of items.parquet with the categories of items; None: there are none."""
    separator: str = Field(default="|", min_length=1)
    """What stands between the categories of an item."""
    stages: Chains = Field(min_length=1)
    """Label -> steps, one after another."""

    @field_validator("stages")
    @classmethod
    def _labels_differ(
        cls, given: dict[str, tuple[AnyStep, ...]]
    ) -> dict[str, tuple[AnyStep, ...]]:
        if PLAIN in given:
            raise ValueError(f"the label {PLAIN!r} is that of lists without any step")
        return given

    @model_validator(mode="after")
    def _has_something_to_choose(self) -> LastStageConfig:
        if self.k >= self.candidates:
            raise ValueError(f"k {self.k} of {self.candidates} candidates leaves no choice")
        return self


def read_last_stage_config(path: Path, overrides: list[str]) -> LastStageConfig:
    """The config of a file, with `key=value` changes.

    Raises:
        ConfigError: the file is absent, or a key or value is wrong.
    """
    return parse(LastStageConfig, apply_overrides(load_yaml(path), overrides), str(path))
