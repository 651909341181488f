"""Comparison with RecTools' SASRec or HSTU: an epoch, its quality, an evaluation.

Equal: data, split, what `rectools_models.Pair` holds (width, layers, heads, history, dropout, loss,
targets of a batch, Adam at 1e-3 throughout), epochs, threads. HSTU knows the time of the request on
both sides. Both are measured by our evaluator: RecTools' lists are turned into scores that rank the
same. What stays different: RecTools' SASRec draws 256 negatives for each position, ours are shared
by the batch; RecTools recommends only items that training has seen; first values, and norms; ours
has the mean of recent items in SASRec, and learns the scale of cosines; RecTools' HSTU adds
position vectors.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from benchmarks.measure import Row, in_turns
from benchmarks.rectools_models import CONFIGS, EMBEDDING_DIM, PAIRS, Pair
from benchmarks.sides import Side, epoch_row, seconds_and_steps
from recsys.arrays import Int64
from recsys.data.dataset import INTERACTIONS, Dataset, load_dataset, write_dataset
from recsys.data.histories import Histories, select
from recsys.data.splitting import Split, make_split
from recsys.evaluation.evaluate import EvaluationOptions, evaluate
from recsys.evaluation.held_out import held_out
from recsys.evaluation.metric_table import MetricTable
from recsys.evaluation.protocol import Protocol
from recsys.files.atomic import write_json
from recsys.layers.jagged import to_indices
from recsys.model_protocols import ScoreModel, VectorModel
from recsys.recipes.training.train import train
from recsys.runs.config import read_config
from recsys.runs.loading import load_run

K = 10
VARIANTS = {
    "ours, 6 granularities": [8, 16, 32, 64, 128, EMBEDDING_DIM],
    "ours, 1 granularity": [EMBEDDING_DIM],
}
RECTOOLS = "RecTools"
_WARM_UP_USERS = 500
HOW_TO = (
    "make an environment of its own with `python3 -m venv ENV` and "
    "`ENV/bin/pip install 'rectools[torch]==0.19.0' torch==2.13.0`, and give "
    "--rectools ENV/bin/python"
)
SIDE = Side(
    library=RECTOOLS,
    script=Path(__file__).with_name("rectools_side.py"),
    imports="rectools.models, pytorch_lightning, torch",
    how_to=HOW_TO,
)


@dataclass(frozen=True)
class Settings:
    """What is compared."""

    python: Path
    """The interpreter of an environment with `rectools[torch]`."""
    data: Path
    """A dataset folder."""
    model: str = "sasrec"
    """One of `PAIRS`."""
    epochs: int = 1
    num_users: int | None = None
    """Only the first users of the data set; None: all."""
    rounds: int = 3
    """Evaluations of each kind."""
    threads: int = 2
    seed: int = 0
    steps: int | None = None
    """RecTools stops its epoch after so many steps, and only its `recommend` is compared."""

    @property
    def pair(self) -> Pair:
        """What is compared."""
        return PAIRS[self.model]


def measure(settings: Settings) -> dict[str, list[Row]]:
    """Three tables: the epoch and what it reaches, the evaluation, and what was compared.

    Raises:
        RunError: RecTools failed; `SIDE.check` finds most reasons beforehand.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = _first_users(load_dataset(settings.data), settings.num_users, folder / "data")
        split, protocol = make_split(data), settings.pair.protocol
        # Kernels are compiled once on a machine, when they are first used: not in what is timed.
        small = _first_users(data, _WARM_UP_USERS, folder / "small")
        for name in VARIANTS:
            _train(replace(settings, epochs=1), small, name, folder / "warm-up")
        runs = {name: _train(settings, data, name, folder) for name in VARIANTS}
        models = {name: load_run(run).model for name, run in runs.items()}
        ways = {"all we report": True, "recall and ndcg": False}
        evaluations = in_turns(
            {
                f"{name}: {way}": _evaluation(model, data, split, protocol, extras=extras)
                for way, extras in ways.items()
                for name, model in models.items()
            },
            settings.rounds,
        )
        theirs = _run_rectools(settings, data, split, folder)
        lists = ListModel(read_lists(folder / "lists.csv", data.num_users), data.num_items)
        epochs = [
            epoch_row(
                name,
                *seconds_and_steps(runs[name]),
                _evaluation(model, data, split, protocol)(),
                k=K,
            )
            for name, model in models.items()
        ]
    if settings.steps is None:
        seconds = statistics.mean(theirs["epoch_seconds"])
        found = _evaluation(lists, data, split, protocol)()
        epochs.append(epoch_row(RECTOOLS, seconds, theirs["steps"], found, k=K))
    first = epochs[0]["s/epoch"]
    evaluations[f"{RECTOOLS}: recommend(k={K}), no metrics"] = theirs["recommend_seconds"]
    return {
        f"an epoch, {settings.epochs} trained": [
            row | {"ratio": row["s/epoch"] / first} for row in epochs
        ],
        "evaluation": _evaluation_rows(evaluations),
        "compared": _setting_rows(settings, data, split, theirs["versions"]),
    }


