"""Configs like that of a finished run, which says how many epochs are best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recsys.config import apply_overrides, parse
from recsys.errors import RunError
from recsys.recipes.training.remarks import tell
from recsys.runs.config import RunConfig, used_tree
from recsys.runs.finding import find_data
from recsys.runs.records import load_config, load_run_info


def config_like(run: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The config of a run with changes; what was trained up to its best epoch is trained so long.

    Without a validation part (`fit_on=all`, `fit_on=train+valid`) nothing says when to stop: the
    validated run does.

    Args:
        run: a finished run.
        overrides: `key=value` changes.

    Raises:
        RunError: it is no run, has not ended, or was not validated either.
        ConfigError: an override is none.
    """
    folder = Path(run)
    before, info = load_config(folder), load_run_info(folder)
    if info["state"] != "finished":
        raise RunError(
            f"training of {folder} has not ended, so it does not say how many epochs are best; "
            "continue it with `recsys train --resume`"
        )
    tree = used_tree(before)
    if not any(each.startswith("data=") for each in overrides):
        tree["data"] = str(find_data(before, folder))
    if _asks_for_epochs(overrides):
        tree.get("trainer", {}).pop("histories", None)
    config = parse(RunConfig, apply_overrides(tree, list(overrides)), f"the config of {folder}")
    if config.fit_on == "train" or _asks_for_epochs(overrides):
        return config
    if before.fit_on != "train":
        raise RunError(
            f"{folder} was fitted on {before.fit_on} and not validated, so it does not say how "
            "many epochs are best; name a run with fit_on train, or say trainer.epochs=..."
        )
    epochs, planned = int(info["best_epoch"]), int(info.get("epochs", before.trainer.epochs))
    if config.trainer.optimizer.schedule != "constant" and epochs < planned:
        tell(
            [
                f"{epochs} epochs, the best of {planned} in {folder}: the learning "
                "rate now ends its schedule there, where that run's was still on its way"
            ]
        )
    trainer = config.trainer.model_copy(update={"epochs": epochs, "histories": None})
    return config.model_copy(update={"trainer": trainer})


def _asks_for_epochs(overrides: Sequence[str]) -> bool:
    return any(each.startswith("trainer.epochs=") for each in overrides)
