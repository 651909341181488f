"""Measurement of a study's methods, with the rank of every target.

measured/METHOD/RUN.safetensors    ranks `[P, M]` of the M targets at P points, with the card

Ranks give every metric of every user at every cutoff again, so intervals need no second pass. A
file tells what it was made of (weights, config, settings, card): when that changes it is made anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from recsys.arrays import Float64, Int64
from recsys.config import parse
from recsys.data.dataset import Dataset
from recsys.devices import to_indices
from recsys.errors import DataError, RunError
from recsys.evaluation.evaluate import RankingOptions, rank_held_out
from recsys.evaluation.held_out import fit_histories, held_out
from recsys.evaluation.metrics import user_values
from recsys.evaluation.precomputed import freeze_users
from recsys.evaluation.protocol import ProtocolCard, find_protocol, make_card
from recsys.files.atomic import atomic_path, sha256_of
from recsys.progress import console
from recsys.runs.loading import LoadedRun
from recsys.runs.records import CONFIG
from recsys.studies.config import Plan, PlannedRun
from recsys.studies.methods import METHODS, Point, Trained
from recsys.training.checkpoint import WEIGHTS

MEASURED = "measured"
_SCHEMA = 1
"""Goes up whenever a method is changed, so that what it has measured before is measured anew."""


@dataclass(frozen=True)
class Measurement:
    """Ranks of the targets of every user, by one method on one run."""

    method: str
    run: PlannedRun
    points: tuple[Point, ...]
    ranks: Int64
    """`[P, M]`."""
    offsets: Int64
    """`[U + 1]`."""
    card: ProtocolCard

    def per_user(self, p: int, metric: str, k: int) -> Float64:
        """`[U]` values of point p."""
        return user_values(metric, self.ranks[p], self.offsets, (k,))[:, 0]


def runs_of(plan: Plan, method: str, seed: int) -> list[PlannedRun]:
    """The runs a method is measured on: each gives some of its points."""
    source = METHODS[method].source
    if source == "separate":
        found = [plan.find(width, seed) for width in plan.widths]
    else:
        found = [plan.find(None if source == "nested" else plan.full, seed)]
    return [run for run in found if run is not None]


def card_of(plan: Plan, dataset: Dataset) -> ProtocolCard:
    """The card all figures of the study are taken under.

    Raises:
        ProtocolError: the split is not the protocol's.
    """
    config = plan.nested
    rule = config.split_rule(dataset)
    protocol = find_protocol(config.protocol)
    return make_card(dataset.manifest, protocol, plan.config.part, config.fit_on, rule)


def measure_run(
    folder: Path, plan: Plan, run: PlannedRun, methods: Sequence[str], card: ProtocolCard
) -> dict[str, str]:
    """Measures those methods on one finished run that have not been yet.

    Returns:
        Method -> why it cannot be measured, for those that cannot.
    """
    stale = [name for name in methods if load(folder, plan, run, name, card) is None]
    if not stale:
        return {}
    loaded = LoadedRun(folder / run.name)
    trained = _prepare(loaded, plan, run)
    left_out = {}
    for name in stale:
        console.print(f"measuring {name} of {run.name}")
        try:
            _measure(folder, plan, run, name, card, loaded, trained)
        except DataError as error:  # a codec that cannot store vectors like these
            left_out[name] = str(error)
    return left_out


def _prepare(loaded: LoadedRun, plan: Plan, run: PlannedRun) -> Trained:
    dataset, split, model = loaded.dataset, loaded.split, loaded.model
    held = held_out(dataset, split, plan.config.part)
    users = freeze_users(model, dataset, held.histories(dataset, np.arange(len(held.users))))

    def fitted_users() -> torch.Tensor:
        histories = fit_histories(dataset, split, loaded.config.fit_on)
        vectors = freeze_users(model, dataset, histories)
        return vectors[to_indices(histories.users[histories.lengths > 0])]

    settings = _settings(plan, run)
    with torch.inference_mode():
        items = model.item_vectors().float().clone()
    return Trained(items, users, fitted_users, model.granularities.normalize, **settings)


def _settings(plan: Plan, run: PlannedRun) -> dict[str, Any]:
    """What, beside its vectors, decides what the methods make of a run."""
    alone = run.width not in (None, plan.full)
    budgets = {scale * size for size in plan.sizes for scale in (1, 4)}
    return {
        "sizes": (run.width,) if alone else plan.sizes,
        "between": () if alone else plan.between,
        "budgets": tuple(sorted(budgets)),
        "seed": run.seed,
        "sparse_atoms": plan.config.sparse_atoms,
    }


def _measure(
    folder: Path,
    plan: Plan,
    run: PlannedRun,
    name: str,
    card: ProtocolCard,
    loaded: LoadedRun,
    trained: Trained,
) -> None:
    """Ranks every variant of a method and writes the file."""
    points: list[Point] = []
    ranks: list[Int64] = []
    offsets = np.zeros(1, np.int64)
    for variant in METHODS[name].make(trained):
        ranking = rank_held_out(
            variant.vectors,
            loaded.dataset,
            loaded.split,
            part=plan.config.part,
            filter_seen=card.filter_seen,
            ks=plan.config.ks,
            options=RankingOptions(label=f"{name} of {run.name}"),
        )
        points += variant.points
        ranks.append(ranking.ranks)
        offsets = ranking.held_out.offsets
    if not points:
        raise DataError(f"{name} has no setting that fits {plan.full} coordinates; leave it out")
    header = {
        "key": _key(folder, plan, run, name, card),
        "points": json.dumps([asdict(point) for point in points]),
        "card": card.model_dump_json(),
    }
    path = _path(folder, run, name)
    arrays: dict[str, npt.NDArray[Any]] = {
        "ranks": np.concatenate(ranks).astype(np.int32),
        "offsets": offsets,
    }
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, metadata=header)


def load(
    folder: Path, plan: Plan, run: PlannedRun, name: str, card: ProtocolCard
) -> Measurement | None:
    """What was measured of a method on a run; None: nothing, or of other weights or settings.

    Raises:
        RunError: the file is damaged.
    """
    path = _path(folder, run, name)
    if not path.is_file() or not (folder / run.name / WEIGHTS).is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as stream:
            header = stream.metadata() or {}
            arrays = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise RunError(f"{path} is damaged ({error}); remove it and run the study again") from error
    if header.get("key") != _key(folder, plan, run, name, card):
        return None
    points = tuple(Point(**point) for point in json.loads(header["points"]))
    own_card = parse(ProtocolCard, json.loads(header["card"]), str(path))
    ranks = arrays["ranks"].astype(np.int64)
    return Measurement(name, run, points, ranks, arrays["offsets"], own_card)


def _path(folder: Path, run: PlannedRun, name: str) -> Path:
    return folder / MEASURED / name / f"{run.name}.safetensors"


def _key(folder: Path, plan: Plan, run: PlannedRun, name: str, card: ProtocolCard) -> str:
    """A digest of everything the measurement was made of."""
    made_of = {
        "schema": _SCHEMA,
        "method": name,
        "settings": _settings(plan, run),
        "ks": plan.config.ks,
        "weights": sha256_of(folder / run.name / WEIGHTS),
        # The file, not the model: an option that a later version adds changes no old run.
        "config": sha256_of(folder / run.name / CONFIG),
        "card": card.model_dump(exclude={"filtered_targets", "untrained"}),
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
