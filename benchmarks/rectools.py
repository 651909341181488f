"""Comparison with RecTools' SASRec: an epoch, its quality, an evaluation.

Equal: data, split, 256 dims, 1 block, 1 head, history 50, dropout .2, 256 negatives, Adam at 1e-3
throughout, about 128 users a batch (768 targets), epochs, threads. Both are measured by our
evaluator: RecTools' lists are turned into scores that rank the same. What stays different: RecTools
draws 256 negatives for each position, ours are shared by the batch; RecTools recommends only items
that training has seen.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from benchmarks.measure import Row, in_turns
from recsys.arrays import Int64
from recsys.data.dataset import INTERACTIONS, Dataset, load_dataset, write_dataset
from recsys.data.histories import Histories, select
from recsys.data.splitting import Split, make_split
from recsys.errors import InstallationError, RunError
from recsys.evaluation.evaluate import EvaluationOptions, evaluate
from recsys.evaluation.held_out import held_out
from recsys.evaluation.metric_table import MetricTable
from recsys.evaluation.protocol import find_protocol
from recsys.files.atomic import write_json
from recsys.layers.jagged import to_indices
from recsys.model_protocols import ScoreModel, VectorModel
from recsys.progress import progress
from recsys.recipes.training.train import train
from recsys.runs.config import read_config
from recsys.runs.loading import load_run
from recsys.training.logs import read_lines

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "beauty_sasrec.yaml"
SIDE = Path(__file__).with_name("rectools_side.py")
PROTOCOL = find_protocol("s3rec")
K = 10
VARIANTS = {"ours, 6 granularities": [8, 16, 32, 64, 128, 256], "ours, 1 granularity": [256]}
RECTOOLS = "RecTools"
_WARM_UP_USERS = 500
HOW_TO = (
    "make an environment of its own with `python3 -m venv ENV` and "
    "`ENV/bin/pip install 'rectools[torch]==0.19.0' torch==2.13.0`, and give "
    "--rectools ENV/bin/python"
)


@dataclass(frozen=True)
class Settings:
    """What is compared."""

    python: Path
    """The interpreter of an environment with `rectools[torch]`."""
    data: Path
    """A dataset folder."""
    epochs: int = 1
    num_users: int | None = None
    """Only the first users of the data set; None: all."""
    rounds: int = 3
    """Evaluations of each kind."""
    threads: int = 2
    seed: int = 0
    steps: int | None = None
    """RecTools stops its epoch after so many steps, and only its `recommend` is compared."""


def measure(settings: Settings) -> dict[str, list[Row]]:
    """Three tables: the epoch and what it reaches, the evaluation, and what was compared.

    Raises:
        RunError: RecTools failed; `check_interpreter` finds most reasons beforehand.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = _first_users(load_dataset(settings.data), settings.num_users, folder / "data")
        split = make_split(data)
        # Kernels are compiled once on a machine, when they are first used: not in what is timed.
        small = _first_users(data, _WARM_UP_USERS, folder / "small")
        for name in VARIANTS:
            _train(settings, small, name, folder / "warm-up")
        runs = {name: _train(settings, data, name, folder) for name in VARIANTS}
        models = {name: load_run(run).model for name, run in runs.items()}
        ways = {"all we report": True, "recall and ndcg": False}
        evaluations = in_turns(
            {
                f"{name}: {way}": _evaluation(model, data, split, extras=extras)
                for way, extras in ways.items()
                for name, model in models.items()
            },
            settings.rounds,
        )
        theirs = _run_rectools(settings, data, split, folder)
        lists = ListModel(read_lists(folder / "lists.csv", data.num_users), data.num_items)
        epochs = [
            _epoch_row(name, *_seconds_and_steps(runs[name]), _evaluation(model, data, split)())
            for name, model in models.items()
        ]
    if settings.steps is None:
        seconds = statistics.mean(theirs["epoch_seconds"])
        found = _evaluation(lists, data, split)()
        epochs.append(_epoch_row(RECTOOLS, seconds, theirs["steps"], found))
    first = epochs[0]["s/epoch"]
    evaluations[f"{RECTOOLS}: recommend(k={K}), no metrics"] = theirs["recommend_seconds"]
    return {
        f"an epoch, {settings.epochs} trained": [
            row | {"ratio": row["s/epoch"] / first} for row in epochs
        ],
        "evaluation": _evaluation_rows(evaluations),
        "compared": _setting_rows(settings, data, theirs["versions"]),
    }


