"""Comparison with RecBole's LightGCN: seconds of an epoch, and what it reaches.

Two of ours stand beside RecBole: one by RecBole's settings, and one as the project trains it (a
config of configs/ with its own loss, batch and granularities).

Equal in the first: data, layers, embedding size, the raw dot product of the mean of all layers,
BPR, pairs of a batch, Adam at one rate throughout, no regularisation, the spread of first values,
epochs, threads, the CPU. All are fitted on train+valid and measured by our evaluator on the test
part, and none evaluates anything between its epochs.

What stays different: RecBole draws one negative for each pair, which the user has not had, so as
many a step as there are pairs; ours draws as many a step, uniformly as well, and all pairs of the
step share them: a pair is compared with every one (except its own item), of which a few may be the
user's. Our batches hold all pairs of some users, RecBole's hold pairs of anyone. First values are
normal in ours, uniform in RecBole; items and users have one standard deviation in ours, that of
their mean number. RecBole knows no item without a training row, and recommends none.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from benchmarks.measure import Row
from benchmarks.sides import Side, epoch_row, seconds_and_steps
from recsys.arrays import Float32, Int64
from recsys.data.dataset import Dataset, load_dataset, write_dataset
from recsys.data.histories import Histories
from recsys.data.splitting import Split, make_split
from recsys.evaluation.evaluate import evaluate
from recsys.evaluation.held_out import fit_histories
from recsys.evaluation.metric_table import MetricTable
from recsys.evaluation.protocol import FitOn, Protocol, find_protocol
from recsys.files.atomic import write_json
from recsys.layers.jagged import to_indices
from recsys.model_protocols import ScoreModel, VectorModel
from recsys.recipes.training.train import train
from recsys.runs.config import RunConfig, read_config
from recsys.runs.loading import load_run

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RECBOLE = "RecBole"
EQUAL = "ours, as RecBole"
K = 20
FIT_ON: FitOn = "train+valid"
HOW_TO = (
    "make an environment of its own with `python3 -m venv ENV`, "
    "`ENV/bin/pip install torch==2.13.0` and `ENV/bin/pip install recbole==1.2.1`, and give "
    "--recbole ENV/bin/python"
)
SIDE = Side(
    library=RECBOLE,
    script=Path(__file__).with_name("side.py"),
    imports="recbole.model.general_recommender, recbole.trainer, torch",
    how_to=HOW_TO,
)
_UNCLIPPED = 1e9
_WARM_UP_USERS = 500


@dataclass(frozen=True)
class Settings:
    """What is compared."""

    python: Path
    """The interpreter of an environment with `recbole`."""
    data: Path
    """A dataset folder."""
    config: Path = CONFIGS / "gowalla_lightgcn.yaml"
    """How the project trains LightGCN."""
    epochs: int = 1
    embedding_dim: int = 64
    layers: int = 3
    batch_pairs: int = 2048
    learning_rate: float = 1e-3
    threads: int = 2
    """Of each library."""
    seed: int = 0


def measure(settings: Settings) -> dict[str, list[Row]]:
    """Two tables: the epoch and what it reaches, and what was compared.

    Raises:
        RunError: RecBole failed; `SIDE.check` finds most reasons beforehand.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = load_dataset(settings.data)
        split = make_split(data)
        # Kernels are compiled once on a machine, when they are first used: not in what is timed.
        small = _small(data, folder / "small")
        rows = [
            *(_train(settings, data, name, small, folder) for name in (EQUAL, own_name(settings))),
            _train_recbole(settings, data, split, folder / "recbole"),
        ]
        versions = rows[-1].pop("versions")
    first = rows[0]["s/epoch"]
    return {
        f"an epoch, {settings.epochs} trained": [
            row | {"ratio": row["s/epoch"] / first} for row in rows
        ],
        "compared": _setting_rows(settings, data, split, versions),
    }


def own_name(settings: Settings) -> str:
    """What the project's own way of training is called in the table."""
    sizes = read_config(settings.config).model.granularities.sizes
    return f"ours, {len(sizes)} granularities, {settings.config.name}"


def protocol_of(data: Dataset) -> Protocol:
    """`lightgcn` for a data set that comes with its parts, `s3rec` for one that is cut by us."""
    return find_protocol("lightgcn" if data.manifest.split.name == "given" else "s3rec")


def config_of(settings: Settings, data: Dataset, name: str) -> RunConfig:
    """The config of one of ours."""
    common = [
        f"data={data.folder}",
        f"protocol={protocol_of(data).name}",
        f"fit_on={FIT_ON}",
        "device=cpu",  # where RecBole is run, whatever this machine has
        f"threads={settings.threads}",
        f"trainer.epochs={settings.epochs}",
        f"trainer.seed={settings.seed}",
    ]
    own = as_recbole(settings, data) if name == EQUAL else []
    return read_config(settings.config, [*own, *common])


def as_recbole(settings: Settings, data: Dataset) -> list[str]:
    """Overrides of a config, as `side_settings` has them for RecBole."""
    dim, batch = settings.embedding_dim, settings.batch_pairs
    split = make_split(data)
    longest = int((split.fit_end(FIT_ON) - split.start).max())
    # Of RecBole's first values, by Xavier: sqrt(2 / (rows + coordinates)).
    std = (2 / ((data.num_users + data.num_items) / 2 + dim)) ** 0.5
    return [
        f"model={{name: lightgcn, layers: {settings.layers}, init: normal, init_std: {std:.6f}, "
        f"granularities: {{sizes: [{dim}], normalize: false}}, history_length: {longest}}}",
        f"loss={{name: bpr, negatives: {{uniform: {batch}, logq: false}}}}",
        f"batching={{batch_tokens: {batch}}}",
        f"trainer.optimizer={{learning_rate: {settings.learning_rate}, betas: [0.9, 0.999], "
        f"warmup_steps: 0, schedule: constant, clip_norm: {_UNCLIPPED:.0f}}}",
    ]


