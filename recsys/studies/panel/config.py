"""The config of a panel: a run config, data sets, and levers.

    run: configs/beauty_sasrec.yaml
    panel:
      beauty: {data: data/beauty}
      ml1m: {data: data/ml1m, overrides: [model.history_length=200]}
    levers:
      weights_alike: [model.granularities.weights=null]

Every lever is trained on every data set beside the recipe as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from pydantic import Field, field_validator

from recsys.config import StrictModel, apply_overrides, load_yaml, parse
from recsys.errors import ConfigError
from recsys.progress import console
from recsys.runs.config import RunConfig, read_tree
from recsys.studies.config import PlannedRun
from recsys.studies.doors import (
    SEEDS,
    changes,
    check_comparable,
    check_measurable,
    check_taken,
    distinct,
)

BEFORE = "before"
"""The recipe without a lever."""
_NAME = re.compile(r"[A-Za-z0-9_]+")


class PanelData(StrictModel):
    """A data set of the panel."""

    data: Path
    """Its folder."""
    overrides: tuple[str, ...] = ()
    """What every run on it changes, such as the length of histories."""


class PanelConfig(StrictModel):
    """A recipe, data sets, and changes to the recipe that are tried on each of them."""

    run: Path
    """The run config (YAML, relative to the current folder); its own data set is not looked at."""
    overrides: tuple[str, ...] = ()
    """`key=value` changes to it, for every run of the panel."""
    panel: Mapping[str, PanelData] = Field(min_length=1)
    """Name -> data set."""
    levers: Mapping[str, tuple[str, ...]] = {}
    """Name -> `key=value` changes that make the lever."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    least_at_full_width: float = 0.0
    """A lever whose mean gain at full width is less than this share is not chosen."""
    num_resamples: int = Field(default=1000, ge=100)

    @field_validator("seeds")
    @classmethod
    def _once_each(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        distinct(values, "seeds")
        return values

    @field_validator("panel", "levers")
    @classmethod
    def _names_of_folders(cls, values: Mapping[str, object]) -> Mapping[str, object]:
        for name in values:
            if not _NAME.fullmatch(name) or name == BEFORE:
                raise ValueError(
                    f"{name!r} is no name here: letters, digits and _ are, and {BEFORE!r} is the "
                    "recipe itself"
                )
        return values


@dataclass(frozen=True)
class PanelRun:
    """One training run of a panel."""

    data: str
    lever: str
    run: PlannedRun


@dataclass(frozen=True)
class PanelPlan:
    """Everything a panel trains and measures."""

    config: PanelConfig
    runs: tuple[PanelRun, ...]
    """The recipe itself first, then lever by lever, each on all data sets."""

    def of(self, data: str, lever: str) -> list[PlannedRun]:
        """The runs of all seeds."""
        return [each.run for each in self.runs if (each.data, each.lever) == (data, lever)]


def read_panel(path: Path, overrides: list[str]) -> PanelConfig:
    """A panel file with `key=value` overrides put in.

    Raises:
        ConfigError: naming the file, the key and the nearest known one.
    """
    return parse(PanelConfig, apply_overrides(load_yaml(path), overrides), str(path))


def make_panel_plan(panel: PanelConfig) -> PanelPlan:
    """Resolves every run of a panel.

    Raises:
        ConfigError: a run config is wrong, or the data sets would have other granularities.
    """
    levers = {BEFORE: (), **panel.levers}
    runs = tuple(
        PanelRun(data, lever, _resolved(panel, data, lever, words, seed))
        for seed in panel.seeds
        for lever, words in levers.items()
        for data in panel.panel
    )
    _check_runs(
        panel, {(e.data, e.lever): e.run.config for e in runs if e.run.seed == panel.seeds[0]}
    )
    sizes = {each.run.config.model.granularities.sizes for each in runs}
    if len(sizes) > 1:
        raise ConfigError(
            f"the runs of a panel are compared at the same granularities, found {sorted(sizes)}"
        )
    return PanelPlan(panel, runs)


def _check_runs(panel: PanelConfig, configs: Mapping[tuple[str, str], RunConfig]) -> None:
    """Refuses levers and data sets that would be measured as if they were others.

    Raises:
        ConfigError: a lever changes nothing, or what is compared by, or is another one again; or a
            data set is.
    """
    for (data, lever), config in configs.items():
        check_measurable(config, "valid", f"{panel.run} on {data}", other="")
        check_comparable(configs[data, BEFORE], config, f"lever {lever}")
    for lever, words in panel.levers.items():
        still = [d for d in panel.panel if not changes(configs[d, BEFORE], configs[d, lever])]
        if len(still) == len(panel.panel):
            raise ConfigError(
                f"lever {lever} ({', '.join(words) or 'no changes'}) changes nothing: the recipe "
                "has these values already, or they change no figure of it; leave the lever out"
            )
        if still:
            console.print(
                f"lever {lever} changes nothing on {', '.join(still)}: the recipe has its values "
                "there already, so its gain there is 0",
                style="yellow",
                markup=False,
            )
    for what, names, pairs in (
        ("levers", list(panel.levers), lambda lever: [(d, lever) for d in panel.panel]),
        ("data sets", list(panel.panel), lambda data: [(data, e) for e in (BEFORE, *panel.levers)]),
    ):
        for one, other in combinations(names, 2):
            mine, theirs = ([configs[key] for key in pairs(name)] for name in (one, other))
            if not any(map(changes, mine, theirs)):
                raise ConfigError(
                    f"{what} {one} and {other} of the panel are the same runs, which would count "
                    "twice; leave one of them out"
                )


def _resolved(
    panel: PanelConfig, data: str, lever: str, words: tuple[str, ...], seed: int
) -> PlannedRun:
    place = panel.panel[data]
    check_taken([*panel.overrides, *place.overrides, *words], SEEDS)
    own = (*panel.overrides, f"data={place.data}", *place.overrides, *words)
    tree, _ = read_tree(panel.run, [*own, f"trainer.seed={seed}"])
    config = parse(RunConfig, tree, " ".join([str(panel.run), *own]))
    return PlannedRun(f"{data}--{lever}-s{seed}", None, seed, config)