def check_interpreter(python: Path) -> None:
    """Raises InstallationError where `python` cannot run RecTools."""
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", "import rectools.models, pytorch_lightning, torch"],
            capture_output=True,
            text=True,
            check=False,
        )
        told = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except OSError as error:
        told = [str(error)]
    if told:
        raise InstallationError(f"{python} cannot import RecTools' SASRec ({told[0]}); {HOW_TO}")


def _first_users(data: Dataset, num_users: int | None, folder: Path) -> Dataset:
    """The first users of a data set as one of its own; None: the data set itself."""
    if num_users is None:
        return data
    rows = pl.read_parquet(data.folder / INTERACTIONS).filter(pl.col("user_index") < num_users)
    frame = rows.select(user_id="user_index", item_id="item_index")
    return write_dataset(folder, frame, name=f"{data.manifest.name}, first {num_users} users")


def _train(settings: Settings, data: Dataset, name: str, folder: Path) -> Path:
    """Trains one of `VARIANTS` by the recipe, validated once at the end: a run folder."""
    epochs = settings.epochs
    config = read_config(
        CONFIG,
        [
            f"data={data.folder}",
            f"protocol={PROTOCOL.name}",
            f"threads={settings.threads}",
            f"model.granularities.sizes={VARIANTS[name]}",
            "model.encoder.dropout=0.2",
            "model.history_dropout=0",
            "loss={name: sampled_softmax, distillation: 0, negatives: {uniform: 256}}",
            "trainer.optimizer={learning_rate: 0.001, warmup_steps: 0, schedule: constant}",
            f"trainer.epochs={epochs}",
            f"trainer.validate_every={epochs}",
            f"trainer.patience={epochs}",
            f"trainer.seed={settings.seed}",
        ],
    )
    return train(config, out=folder / f"run-{len(VARIANTS[name])}")


def _seconds_and_steps(run: Path) -> tuple[float, int]:
    """Mean seconds of an epoch, validation left out, and all steps."""
    last = [record for record in read_lines(run / "log.jsonl") if record["event"] == "train"][-1]
    return last["seconds"] / last["epoch"], last["step"]


def _evaluation(
    model: VectorModel | ScoreModel, data: Dataset, split: Split, *, extras: bool = True
) -> Callable[[], MetricTable]:
    return lambda: evaluate(
        model, data, split, protocol=PROTOCOL, part="test", options=EvaluationOptions(extras=extras)
    )


def _epoch_row(name: str, seconds: float, steps: int, table: MetricTable) -> Row:
    """Figures at full width, with half the bootstrap interval."""
    full = table.rows.filter((pl.col("k") == K) & (pl.col("segment") == "all"))
    widest = pl.col("granularity") == pl.col("granularity").max()
    full = full.filter(widest | pl.col("granularity").is_null())
    figures: Row = {}
    for metric in ("recall", "ndcg"):
        row = full.filter(pl.col("metric") == metric).row(0, named=True)
        figures[f"{metric}@{K}"] = f"{row['value']:.4f} ±{(row['high'] - row['low']) / 2:.4f}"
    return {"model": name, "s/epoch": seconds, "steps": steps, **figures}


def _evaluation_rows(times: dict[str, list[float]]) -> list[Row]:
    medians = {name: statistics.median(values) for name, values in times.items()}
    first = next(iter(medians.values()))
    return [
        {"variant": name, "seconds": seconds, "ratio": seconds / first}
        for name, seconds in medians.items()
    ]