def side_settings(settings: Settings) -> dict[str, Any]:
    """What `side.py` reads as settings.json."""
    return {
        "config": {
            "embedding_size": settings.embedding_dim,
            "n_layers": settings.layers,
            "reg_weight": 0.0,
            "train_batch_size": settings.batch_pairs,
            "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1},
            "learner": "adam",
            "learning_rate": settings.learning_rate,
            "weight_decay": 0.0,
            "epochs": settings.epochs,
            "seed": settings.seed,
        },
        "threads": settings.threads,
    }


def write_side(data: Dataset, split: Split, folder: Path) -> None:
    """RecBole's atomic file of what may be learned from: data/data.inter in `folder`."""
    rows = fit_histories(data, split, FIT_ON)
    frame = pl.DataFrame(
        {
            "user_id:token": np.repeat(rows.users, rows.lengths),
            "item_id:token": rows.items,
        }
    )
    (folder / "data").mkdir(parents=True)
    frame.write_csv(folder / "data" / "data.inter", separator="\t")


class DotModel:
    """Vectors of another library, whose dot products are its scores."""

    def __init__(self, folder: Path, num_users: int, num_items: int) -> None:
        """Reads what `side.py` has left in `folder`; the vectors of what it lacks are zeros."""
        self._users, _ = _read_vectors(folder, "user", num_users)
        self._items, known = _read_vectors(folder, "item", num_items)
        self._unknown = ~known

    def scores(self, histories: Histories) -> Tensor:
        """`[B, N]`; an item without a vector is never recommended."""
        scores = self._users[to_indices(histories.users)] @ self._items.T
        return scores.masked_fill_(self._unknown, -torch.inf)


def _read_vectors(folder: Path, kind: str, count: int) -> tuple[Tensor, Tensor]:
    """`[count, D]` vectors by index, and `[count]` whether there is one."""
    indices: Int64 = np.load(folder / f"{kind}_indices.npy")
    vectors: Float32 = np.load(folder / f"{kind}_vectors.npy")
    found, known = torch.zeros(count, vectors.shape[1]), torch.zeros(count, dtype=torch.bool)
    places = torch.from_numpy(indices)
    found[places], known[places] = torch.from_numpy(vectors), True
    return found, known


def _small(data: Dataset, folder: Path) -> Dataset:
    """A few rows of a data set as one of its own, cut by us."""
    rows = pl.read_parquet(data.folder / "interactions.parquet")
    rows = rows.filter(pl.col("user_index") < _WARM_UP_USERS)
    frame = rows.select(user_id="user_index", item_id="item_index")
    return write_dataset(folder, frame, name="some users", order="given")


def _train(settings: Settings, data: Dataset, name: str, small: Dataset, folder: Path) -> Row:
    warm_up = replace(settings, epochs=1)
    train(config_of(warm_up, small, name), out=folder / f"warm-up {name}")
    started = time.perf_counter()
    run = train(config_of(settings, data, name), out=folder / name)
    taken = time.perf_counter() - started
    seconds, steps = seconds_and_steps(run)
    table = _evaluated(load_run(run).model, data)
    return epoch_row(name, seconds, steps, table, k=K) | {
        "seconds besides": taken - settings.epochs * seconds
    }


def _train_recbole(settings: Settings, data: Dataset, split: Split, folder: Path) -> Row:
    write_side(data, split, folder)
    write_json(folder / "settings.json", side_settings(settings))
    told = SIDE.run(settings.python, folder)
    table = _evaluated(DotModel(folder, data.num_users, data.num_items), data)
    seconds = statistics.mean(told["epoch_seconds"])
    return epoch_row(RECBOLE, seconds, told["steps"], table, k=K) | {
        "seconds besides": told["seconds"] - sum(told["epoch_seconds"]),
        "versions": told["versions"],
    }


def _evaluated(model: VectorModel | ScoreModel, data: Dataset) -> MetricTable:
    return evaluate(
        model,
        data,
        make_split(data),
        protocol=protocol_of(data),
        part="test",
        fit_on=FIT_ON,
        ks=(K,),
    )


def _setting_rows(
    settings: Settings, data: Dataset, split: Split, versions: dict[str, str]
) -> list[Row]:
    pairs = int((split.fit_end(FIT_ON) - split.start).sum())
    values = {
        "data": data.manifest.name,
        "content hash": data.manifest.content_hash[:12],
        "users / items / pairs of an epoch": (
            f"{data.num_users:,} / {data.num_items:,} / {pairs:,}"
        ),
        "protocol": f"{protocol_of(data).name}, fitted on {FIT_ON}",
        "epochs": str(settings.epochs),
        "threads": str(settings.threads),
        "layers / embedding size": f"{settings.layers} / {settings.embedding_dim}",
        "pairs of a batch": f"{settings.batch_pairs:,}",
        "learning rate": str(settings.learning_rate),
        **{f"RecBole's {name}": value for name, value in versions.items()},
    }
    return [{"setting": name, "value": value} for name, value in values.items()]
