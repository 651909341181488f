"""`recsys train --seeds`: one config, a run for every seed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from recsys.data.dataset import load_dataset
from recsys.errors import ConfigError, DataError, InstallationError, ProtocolError, RunError
from recsys.progress import console
from recsys.recipes.training.like import config_like
from recsys.recipes.training.train import check_trainable, train
from recsys.runs.config import RunConfig, read_config
from recsys.studies.seed_runs.folder import SeedRuns, make_seeds
from recsys.training.trainer import StoppedError

_OF_ALL = (ConfigError, DataError, InstallationError, ProtocolError)
"""Errors that would meet every seed."""


def train_seeds(
    config: str | Path | RunConfig | None = None,
    overrides: Sequence[str] = (),
    *,
    seeds: Sequence[int],
    out: str | Path,
    resume: bool = False,
    like: str | Path | None = None,
) -> SeedRuns:
    """Trains a config once with every seed, one run after the other.

    A run that fails is told and leaves the others alone: they are trained all the same.

    Args:
        config: a YAML file, or a config object; None with `like`.
        overrides: `key=value` changes to the file; not of `trainer.seed`.
        seeds: of `trainer.seed`, each once.
        out: folder of all runs; that of seed 0 is `OUT/NAME-s0`, NAME that of the folder.
        resume: go on with what stands there: finished runs are left as they are, others continue,
            failed ones are tried again, and further seeds may be given.
        like: a finished run whose config is taken; see `recsys.train`.

    Returns:
        The runs.

    Raises:
        ConfigError, DataError, ProtocolError, InstallationError: no seed can be trained.
        RunError: the training of a seed has failed, after the others were trained.
        StoppedError: SIGTERM or Ctrl-C came; with `resume` the same call goes on.
    """
    settings = _settings(config, overrides, like)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "several seeds are trained one after the other in one process; under torchrun train "
            "each by itself (trainer.seed=1)"
        )
    if not resume:  # what cannot be trained leaves no folder behind
        check_trainable(settings, load_dataset(settings.data, mapped=settings.mapped))
    runs = make_seeds(Path(out), seeds, resume=resume)
    failed: dict[int, str] = {}
    for number, seed in enumerate(runs.seeds, start=1):
        name = runs.run(seed).name
        console.print(f"seed {number} of {len(runs.seeds)}: {name}")
        reason = _train(settings, seed, runs.run(seed))
        if reason is not None:
            failed[seed] = reason
            console.print(f"{name} has failed: {reason}", style="red", markup=False, soft_wrap=True)
    runs = replace(runs, failed=failed)
    runs.save()
    if failed:
        seed, reason = next(iter(failed.items()))
        raise RunError(
            f"{len(failed)} of {len(runs.seeds)} seeds have failed "
            f"({', '.join(map(str, failed))}); seed {seed}: {reason}. The others are trained; the "
            "same command with --resume tries again"
        )
    return runs


def _settings(
    config: str | Path | RunConfig | None, overrides: Sequence[str], like: str | Path | None
) -> RunConfig:
    if (config is None) == (like is None):
        raise ConfigError("name a config file, or a run to train alike (like), and not both")
    if any(each.startswith("trainer.seed=") for each in overrides):
        raise ConfigError("trainer.seed is given beside several seeds; leave it out")
    if like is not None:
        return config_like(like, overrides)
    if isinstance(config, RunConfig):
        if overrides:
            raise ConfigError(f"overrides {list(overrides)} change a file; change the object")
        return config
    assert config is not None
    return read_config(config, overrides)


def _train(settings: RunConfig, seed: int, folder: Path) -> str | None:
    """Trains one run; gives the reason where it has failed."""
    trainer = settings.trainer.model_copy(update={"seed": seed})
    try:
        train(settings.model_copy(update={"trainer": trainer}), out=folder, resume=True)
    except StoppedError as stop:
        raise StoppedError(
            f"{folder.name} was stopped; its state is saved, and the same command with --resume "
            "continues it and the seeds after it"
        ) from stop
    except _OF_ALL:
        raise
    except Exception as error:  # a diverged loss, a full memory, a model's own fault
        known = isinstance(error, RunError)
        return str(error) if known else f"{type(error).__name__}: {error}"
    return None