def _setting_rows(settings: Settings, data: Dataset, versions: dict[str, str]) -> list[Row]:
    values = {
        "data": data.manifest.name,
        "content hash": data.manifest.content_hash[:12],
        "users / items / interactions": (
            f"{data.num_users:,} / {data.num_items:,} / {data.manifest.num_interactions:,}"
        ),
        "protocol": PROTOCOL.name,
        "epochs": str(settings.epochs),
        "threads": str(settings.threads),
        "RecTools' steps of an epoch": str(settings.steps or "all"),
        **{f"RecTools' {name}": value for name, value in versions.items()},
    }
    return [{"setting": name, "value": value} for name, value in values.items()]


def _run_rectools(settings: Settings, data: Dataset, split: Split, folder: Path) -> dict[str, Any]:
    """What RecTools finds on this data set."""
    write_side(data, split, folder)
    write_json(folder / "settings.json", _side_settings(settings))
    return run_side(settings.python, folder)


def run_side(python: Path, folder: Path) -> dict[str, Any]:
    """Runs `rectools_side.py` over a folder that holds what it reads; what it has found.

    Raises:
        RunError: RecTools failed.
    """
    with (
        (folder / "errors").open("w+") as errors,
        progress() as bar,
        subprocess.Popen(
            [str(python), "-I", str(SIDE), str(folder)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        task = bar.add_task("RecTools", total=None)
        for line in process.stdout:
            if line.startswith("STEP "):
                done, total = map(int, line.split()[1:])
                bar.update(task, completed=done, total=total)
        if process.wait():
            errors.seek(0)
            raise RunError(f"RecTools failed:\n{errors.read()[-2000:]}")
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def write_side(data: Dataset, split: Split, folder: Path) -> None:
    """What RecTools learns from, what it knows when recommending, and whom to recommend to."""
    everyone = np.arange(data.num_users)
    for name, end in {"train.csv": split.train_end, "known.csv": split.valid_end}.items():
        _rows(select(data, everyone, split.start, end)).write_csv(folder / name)
    users = held_out(data, split, "test").users
    pl.DataFrame({"user_id": users}).write_csv(folder / "users.csv")


def _side_settings(settings: Settings) -> dict[str, Any]:
    model = {
        "n_factors": 256,
        "n_blocks": 1,
        "n_heads": 1,
        "session_max_len": 50,
        "dropout_rate": 0.2,
        "loss": "sampled_softmax",
        "n_negatives": 256,
        "lr": 1e-3,
        "batch_size": 128,
        "epochs": settings.epochs,
    }
    own = {"threads": settings.threads, "seed": settings.seed, "k": K, "rounds": settings.rounds}
    return {
        "kind": "SASRecModel",
        "accelerator": "cpu",
        "model": model,
        "steps": settings.steps,
        **own,
    }


def _rows(histories: Histories) -> pl.DataFrame:
    """RecTools' columns; the place in the history is its time, in nanoseconds."""
    return pl.DataFrame(
        {
            "user_id": np.repeat(histories.users, histories.lengths),
            "item_id": histories.items,
            "datetime": np.arange(len(histories.items)),
            "weight": 1.0,
        }
    )


def read_lists(path: Path, num_users: int) -> Int64:
    """`[U, K]` item indices, best first; -1 where a list has come to its end."""
    frame = pl.read_csv(path)
    lists = np.full((num_users, K), -1, np.int64)
    lists[frame["user_id"], frame["rank"] - 1] = frame["item_id"]
    return lists


class ListModel:
    """Scores that rank as given lists do; nothing else is ever recommended."""

    def __init__(self, lists: Int64, num_items: int) -> None:
        """`lists [U, K]`, see `read_lists`."""
        self._lists, self._num_items = torch.from_numpy(lists), num_items

    def scores(self, histories: Histories) -> Tensor:
        """`[B, N]`."""
        lists = self._lists[to_indices(histories.users)]
        scores = torch.full((len(lists), self._num_items + 1), -torch.inf)
        points = torch.arange(lists.shape[1], 0, -1).float().expand_as(lists)
        # What a list lacks goes to a column that is cut off.
        return scores.scatter_(1, lists.where(lists >= 0, self._num_items), points)[:, :-1]
