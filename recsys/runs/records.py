"""Records of a run folder: the resolved config, and `run.json` about the training.

runs/NAME/
    config.yaml           the resolved config
    run.json              commit, versions, data set hash, seed, machine, state
    log.jsonl             one record per epoch and validation
    tensorboard/          the same and steps, if `logs` of the config names it; wandb/ likewise
    loggers.json          where loggers go on when the run is resumed
    checkpoints/          what --resume continues from
    model.safetensors     the best weights
    metrics/PART-PROTOCOL.json
    report/
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from recsys.baselines import BASELINES
from recsys.config import load_yaml, parse
from recsys.errors import RunError
from recsys.evaluation.protocol import FitOn
from recsys.files.atomic import read_json, write_json, write_text
from recsys.files.kinds import found_at
from recsys.files.named import inside
from recsys.runs.config import RunConfig

CONFIG = "config.yaml"
RUN = "run.json"
METRICS = "metrics"
RUN_SCHEMA = 1


def no_run(folder: Path, missing: str) -> RunError:
    """The error of a folder that is no run.

    Args:
        folder: in which a run was expected.
        missing: the file by which it would be one.
    """
    if missing != RUN and (folder / RUN).is_file():
        return RunError(
            f"{folder} is a run folder whose {missing} is gone; bring the file back, or train again"
        )
    return RunError(
        f"{folder} is not a run folder (no {missing}): {found_at(folder)}; give one, or train one "
        "with `recsys train`"
    )


def load_config(folder: Path) -> RunConfig:
    """The resolved config of a run.

    Raises:
        RunError: the folder is not a run.
        DataError: the file is a link that leads out of it.
    """
    if not inside(folder, CONFIG).is_file():
        raise no_run(folder, CONFIG)
    return parse(RunConfig, load_yaml(folder / CONFIG), str(folder / CONFIG), stored=True)


def write_config(folder: Path, config: RunConfig) -> None:
    """Writes the resolved config of a run."""
    tree = config.model_dump(mode="json")
    write_text(folder / CONFIG, yaml.safe_dump(tree, sort_keys=False))


def load_run_info(folder: Path) -> dict[str, Any]:
    """What `run.json` says.

    Raises:
        RunError: the folder is not a run, or of another schema version.
    """
    path = inside(folder, RUN)
    if not path.is_file():
        raise no_run(folder, RUN)
    info = read_json(path, "train again")
    if info.get("schema_version") != RUN_SCHEMA:
        raise RunError(
            f"{path} has schema_version {info.get('schema_version')!r}, this version reads "
            f"{RUN_SCHEMA}; train again"
        )
    return info


def update_run_info(folder: Path, **changes: Any) -> None:
    """Replaces fields of `run.json`."""
    write_json(folder / RUN, {**load_run_info(folder), **changes})


def run_name(folder: str | Path) -> str:
    """A run's name in tables: that of its folder, told apart from those of baselines."""
    name = Path(folder).resolve().name
    return f"{name} (run)" if name.partition(" ")[0] in BASELINES.names() else name


def fitted_on(config: RunConfig, info: Mapping[str, Any]) -> FitOn:
    """What a run was fitted on, all its steps taken together: its card says so."""
    if config.fit_on == "all":
        return "all"
    return "train+valid" if "calibrated" in info else config.fit_on