def _first_users(data: Dataset, num_users: int | None, folder: Path) -> Dataset:
    """The first users of a data set as one of its own; None: the data set itself."""
    if num_users is None:
        return data
    rows = pl.read_parquet(data.folder / INTERACTIONS).filter(pl.col("user_index") < num_users)
    times = [] if data.timestamps is None else ["timestamp"]
    frame = rows.select(*times, user_id="user_index", item_id="item_index")
    name = f"{data.manifest.name}, first {num_users} users"
    return write_dataset(folder, frame, name=name, order="given")


def _train(settings: Settings, data: Dataset, name: str, folder: Path) -> Path:
    """Trains one of `VARIANTS` by the recipe, validated once at the end: a run folder."""
    epochs = settings.epochs
    config = read_config(
        CONFIGS / settings.pair.config,
        [
            f"data={data.folder}",
            "device=cpu",  # where RecTools is run, whatever this machine has
            f"threads={settings.threads}",
            *settings.pair.ours(VARIANTS[name]),
            f"trainer.epochs={epochs}",
            f"trainer.validate_every={epochs}",
            f"trainer.patience={epochs}",
            f"trainer.seed={settings.seed}",
        ],
    )
    return train(config, out=folder / f"run-{len(VARIANTS[name])}")


def _evaluation(
    model: VectorModel | ScoreModel,
    data: Dataset,
    split: Split,
    protocol: Protocol,
    *,
    extras: bool = True,
) -> Callable[[], MetricTable]:
    options = EvaluationOptions(extras=extras)
    return lambda: evaluate(model, data, split, protocol=protocol, part="test", options=options)


def _evaluation_rows(times: dict[str, list[float]]) -> list[Row]:
    medians = {name: statistics.median(values) for name, values in times.items()}
    first = next(iter(medians.values()))
    return [
        {"variant": name, "seconds": seconds, "ratio": seconds / first}
        for name, seconds in medians.items()
    ]


def _setting_rows(
    settings: Settings, data: Dataset, split: Split, versions: dict[str, str]
) -> list[Row]:
    values = {
        "model": settings.model,
        "data": data.manifest.name,
        "content hash": data.manifest.content_hash[:12],
        "users / items / interactions": (
            f"{data.num_users:,} / {data.num_items:,} / {data.manifest.num_interactions:,}"
        ),
        "protocol": settings.pair.protocol.name,
        "epochs": str(settings.epochs),
        "threads": str(settings.threads),
        "targets of a batch": f"{settings.pair.batch_tokens:,}",
        "RecTools' users of a batch": str(settings.pair.batch_users(split)),
        "RecTools' steps of an epoch": str(settings.steps or "all"),
        **{f"RecTools' {name}": value for name, value in versions.items()},
    }
    return [{"setting": name, "value": value} for name, value in values.items()]


def _run_rectools(settings: Settings, data: Dataset, split: Split, folder: Path) -> dict[str, Any]:
    """What RecTools finds on this data set."""
    write_side(data, split, folder, timed=settings.pair.protocol.request_time)
    write_json(folder / "settings.json", side_settings(settings, split))
    return SIDE.run(settings.python, folder)


def write_side(data: Dataset, split: Split, folder: Path, *, timed: bool = False) -> None:
    """What RecTools learns from, what it knows when recommending, and whom to recommend to.

    Args:
        data: with times, if they are told.
        split: how it is cut.
        folder: for the files of `rectools_side.py`.
        timed: RecTools is told when each interaction was, and when the lists are asked for.
    """
    everyone = np.arange(data.num_users)
    for name, end in {"train.csv": split.train_end, "known.csv": split.valid_end}.items():
        _rows(select(data, everyone, split.start, end), timed=timed).write_csv(folder / name)
    held = held_out(data, split, "test")
    asked = pl.DataFrame({"user_id": held.users})
    if timed:
        asked = asked.with_columns(datetime=pl.Series(_nanoseconds(held.asked_at)))
    asked.write_csv(folder / "users.csv")


def side_settings(settings: Settings, split: Split) -> dict[str, Any]:
    """What `rectools_side.py` reads as settings.json."""
    return {
        "kind": settings.pair.kind,
        "accelerator": "cpu",
        "model": settings.pair.theirs(split, settings.epochs),
        "steps": settings.steps,
        "threads": settings.threads,
        "seed": settings.seed,
        "k": K,
        "rounds": settings.rounds,
    }


def _rows(histories: Histories, *, timed: bool) -> pl.DataFrame:
    """RecTools' columns; untimed, the place in the history is its time, in nanoseconds."""
    times = _nanoseconds(histories.timestamps) if timed else np.arange(len(histories.items))
    return pl.DataFrame(
        {
            "user_id": np.repeat(histories.users, histories.lengths),
            "item_id": histories.items,
            "datetime": times,
            "weight": 1.0,
        }
    )


def _nanoseconds(seconds: Int64 | None) -> Int64:
    assert seconds is not None, "training refuses a data set without times first"
    return seconds * 10**9


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
