"""`recsys calibrate`: scores of cold items fitted to those of trained items.

What items without an id are made of is fitted to the validation part of a global-time split
(`towers.newcomers`). What comes out was fitted on train+valid, and its card says so: the validation
part cannot be measured any more, and only runs and baselines that read as much stand beside it.

A run of ids alone can be given content here: what is trained stays as it is, to the last bit, and
content makes the vectors of items without an id alone.

Shape legend: P (user, target) pairs, B users of a block, G granularities, N items.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recsys.config import apply_overrides, parse
from recsys.data.histories import item_counts
from recsys.devices import to_indices
from recsys.errors import ConfigError, ProtocolError, RunError
from recsys.evaluation.held_out import held_out
from recsys.models import Model
from recsys.progress import progress
from recsys.retrieval.checks import checked_count
from recsys.runs.config import RunConfig
from recsys.runs.folder import check_empty, create_run, new_folder
from recsys.runs.loading import LoadedRun, build_model, on_one_process, open_run
from recsys.runs.records import update_run_info
from recsys.towers.cold_start.fitting import AdamSteps, Targets, fit_newcomers
from recsys.towers.cold_start.late_content import leave_content, match_lengths
from recsys.towers.items import ItemTower
from recsys.training.checkpoint import WEIGHTS, save_weights

_BLOCK = 256
_ITEMS = "model.items."


def calibrate(
    run: str | Path | LoadedRun,
    out: str | Path,
    overrides: Sequence[str] = (),
    *,
    steps: int = 100,
    learning_rate: float = 0.05,
    weight: float = 0.7,
) -> Path:
    """Fits how items without an id are scored to a run's validation part; a run of its own.

    Args:
        run: a run folder of a global-time split, whose items are ids and content or ids alone.
        out: the new run folder, fitted on train+valid as far as its card goes.
        overrides: for a run of ids alone, what new items are made of, such as
            `model.items.features=[text,genres]`.
        steps: of the fit, at most.
        learning_rate: of Adam.
        weight: how much a target without an id counts beside one with an id: more brings new
            items up, at the cost of known ones.

    Returns:
        The new run folder.

    Raises:
        RunError: `run` is not a run, something exists at `out`, or no validation target is new.
        ConfigError: the run's items are not made of ids, and content of its own or of `overrides`;
            or a number is none that can be.
        ProtocolError: the run was fitted on its validation part, or calibrated already.
        DataError: the data set lacks a feature.
    """
    folder = Path(out)
    check_empty(folder)
    if not 0 < weight < float("inf"):
        raise ConfigError(
            f"weight {weight} is not a weight of new targets; a number above 0 is expected"
        )
    checked_count(steps, "steps")
    if not 0 < learning_rate < float("inf"):
        raise ConfigError(
            f"learning_rate {learning_rate} is none to fit by; a number above 0 is expected"
        )
    loaded = open_run(run)
    _check_fitted(loaded)
    if overrides:
        _give_content(loaded, overrides)
    if loaded.model.num_interests > 1:
        raise ConfigError(
            f"users of {loaded.folder} have {loaded.model.num_interests} vectors each, and "
            "calibrate fits scores of one; train with item content instead (model.items), or "
            "calibrate a model of one vector"
        )
    model, tower = _parts(loaded)
    new, targets = _targets(loaded, model, tower, weight)
    with progress() as bar:
        task = bar.add_task("calibrating", total=steps)
        fit = fit_newcomers(
            tower, new, targets, model.scales().detach(), model.granularities,
            adam=AdamSteps(steps, learning_rate), content=bool(overrides),
            on_step=lambda: bar.advance(task),
        )  # fmt: skip
    if overrides and model.granularities.normalize:
        match_lengths(tower, new)
    with new_folder(folder) as temporary:
        create_run(temporary, loaded.config, loaded.dataset, resume=False)
        save_weights(model, temporary / WEIGHTS)
        kept = {key: loaded.info[key] for key in ("best_epoch", "seconds") if key in loaded.info}
        told = {"run": loaded.name, "commit": loaded.info["commit"], "part": "valid", **asdict(fit)}
        update_run_info(temporary, state="finished", **kept, calibrated=told)
    return folder


def _check_fitted(loaded: LoadedRun) -> None:
    """Raises ProtocolError where the validation part is known to the run already."""
    if "calibrated" in loaded.info:
        raise ProtocolError(
            f"{loaded.folder} was calibrated already; calibrate the run that it was calibrated "
            f"from ({loaded.info['calibrated']['run']})"
        )
    if loaded.fit_on != "train":
        raise ProtocolError(
            f"{loaded.folder} was fitted on {loaded.fit_on}, so its validation part holds nothing "
            "that is new to it; calibrate a run with fit_on=train"
        )


def _give_content(loaded: LoadedRun, overrides: Sequence[str]) -> None:
    """Makes the items of a run of ids alone ids and content, of which ids read nothing.

    Raises:
        ConfigError: they have content already, or an override is of something else.
    """
    if strangers := [given for given in overrides if not given.startswith(_ITEMS)]:
        raise ConfigError(
            f"calibrate changes nothing but {_ITEMS[:-1]}, not {', '.join(strangers)}; train again"
        )
    own = loaded.config.model
    if own.pairs or getattr(own, "items", True) is not None:
        raise ConfigError(
            f"{loaded.folder} is not a run of ids alone by a model of histories with the section "
            "items (such as sasrec), so content cannot be added; leave "
            f"{', '.join(overrides)} out, or train without model.items"
        )
    tree = loaded.config.model_dump(mode="json")
    tree["model"]["items"] = {"modality_dropout": 0.0, "id_dropout": 0.0}  # nothing is trained
    tree = apply_overrides(tree, list(overrides))
    config = parse(RunConfig, tree, " ".join(overrides), stored=True)
    items = getattr(config.model, "items", None)
    if items is None or not items.ids or items.fusion != "gated_sum":
        raise ConfigError(
            "content added to a run of ids alone needs model.items.ids: true and "
            "model.items.fusion: gated_sum, whose gates can leave it out where there is an id"
        )
    model = build_model(on_one_process(config), loaded.dataset).to(loaded.model.device)
    assert isinstance(model.table, ItemTower)
    tensors = {
        f"table.ids.{name.removeprefix('table.')}" if name.startswith("table.") else name: tensor
        for name, tensor in loaded.model.state_dict().items()
    }
    model.load_state_dict(model.state_dict() | tensors)
    end = loaded.split.fit_end(config.fit_on)
    model.table.note_trained(item_counts(loaded.dataset, loaded.split.start, end))
    leave_content(model.table)
    loaded.config, loaded.model = config, model.eval()


def _parts(loaded: LoadedRun) -> tuple[Model, ItemTower]:
    """Raises ConfigError where there is nothing to fit."""
    table = getattr(loaded.model, "table", None)
    by_index = getattr(loaded.model, "by_index", False)  # users are not made of histories
    if by_index or not isinstance(table, ItemTower) or not table.ids:
        raise ConfigError(
            f"the items of {loaded.folder} are not made of ids and content, so there is nothing to "
            "calibrate; train with model.items: {features: [...], ids: true}, or name the content "
            "of new items: model.items.features=[...]"
        )
    return loaded.model, table


def _targets(
    loaded: LoadedRun, model: Model, tower: ItemTower, weight: float
) -> tuple[Tensor, Targets]:
    """The new items among the validation targets `[C]`, and all these targets, with scores of all
    items that have an id. What came later still was not to be had: it is not held against it.

    Raises:
        RunError: none of them is new.
    """
    held = held_out(loaded.dataset, loaded.split, "valid")
    device = model.device
    items = to_indices(held.targets, device)
    new = items[~tower.trained[items]].unique()
    if not len(new):
        raise RunError(
            f"no validation target of {loaded.folder} is an item that training has not seen, so "
            "there is nothing to calibrate by; it takes a global-time split"
        )
    place = torch.full((loaded.dataset.num_items,), -1, device=device)
    place[new] = torch.arange(len(new), device=device)
    rows = to_indices(np.repeat(np.arange(len(held.users)), np.diff(held.offsets)), device)
    users, others = [], []
    own = torch.empty(len(model.granularities), len(items), device=device)
    with torch.no_grad(), progress() as bar:
        catalogue = model.item_vectors()
        task = bar.add_task("scores of known items", total=len(held.users))
        for block in torch.arange(len(held.users)).split(_BLOCK):
            histories = held.histories(loaded.dataset, block.numpy())
            vectors = model.user_vectors(histories)
            hidden = (~tower.trained).repeat(len(block), 1)
            had = np.repeat(np.arange(len(block)), histories.lengths)
            hidden[to_indices(had, device), to_indices(histories.items, device)] = True
            pairs = ((rows >= int(block[0])) & (rows <= int(block[-1]))).nonzero().squeeze(1)
            row, target = rows[pairs] - int(block[0]), items[pairs]
            hidden[row, target] = place[target] >= 0  # also one that is had again
            sums = []
            for g, logits in enumerate(_logits(model, vectors, catalogue)):
                own[g, pairs] = logits[row, target]
                sums.append(logits.masked_fill(hidden, -torch.inf).logsumexp(1))
            users.append(vectors)
            others.append(torch.stack(sums))
            bar.advance(task, len(block))
    every = (torch.cat(users), rows, place[items], torch.cat(others, 1), own)
    return new, Targets(*every, weight)


def _logits(model: Model, users: Tensor, items: Tensor) -> Iterator[Tensor]:
    """`[B, N]` for each granularity."""
    for size, scale in zip(model.granularities.sizes, model.scales(), strict=True):
        rows, columns = users[:, :size], items[:, :size]
        if model.granularities.normalize:
            rows = torch.nn.functional.normalize(rows, dim=1)
            columns = torch.nn.functional.normalize(columns, dim=1)
        yield scale * rows @ columns.T
