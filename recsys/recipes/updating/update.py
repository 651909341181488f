"""`recsys update`: a trained run goes on with new rows, users and items, as a run of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recsys.config import apply_overrides, parse
from recsys.data.dataset import Dataset, load_manifest
from recsys.errors import ConfigError, RunError
from recsys.files.atomic import sha256_of
from recsys.processes import is_first
from recsys.progress import console
from recsys.recipes.training.train import train
from recsys.recipes.updating.growing import Growth, growing_config
from recsys.runs.config import RunConfig, used_tree
from recsys.runs.finding import find_data
from recsys.runs.records import RUN, load_config, load_run_info
from recsys.training.callbacks import Callback
from recsys.training.checkpoint import WEIGHTS
from recsys.training.trainer import has_checkpoint

EPOCHS = 2
"""Of an update, unless another number is given; chosen with `replay` on validation data."""
WARMUP_STEPS = 10
"""Of an update whose parent keeps no moments; with moments there is nothing to warm up, and the
steps are so few that most would be taken at a small learning rate."""


def update(
    run: str | Path,
    data: str | Path | Dataset,
    overrides: Sequence[str] = (),
    *,
    out: str | Path,
    compatible: bool = False,
    resume: bool = False,
    callback: Callback | None = None,
) -> Path:
    """Goes on from a trained run with new rows, and leaves a run folder of its own.

    Args:
        run: the run folder that is gone on from; it stays as it is.
        data: a data set with the old rows and the new ones that keeps the indices of the run's
            (`recsys prepare ... like=OLD`).
        overrides: `key=value` changes to the run's config: `update.replay=0.3`,
            `trainer.epochs=5`. Options of the model stay as they were.
        out: the new run folder.
        compatible: the vectors of items that the run has trained stand still, so that old and new
            vectors can be used together.
        resume: go on with the update that stands at `out`.
        callback: as of `train`.

    Returns:
        The new run folder.

    Raises:
        ConfigError, DataError, ProtocolError, RunError: see their messages.
    """
    if resume and (Path(out) / RUN).is_file():
        config = _begun(Path(out), Path(run), data, overrides, compatible=compatible)
    else:
        config = update_config(run, data, overrides, compatible=compatible)
    folder = train(config, out=out, resume=resume, callback=callback)
    if is_first():
        _tell(folder)
    return folder


def update_config(
    run: str | Path,
    data: str | Path | Dataset,
    overrides: Sequence[str] = (),
    *,
    compatible: bool = False,
) -> RunConfig:
    """The config of an update: that of the run with a section `update`, and fewer epochs.

    Raises:
        ConfigError: an override is none, or a table of the model cannot grow.
        RunError: it is no run, or has not ended.
    """
    parent, place = Path(run), data.folder if isinstance(data, Dataset) else Path(data)
    before, info = load_config(parent), load_run_info(parent)
    if info["state"] != "finished":
        raise RunError(
            f"training of {parent} has not ended; continue it with `recsys train --resume`"
        )
    tree = used_tree(before)
    tree["data"] = str(place)
    tree["update"] = {
        **(before.update.model_dump(mode="json", exclude_unset=True) if before.update else {}),
        "parent": str(parent.resolve()),
        "weights": sha256_of(parent / WEIGHTS),
        "hold": "items" if compatible else "nothing",
    }
    trainer = tree.setdefault("trainer", {})
    trainer |= {"epochs": EPOCHS, "histories": None, "validate_every": 1}
    warmup = 0 if has_checkpoint(parent) else WARMUP_STEPS
    trainer["optimizer"] = {**trainer.get("optimizer", {}), "warmup_steps": warmup}
    config = parse(RunConfig, apply_overrides(tree, list(overrides)), f"the config of {parent}")
    assert config.update is not None
    if compatible and config.update.hold == "nothing":
        raise ConfigError("--compatible holds items; leave update.hold=nothing out")
    known, now = load_manifest(find_data(before, parent)), load_manifest(place)
    growth = Growth((known.num_items, now.num_items), (known.num_users, now.num_users))
    return growing_config(config, growth)


def _begun(
    out: Path, run: Path, data: str | Path | Dataset, overrides: Sequence[str], *, compatible: bool
) -> RunConfig:
    """The config of an update that stands there, whose parent need not; `train` compares it.

    Raises:
        RunError: it is the update of another run, or none.
    """
    before = load_config(out)
    if before.update is None or before.update.parent != run.resolve():
        told = "trained anew" if before.update is None else f"updated from {before.update.parent}"
        raise RunError(f"{out} is a run that was {told}, not from {run}; choose another --out")
    tree = used_tree(before)
    tree["data"] = str(data.folder if isinstance(data, Dataset) else data)
    if compatible:
        tree["update"]["hold"] = "items"
    return parse(RunConfig, apply_overrides(tree, list(overrides)), f"the config of {out}")


def _tell(folder: Path) -> None:
    """What was new, and what it started from."""
    told = load_run_info(folder)["update"]
    rows, started, epoch = told["rows"], told["started"], told["epoch"]
    added = {kind: told[kind][1] - told[kind][0] for kind in ("users", "items")}
    parts = [f"{count:,} from {what}" for what, count in _origins(started) if count]
    text = f"{rows['new']:,} new rows, {added['users']:,} new users, {added['items']:,} new items"
    if parts:
        text += f"; items the parent had not trained: {', '.join(parts)}"
    if not load_config(folder).model.solved:
        text += (
            f". An epoch has {epoch['new']:,} new targets, {epoch['beside']:,} older ones of the "
            f"same users, {epoch['replayed']:,} replayed ({epoch['whole']:,} in an epoch of "
            "training anew)"
        )
        text += "" if told["moments"] else "; moments start anew, the parent keeps none"
    console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


def _origins(started: dict[str, int]) -> list[tuple[str, int]]:
    words = {
        "content": "content",
        "neighbours": "their neighbours",
        "shared": "shared rows",
        "random": "random numbers",
        "solved": "the rows",
    }
    return [(words[key], started.get(key, 0)) for key in words]
