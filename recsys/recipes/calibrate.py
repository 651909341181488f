"""`recsys calibrate`: how items nobody has had are scored beside those that training has seen.

What items without an id are made of is fitted to the validation part of a global-time split
(`towers.newcomers`). Figures of the test part remain those of users and items that nothing was
fitted to.

Shape legend: P (user, target) pairs, B users of a block, G granularities, N items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recsys.errors import ConfigError, RunError
from recsys.evaluation.held_out import held_out
from recsys.files import atomic_path
from recsys.models import SASRec
from recsys.progress import progress
from recsys.recipes.run import LoadedRun, create_run, update_run_info
from recsys.towers.items import ItemTower
from recsys.towers.newcomers import Targets, fit_newcomers
from recsys.training.checkpoint import WEIGHTS, save_weights

_BLOCK = 256


def calibrate(
    run: str | Path, out: str | Path, *, steps: int = 200, learning_rate: float = 0.01
) -> Path:
    """Fits how items without an id are scored to a run's validation part; a run of its own.

    Args:
        run: a run folder whose config has `model.items` with ids, of a global-time split.
        out: the new run folder; its validation figures are of what it was fitted to.
        steps: of the fit, at most.
        learning_rate: of Adam.

    Returns:
        The new run folder.

    Raises:
        RunError: `run` is no run, something stands at `out`, or no validation target is new.
        ConfigError: the run's items are not made of ids and content.
    """
    loaded, folder = LoadedRun(run), Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} is not empty; choose another folder for the calibrated run")
    model, tower = _parts(loaded)
    new = (~tower.trained).nonzero().squeeze(1)
    targets = _targets(loaded, model, new)
    with progress() as bar:
        task = bar.add_task("calibrating", total=steps)
        fit = fit_newcomers(
            tower, new, targets, model.scales().detach(), model.granularities, steps=steps,
            learning_rate=learning_rate, on_step=lambda: bar.advance(task),
        )  # fmt: skip
    with atomic_path(folder) as temporary:
        create_run(temporary, loaded.config, loaded.dataset, resume=False)
        save_weights(model, temporary / WEIGHTS)
        kept = {key: loaded.info[key] for key in ("best_epoch", "seconds") if key in loaded.info}
        told = {"run": loaded.name, "commit": loaded.info["commit"], "part": "valid", **asdict(fit)}
        update_run_info(temporary, state="finished", **kept, calibrated=told)
    return folder


def _parts(loaded: LoadedRun) -> tuple[SASRec, ItemTower]:
    """Raises ConfigError where there is nothing to fit."""
    table = getattr(loaded.model, "table", None)
    if not isinstance(loaded.model, SASRec) or not isinstance(table, ItemTower) or not table.ids:
        raise ConfigError(
            f"the items of {loaded.folder} are not made of ids and content, so there is nothing to "
            "calibrate; train with model.items: {features: [...], ids: true}"
        )
    return loaded.model, table


def _targets(loaded: LoadedRun, model: SASRec, new: Tensor) -> Targets:
    """The validation targets, with scores of all items that have an id.

    Raises:
        RunError: none of them is new.
    """
    held = held_out(loaded.dataset, loaded.split, "valid")
    place = torch.full((loaded.dataset.num_items,), -1)
    place[new] = torch.arange(len(new))
    items = torch.from_numpy(held.targets).long()
    if not (place[items] >= 0).any():
        raise RunError(
            f"no validation target of {loaded.folder} is an item that training has not seen, so "
            "there is nothing to calibrate by; it takes a global-time split"
        )
    rows = torch.from_numpy(np.repeat(np.arange(len(held.users)), np.diff(held.offsets)))
    users, others = [], []
    own = torch.empty(len(model.granularities), len(items))
    with torch.no_grad(), progress() as bar:
        catalogue = model.item_vectors()
        task = bar.add_task("scores of known items", total=len(held.users))
        for block in torch.arange(len(held.users)).split(_BLOCK):
            histories = held.histories(loaded.dataset, block.numpy())
            vectors = model.user_vectors(histories)
            hidden = (place >= 0).repeat(len(block), 1)
            had = np.repeat(np.arange(len(block)), histories.lengths)
            hidden[torch.from_numpy(had), torch.from_numpy(histories.items).long()] = True
            pairs = ((rows >= block[0]) & (rows <= block[-1])).nonzero().squeeze(1)
            row, target = rows[pairs] - block[0], items[pairs]
            hidden[row, target] = place[target] >= 0  # also one that is had again
            sums = []
            for g, logits in enumerate(_logits(model, vectors, catalogue)):
                own[g, pairs] = logits[row, target]
                sums.append(logits.masked_fill(hidden, -torch.inf).logsumexp(1))
            users.append(vectors)
            others.append(torch.stack(sums))
            bar.advance(task, len(block))
    return Targets(torch.cat(users), rows, place[items], torch.cat(others, 1), own)


def _logits(model: SASRec, users: Tensor, items: Tensor) -> Iterator[Tensor]:
    """`[B, N]` for each granularity."""
    for size, scale in zip(model.granularities.sizes, model.scales(), strict=True):
        rows, columns = users[:, :size], items[:, :size]
        if model.granularities.normalize:
            rows = torch.nn.functional.normalize(rows, dim=1)
            columns = torch.nn.functional.normalize(columns, dim=1)
        yield scale * rows @ columns.T
