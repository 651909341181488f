"""The config of rankers that are compared on labelled events."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, field_validator

from recsys.config import StrictModel, apply_overrides, load_yaml, parse
from recsys.rankers.base import RankerConfig
from recsys.rankers.calibration.calibrators import Kind
from recsys.rankers.registry import AnyRankerConfig

_LABEL = re.compile(r"[A-Za-z0-9_+.-]+")


class ClicksConfig(StrictModel):
    """Labelled events, and the rankers that are fitted on them."""

    data: Path
    """A folder of labelled events, as `recsys prepare clicks` writes it."""
    features: tuple[str, ...] | None = None
    """Fields, lists and numbers that are read; None: all."""
    rankers: dict[str, AnyRankerConfig] = Field(min_length=1)
    """By a label of your own, which names its folder."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Each ranker is fitted once for each."""
    calibration: Kind = "isotonic"
    """The map from scores to probabilities, which is fitted on the validation part."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of torch and numpy; None: all cores. To repeat a run bit for bit, give its number."""

    @field_validator("rankers")
    @classmethod
    def _labels_name_folders(cls, given: dict[str, RankerConfig]) -> dict[str, RankerConfig]:
        for label in given:
            if not _LABEL.fullmatch(label) or label.startswith("."):
                raise ValueError(f"label {label!r} names a folder: use letters, digits and _+.-")
        return given


def read_clicks_config(path: Path, overrides: list[str]) -> ClicksConfig:
    """The config of a file, with `key=value` changes.

    Raises:
        ConfigError: the file is absent, or a key or value is wrong.
    """
    return parse(ClicksConfig, apply_overrides(load_yaml(path), overrides), str(path))
