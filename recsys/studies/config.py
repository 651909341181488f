"""The config of a study: run config, seeds, widths and methods."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, field_validator

from recsys.config import StrictModel, apply_overrides, load_yaml, parse
from recsys.errors import ConfigError
from recsys.evaluation.metrics import checked_metrics
from recsys.evaluation.protocol import Part
from recsys.runs.config import RunConfig, read_tree
from recsys.studies.doors import SEEDS, changes, check_comparable, check_measurable, check_taken
from recsys.studies.methods import METHODS

DEFAULT_BETWEEN = (12, 24, 48, 96, 192)


class StudyConfig(StrictModel):
    """A nested run, and the runs and methods it is compared with."""

    run: Path
    """The run config of the nested model (YAML, relative to the current folder)."""
    overrides: tuple[str, ...] = ()
    """`key=value` changes to it, for every run of the study."""
    separate_overrides: tuple[str, ...] = ()
    """Further changes, for separately trained runs alone: only what one granularity cannot have."""
    seeds: tuple[int, ...] = (0, 1, 2)
    widths: tuple[int, ...] | None = None
    """Widths trained separately; None: all granularities of the nested model."""
    between: tuple[int, ...] | None = None
    """Widths that are measured without ever being trained; None: 12, 24, 48, 96 and 192, as far
    as they are shorter than the full width."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Which lines the study draws, see `recsys.studies.methods`."""
    sparse_atoms: int = Field(default=4, ge=1)
    """Atoms of the sparse codes for each coordinate of the full width; no more than an eighth of
    the items, as atoms that outweigh the catalogue compress nothing."""
    part: Part = "test"
    metrics: tuple[str, ...] = ()
    """More than recall and ndcg: `mrr`, or one from outside, `my_package.my_module:rbp`."""
    ks: tuple[int, ...] = (10, 20)
    num_resamples: int = Field(default=1000, ge=100)

    @field_validator("seeds", "methods", "ks")
    @classmethod
    def _some_and_distinct(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if not values or len(set(values)) != len(values):
            raise ValueError(f"must be at least one, each once, found {values}")
        return values

    @field_validator("metrics")
    @classmethod
    def _measurable(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return checked_metrics(values)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    @field_validator("methods")
    @classmethod
    def _known(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in values if name not in METHODS]:
            raise ValueError(f"{unknown} are not among {tuple(METHODS)}")
        return values

    @field_validator("ks")
    @classmethod
    def _shows_at_10(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if 10 not in values or min(values) < 1:
            raise ValueError(f"must be positive and hold 10, which tables and plots show: {values}")
        return tuple(sorted(values))


@dataclass(frozen=True)
class PlannedRun:
    """One training run of a study."""

    name: str
    """Of its folder: `nested-s0`, `separate-d64-s0`."""
    width: int | None
    """None: nested."""
    seed: int
    config: RunConfig


@dataclass(frozen=True)
class Plan:
    """Everything a study trains and measures."""

    config: StudyConfig
    nested: RunConfig
    """The nested run, with the seed of its own file."""
    runs: tuple[PlannedRun, ...]
    """Seed by seed, so that a study that is half done has all widths of its first seeds."""
    between: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The trained granularities."""
        return self.nested.model.granularities.sizes

    @property
    def full(self) -> int:
        """The full width."""
        return self.sizes[-1]

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the separate runs, ascending."""
        return tuple(sorted({run.width for run in self.runs if run.width is not None}))

    def find(self, width: int | None, seed: int) -> PlannedRun | None:
        """The run of that width (None: nested) and seed, if it is part of the study."""
        return next((run for run in self.runs if (run.width, run.seed) == (width, seed)), None)


def read_study(path: str | Path, overrides: list[str]) -> StudyConfig:
    """A study file with `key=value` overrides put in.

    Raises:
        ConfigError: naming the file, the key and the nearest known one.
    """
    return parse(StudyConfig, apply_overrides(load_yaml(Path(path)), overrides), str(path))


def make_plan(study: StudyConfig) -> Plan:
    """Resolves every run of a study.

    Raises:
        ConfigError: a run config is wrong, or a width cannot be.
    """
    check_taken([*study.overrides, *study.separate_overrides], SEEDS)
    nested = _resolve(study, ())
    check_measurable(nested, study.part, study.run)
    sizes = nested.model.granularities.sizes
    if len(sizes) < 2:
        raise ConfigError(f"{study.run} has one granularity {sizes}; a study is of nested vectors")
    widths = sizes if study.widths is None else tuple(sorted(study.widths))
    if needs_full(study.methods) and sizes[-1] not in widths:
        raise ConfigError(
            f"widths {widths} lack the full width {sizes[-1]}, which is what truncation, pca and "
            "the codecs are applied to; add it, or leave those methods out"
        )
    if len(set(widths)) != len(widths):
        raise ConfigError(f"widths {widths} must be named once each")
    if wrong := [width for width in widths if not 1 <= width <= sizes[-1]]:
        raise ConfigError(f"widths {wrong} are outside 1..{sizes[-1]}, the full width")
    runs = []
    for seed in study.seeds:
        chosen: list[int | None] = [None, *reversed(widths)]
        runs += [_planned(study, nested, width, seed) for width in chosen]
    _check_separate(study, nested, [run for run in runs if run.width is not None])
    return Plan(study, nested, tuple(runs), _between(study, sizes))


def _check_separate(study: StudyConfig, nested: RunConfig, runs: list[PlannedRun]) -> None:
    """Refuses changes to separate runs that change none of them, or what they are compared by."""
    for run in runs:
        check_comparable(nested, run.config, f"separate_overrides {study.separate_overrides}")
    for change in study.separate_overrides:
        others = tuple(each for each in study.separate_overrides if each != change)
        without = study.model_copy(update={"separate_overrides": others})
        if not any(
            changes(_planned(without, nested, run.width, run.seed).config, run.config)
            for run in runs
        ):
            raise ConfigError(
                f"separate_overrides {change} changes nothing: separate runs have that without it, "
                "or it does nothing in them; leave it out"
            )


def needs_full(methods: tuple[str, ...]) -> bool:
    """Whether any of them compresses the un-nested model of full width."""
    return any(METHODS[name].source == "full" for name in methods)


def _planned(study: StudyConfig, nested: RunConfig, width: int | None, seed: int) -> PlannedRun:
    changes = [f"trainer.seed={seed}"]
    if width is None:
        return PlannedRun(f"nested-s{seed}", None, seed, _resolve(study, changes))
    # The same recipe with one granularity: whatever belongs to several of them goes.
    metric = nested.trainer.metric.partition("/d")[0]
    changes += [
        f"model.granularities.sizes=[{width}]",
        "model.granularities.weights=null",
        f"trainer.metric={metric}",
        *(change.format(width=width) for change in study.separate_overrides),
    ]
    return PlannedRun(f"separate-d{width}-s{seed}", width, seed, _resolve(study, changes))


def _resolve(study: StudyConfig, changes: list[str] | tuple[str, ...]) -> RunConfig:
    tree, _ = read_tree(study.run, [*study.overrides, *changes])
    origin = " ".join([str(study.run), *study.overrides, *changes])
    return parse(RunConfig, tree, origin)


def _between(study: StudyConfig, sizes: tuple[int, ...]) -> tuple[int, ...]:
    if study.between is None:
        return tuple(w for w in DEFAULT_BETWEEN if w < sizes[-1] and w not in sizes)
    if wrong := [w for w in study.between if not 1 <= w < sizes[-1] or w in sizes]:
        raise ConfigError(
            f"between {wrong} must be shorter than the full width {sizes[-1]} and not among the "
            f"granularities {sizes}"
        )
    return tuple(sorted(set(study.between)))
