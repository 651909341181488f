"""RecTools' SASRec and HSTU on the same made-up data, where RecTools is installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.device.plan import Plan, Shape
from benchmarks.device.timing import Clock
from benchmarks.measure import Row
from benchmarks.rectools import SIDE, write_side
from recsys.data.dataset import load_dataset
from recsys.data.splitting import make_split
from recsys.errors import RunError
from recsys.files.atomic import write_json

KINDS = ("SASRecModel", "HSTUModel")


def measure(plan: Plan, clock: Clock, folder: Path, python: Path | None) -> dict[str, list[Row]]:
    """An epoch of each data set by each model; nothing where RecTools is not installed.

    Raises:
        InstallationError: an interpreter was named, and it has no RecTools.
    """
    if python is not None:
        SIDE.check(python)
    elif find_spec("rectools") is None:
        clock.left_out.append("RecTools (not installed; name its interpreter with --rectools)")
        return {}
    rows: list[Row] = []
    for shape in plan.shapes:
        for kind in KINDS:
            if not clock.over(f"RecTools' {kind} on {shape.name}"):
                rows.append(an_epoch(plan, shape, kind, clock, folder, python))
    return {"an epoch of RecTools": rows}


def an_epoch(
    plan: Plan, shape: Shape, kind: str, clock: Clock, folder: Path, python: Path | None
) -> Row:
    """Seconds of the second epoch of two."""
    place = folder / f"rectools-{shape.name}-{kind}"
    place.mkdir()
    data = load_dataset(folder / shape.name)
    write_side(data, make_split(data), place)
    write_json(place / "settings.json", side_settings(plan, shape, kind, clock))
    try:
        told = SIDE.run(python or Path(sys.executable), place)
    except RunError as error:  # of another library: ours are measured all the same
        return {"model": kind, "data": shape.name, "s/epoch": str(error).splitlines()[-1]}
    return {
        "model": kind,
        "data": shape.name,
        "s/epoch": told["epoch_seconds"][-1],
        "steps": told["steps"] // 2,
        "versions": ", ".join(f"{name} {found}" for name, found in told["versions"].items()),
    }


def side_settings(plan: Plan, shape: Shape, kind: str, clock: Clock) -> dict[str, Any]:
    """Settings of RecTools' side: width, depth, history and tokens of a step as ours."""
    users = max(1, round(shape.batch_tokens * shape.users / shape.interactions))
    model = {
        "n_factors": plan.sizes[-1],
        "n_blocks": 1,
        "n_heads": 1,
        "session_max_len": 50,
        "loss": "sampled_softmax",
        "n_negatives": 256,
        "batch_size": users,
        "epochs": 2,
    }
    accelerator = {"cuda": "gpu"}.get(clock.device.type, clock.device.type)
    return {
        "kind": kind,
        "accelerator": accelerator,
        "model": model,
        "steps": None,
        "threads": torch.get_num_threads(),
        "seed": 0,
        "k": 10,
        "rounds": 0,
    }
