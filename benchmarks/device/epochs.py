"""An epoch of made-up data of known sizes, its share of waiting, and an evaluation."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import polars as pl
import torch

from benchmarks.device.plan import Plan, Shape
from benchmarks.device.steps import PRECISIONS
from benchmarks.device.timing import Clock, finish, forget_peak, peak_mib
from benchmarks.measure import Row
from recsys.data.dataset import Dataset, load_dataset, write_dataset
from recsys.data.splitting import make_split
from recsys.evaluation.evaluate import RankingOptions, rank_held_out
from recsys.layers.precision import Precision
from recsys.models import Model
from recsys.recipes.training.train import train
from recsys.runs.config import RunConfig
from recsys.runs.loading import load_run
from recsys.training.callbacks import Moment
from recsys.training.logs import read_lines


def measure(plan: Plan, clock: Clock, folder: Path) -> dict[str, list[Row]]:
    """Two tables: an epoch of each shape, and an evaluation of what it has trained."""
    epochs, evaluations = [], []
    for shape in plan.shapes:
        if clock.over(f"an epoch of {shape.name}"):
            continue
        data = made_up(shape, folder / shape.name)
        for precision in PRECISIONS:
            if clock.over(f"an epoch of {shape.name}, {precision}"):
                continue
            run = folder / f"{shape.name}-{precision}"
            try:
                epochs.append(an_epoch(plan, shape, data, precision, clock.device, run))
            except torch.OutOfMemoryError:
                epochs.append({"data": shape.name, "s/epoch": "out of memory"})
                continue
            if precision == PRECISIONS[0]:
                model = load_run(run, device=str(clock.device)).model
                evaluations.append(an_evaluation(plan, shape, data, model, clock.device))
    return {"an epoch": epochs, "evaluation": evaluations}


def made_up(shape: Shape, folder: Path) -> Dataset:
    """Histories of a geometric spread of lengths, items about as popular as Zipf's law has it."""
    rng = np.random.default_rng(0)
    most = shape.interactions / shape.users
    lengths = 3 + rng.geometric(1.0 / max(1.1, most - 3), shape.users)
    lengths = np.maximum(3, (lengths * (shape.interactions / lengths.sum())).astype(np.int64))
    ranks = np.exp(rng.random(lengths.sum()) * np.log(shape.items)).astype(np.int64)
    items = ranks * 2_654_435_761 % shape.items
    items[: shape.items] = rng.permutation(shape.items)[: len(items)]  # every item stands once
    frame = pl.DataFrame({"user_id": np.repeat(np.arange(shape.users), lengths), "item_id": items})
    return write_dataset(folder, frame, name=f"made up, as {shape.name}")


def an_epoch(
    plan: Plan, shape: Shape, data: Dataset, precision: Precision, device: torch.device, run: Path
) -> Row:
    """Seconds of the second of two epochs: the first compiles kernels. Nothing is validated."""
    config = RunConfig.model_validate(
        {
            "data": str(data.folder),
            "fit_on": "train+valid",
            "model": {"name": "sasrec", "granularities": {"sizes": list(plan.sizes)}},
            "loss": {
                "name": "sampled_softmax",
                "negatives": {"uniform": min(plan.negatives, shape.items)},
            },
            "batching": {"batch_tokens": shape.batch_tokens},
            "trainer": {"epochs": 2, "precision": precision, "keep_checkpoint": False},
            "logs": [],
            "device": str(device),
        }
    )
    steps: list[tuple[int, int, float]] = []

    def note(moment: Moment) -> None:
        if moment.event in ("step", "epoch"):
            steps.append((moment.epoch, moment.step, time.perf_counter()))

    forget_peak(device)
    train(config, out=run, callback=note)
    # From the first step of the second epoch to its end, as seconds of all its steps.
    second = [(step, at) for epoch, step, at in steps if epoch >= 1][1:]
    (first, began), (last, ended) = second[0], second[-1]
    seconds = (ended - began) * (last - first + 1) / max(1, last - first)
    lines = [line for line in read_lines(run / "log.jsonl") if line["event"] == "train"]
    waited = lines[-1].get("waited")
    return {
        "data": shape.name,
        "sizes": shape.told,
        "precision": precision,
        "s/epoch": seconds,
        "steps": last - first + 1,
        "share waited": "" if waited is None else waited / seconds,
        "MiB": peak_mib(device),
    }


def an_evaluation(
    plan: Plan, shape: Shape, data: Dataset, model: Model, device: torch.device
) -> Row:
    """Users a second, all granularities in one pass, the second of two passes."""
    dataset = load_dataset(data.folder)
    split = make_split(dataset)
    seconds, users = 0.0, 0
    forget_peak(device)
    for _ in range(2):
        began = time.perf_counter()
        ranking = rank_held_out(
            model,
            dataset,
            split,
            part="test",
            filter_seen=True,
            options=RankingOptions(most_users=plan.measured_users),
        )
        finish(device)
        seconds, users = time.perf_counter() - began, len(ranking.held_out.users)
    return {
        "data": shape.name,
        "items": shape.items,
        "granularities": len(plan.sizes),
        "users": users,
        "users/s": users / seconds,
        "MiB": peak_mib(device),
    }
