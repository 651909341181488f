"""The config of a ranker: its candidates, its rows, its features, its model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from recsys.config import StrictModel, apply_overrides, load_yaml, parse
from recsys.rankers.features.config import FeaturesConfig
from recsys.rankers.models.trees import LightGBMConfig
from recsys.rankers.registry import AnyRankerConfig


class CandidatesConfig(StrictModel):
    """The funnel whose candidates are ranked."""

    keep: int = Field(default=200, ge=2)
    """Candidates of each request."""
    stages: str | None = None
    """As `16:200,256`; the last granularity gives the order that the ranker must beat. None: those
    of the bundle, or exact search at full width."""
    tiers: str | None = None
    """`lo:hi:codec:residence` by comma, of a run (a bundle has its own). None: fp32."""


class RowsConfig(StrictModel):
    """The requests that a ranker learns from."""

    earlier: Path | None = None
    """A run of the same data without its test part (`recsys rank earlier`): the ranker learns from
    the validation part of that run. None: from that of the run itself, cross-fitted over users."""
    folds: int = Field(default=5, ge=3)
    """Groups of users: each is ranked by a ranker fitted on the others, for an honest figure; and
    the last one says when to stop, in the final fit."""
    missed: float = Field(default=0.0, ge=0)
    """Weight of targets that the funnel has not found, which are added as rows. 0: left out."""
    most: int | None = Field(default=None, ge=2)
    """Users, evenly spread. None: all."""


class RankConfig(StrictModel):
    """All settings of a ranker: one YAML file and `key=value` overrides."""

    candidates: CandidatesConfig = CandidatesConfig()
    rows: RowsConfig = RowsConfig()
    features: FeaturesConfig = FeaturesConfig()
    ranker: AnyRankerConfig = Field(default_factory=LightGBMConfig)
    seed: int = Field(default=0, ge=0)


def read_rank_config(
    path: str | Path | RankConfig | None, overrides: Sequence[str] = ()
) -> RankConfig:
    """A config file (None: the defaults) with overrides put in.

    Raises:
        ConfigError: naming the file, the key and the nearest known one.
    """
    if isinstance(path, RankConfig):
        tree, origin = path.model_dump(mode="json"), "the config"
    else:
        tree, origin = ({}, "the overrides") if path is None else (load_yaml(Path(path)), str(path))
    return parse(RankConfig, apply_overrides(tree, list(overrides)), origin)
