"""The config of a table study: run config, tables and byte shares.

    run: configs/beauty_sasrec.yaml
    shares: [0.5, 0.25, 0.125]
    tables:
      - {name: low_rank}
      - {name: hashed, method: hash}

Every table is trained at every share and seed by the recipe of the run config, beside a dense one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from recsys.config import StrictModel, apply_overrides, load_yaml, parse
from recsys.evaluation.protocol import Part
from recsys.retrieval.codecs.registry import find_codec
from recsys.runs.config import RunConfig, read_tree
from recsys.studies.config import PlannedRun
from recsys.studies.doors import SEEDS, check_measurable, check_taken
from recsys.tables import TableConfig

DENSE = "dense"


class TableStudyConfig(StrictModel):
    """Options of a table study: a run config, tables and byte shares."""

    run: Path
    """The run config (YAML, relative to the current folder); its own table is not looked at."""
    overrides: tuple[str, ...] = ()
    """`key=value` changes to it, for every run of the study."""
    tables: tuple[TableConfig, ...] = Field(min_length=1)
    """Tables that have a `share`; the study sets it."""
    shares: tuple[float, ...] = (0.5, 0.25, 0.125)
    """Bytes of a table over those of the dense one, at most."""
    codecs: tuple[str, ...] = ("int8", "int4", "binary", "prefix")
    """What is done to the dense table after training; `prefix`: as many coordinates as fit."""
    seeds: tuple[int, ...] = (0,)
    part: Part = "test"
    num_resamples: int = Field(default=1000, ge=100)

    @field_validator("shares", "codecs", "seeds")
    @classmethod
    def _once_each(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(values)) != len(values):
            raise ValueError(f"each only once, found {values}")
        return values

    @field_validator("shares")
    @classmethod
    def _parts_of_one(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or min(values) <= 0 or max(values) >= 1:
            raise ValueError(f"must lie between 0 and 1, found {values}")
        return tuple(sorted(values, reverse=True))

    @field_validator("codecs")
    @classmethod
    def _known(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for name in values:
            if name != "prefix":
                find_codec(name)
        return values

    @field_validator("tables")
    @classmethod
    def _can_be_smaller(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        labels = [label_of(table) for table in values]
        if whole := [t.name for t in values if "share" not in type(t).model_fields]:
            raise ValueError(f"{whole} take no share that would set their bytes")
        if len(set(labels)) != len(labels):
            raise ValueError(f"a table is named twice: {labels}")
        return values


def label_of(table: TableConfig) -> str:
    """What tables of figures call it: its name and what was said of it: `hashed double`."""
    said = table.model_dump(include=table.model_fields_set - {"name", "share"})
    words = [value if isinstance(value, str) else f"{key}={value}" for key, value in said.items()]
    return " ".join([table.name, *words])


@dataclass(frozen=True)
class TableRun:
    """One training run of a study of tables."""

    run: PlannedRun
    label: str
    """`DENSE`, or of the table."""
    share: float
    table: TableConfig
    """Of the run's model."""


@dataclass(frozen=True)
class TablePlan:
    """Everything a study of tables trains."""

    config: TableStudyConfig
    recipe: RunConfig
    """Of the first dense run."""
    runs: tuple[TableRun, ...]
    """Seed by seed, the dense one first."""


def read_table_study(path: Path, overrides: list[str]) -> TableStudyConfig:
    """A study file with `key=value` overrides put in.

    Raises:
        ConfigError: naming the file, the key and the nearest known one.
    """
    return parse(TableStudyConfig, apply_overrides(load_yaml(path), overrides), str(path))


def make_table_plan(study: TableStudyConfig) -> TablePlan:
    """Resolves every run.

    Raises:
        ConfigError: the run config is wrong, or its model has no table.
    """
    taken = {"model.table": "the study sets it to each of its tables", **SEEDS}
    check_taken(study.overrides, taken)
    runs = []
    for seed in study.seeds:
        runs.append(_planned(study, {"name": DENSE}, DENSE, 1.0, seed))
        for share in study.shares:
            for table in study.tables:
                tree = table.model_dump(mode="json") | {"share": share}
                runs.append(_planned(study, tree, label_of(table), share, seed))
    recipe = runs[0].run.config
    check_measurable(recipe, study.part, study.run)
    return TablePlan(study, recipe, tuple(runs))


def _planned(
    study: TableStudyConfig, table: dict[str, Any], label: str, share: float, seed: int
) -> TableRun:
    changes = [*study.overrides, f"trainer.seed={seed}"]
    tree, _ = read_tree(study.run, changes)
    tree.setdefault("model", {})["table"] = table
    config = parse(RunConfig, tree, " ".join([str(study.run), *changes, f"model.table={table}"]))
    own: TableConfig = getattr(config.model, "table")  # noqa: B009 - not every model has one
    slug = re.sub(r"[^a-z0-9]+", "-", label).strip("-")
    name = f"{slug}-s{seed}" if label == DENSE else f"{slug}-{share:g}-s{seed}"
    return TableRun(PlannedRun(name, None, seed, config), label, share, own)
