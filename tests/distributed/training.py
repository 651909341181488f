"""What the processes of these tests run; it must be importable by name."""

import os
import time

import numpy as np
import polars as pl
import torch

from recsys.data.batching import BatchingConfig, TrainBatches
from recsys.data.dataset import load_dataset, write_dataset
from recsys.data.negatives import NegativeSampler, NegativesConfig
from recsys.data.splitting import make_split
from recsys.errors import DataError
from recsys.evaluation.evaluate import RankingOptions, rank_held_out
from recsys.granularity import Granularities
from recsys.layers.transformer import TransformerConfig
from recsys.losses.softmax import Negatives, nested_softmax
from recsys.models import SASRec, SASRecConfig
from recsys.processes import joined
from recsys.recipes.training.train import train
from recsys.runs.config import RunConfig
from recsys.tables import DenseConfig
from recsys.tables.distributed.plan import ShardedConfig
from recsys.tables.distributed.sharded import ShardedTable
from recsys.training.distributed import average_gradients
from recsys.training.optimizers import OptimizerConfig
from recsys.training.trainer import TrainerConfig, _Loop

SIZES = (4, 8, 32)
STEPS = 8
RATE = 0.1
"""Of the table."""
SETTINGS = TrainerConfig(optimizer=OptimizerConfig(learning_rate=0.01, warmup_steps=5))
SHARDINGS = ("table_wise", "row_wise", "column_wise", "tier_aligned", "uneven", "auto")
OPTIMIZERS = ("sgd", "adagrad", "rowwise_adagrad")


def write_data(folder):
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(60), rng.integers(4, 15, 60))
    items = (users * 7 + rng.integers(0, 20, len(users))) % 61
    return write_dataset(folder, pl.DataFrame({"user_id": users, "item_id": items}), name="x")


def model_config(table) -> SASRecConfig:
    return SASRecConfig(
        granularities=Granularities(sizes=SIZES, normalize=True, learned_scale=True),
        encoder=TransformerConfig(dropout=0.0),
        history_dropout=0.0,
        history_length=8,
        table=table,
    )


def table_config(sharding, optimizer, world_size) -> ShardedConfig:
    """`uneven`: cut at granularities alone, the narrow shards on the last process."""
    ranks = None
    if sharding == "uneven":
        sharding, ranks = "tier_aligned", (world_size - 1, world_size - 1, 0)
    return ShardedConfig(
        sharding=sharding, ranks=ranks, optimizer=optimizer, learning_rate=RATE, eps=1e-6
    )


def warm_up() -> None:
    """One forward and backward of the loss kernels."""
    granularities = Granularities(sizes=SIZES, normalize=True)
    users, items = torch.randn(4, 32, requires_grad=True), torch.randn(8, 32, requires_grad=True)
    negatives = Negatives(torch.arange(4), torch.zeros(4))
    scales = torch.ones(3)
    found = nested_softmax(
        users, items, torch.arange(4), scales, granularities, negatives=negatives
    )
    found.total.backward()


def batches_of(folder):
    dataset = load_dataset(folder)
    split = make_split(dataset)
    batches = TrainBatches(
        BatchingConfig(batch_tokens=70), dataset, split, fit_on="train", history_length=8, seed=3
    )
    negatives = NegativesConfig(uniform=12, popularity=4, in_batch=True)
    return batches, NegativeSampler(negatives, batches.target_counts())


def loop_of(model, data, folder, processes) -> _Loop:
    batches, sampler = batches_of(data)
    return _Loop(model, batches, SETTINGS, folder, sampler, None, processes)


def advance(loop, steps) -> list[list[float]]:
    """Losses per granularity of each of the next steps, of the whole batch."""
    loop.model.train()
    found = []
    for _ in range(steps):
        step = loop.state.step
        number = loop.batches.num_batches(0)
        fed = loop.feed._make(step // number, step % number, step)
        loop._step(fed, step / 100)
        found.append(loop.unread.pop().losses.tolist())
        loop._move(step=step + 1)
    return found


def state_of(model) -> dict[str, np.ndarray]:
    """All weights, those of the table gathered, as a model with a dense table has them."""
    with torch.no_grad():
        table = model.table.vectors().clone()
    return {
        name: tensor.detach().clone().numpy()
        for name, tensor in {**model.state_dict(), "table.weight": table}.items()
    }


def losses_of_shardings(data, folder, kinds, objective=nested_softmax):
    """For each (sharding, optimizer): shards, first weights, losses, last weights."""
    found = {}
    with joined() as processes:
        for kind in kinds:
            torch.manual_seed(0)
            table = table_config(*kind, processes.world_size)
            model = SASRec(model_config(table), num_items=61, objective=objective)
            first = state_of(model)
            losses = advance(loop_of(model, data, folder, processes), STEPS)
            found[kind] = (model.table.shards, first, losses, state_of(model))
    return found


def settings(data, sharding="tier_aligned", optimizer="adagrad", **trainer) -> RunConfig:
    """A run without dropout: what it gives does not depend on how many processes draw."""
    table = {"name": "sharded", "sharding": sharding, "optimizer": optimizer, "eps": 1e-6}
    return RunConfig.model_validate(
        {
            "data": str(data),
            "threads": 1,
            "model": {
                "granularities": {"sizes": [4, 8, 16], "learned_scale": True},
                "encoder": {"dropout": 0.0},
                "history_dropout": 0.0,
                "history_length": 8,
                "table": {**table, "learning_rate": 0.1},
            },
            "loss": {"negatives": {"uniform": 20, "in_batch": True}},
            "batching": {"batch_tokens": 64, "bucket_batches": 4},
            "trainer": {
                "epochs": 3,
                "optimizer": {"learning_rate": 0.01, "warmup_steps": 5},
                **trainer,
            },
        }
    )


def train_run(config, out):
    """`recsys train --resume`; returns the process's last words."""
    return str(train(config, out=out, resume=True))


def begun_with(config, out):
    """The table's mean at the first step, of processes that would begin each with its rank."""
    seen, real = [], SASRec.loss

    def noted(self, *arguments):
        seen.append(float(self.table.weight.mean()))
        return real(self, *arguments)

    def begin(self, rows):
        with torch.no_grad():
            self.table.weight.fill_(1.0 + int(os.environ["RANK"]))

    SASRec.loss, SASRec.begin = noted, begin
    train(config, out=out)
    return seen[0]


def train_slowly(config, out):
    """As `train_run`, with time between steps to be killed in."""
    real = SASRec.loss

    def late(self, *arguments):
        time.sleep(0.05)
        return real(self, *arguments)

    SASRec.loss = late
    return train_run(config, out)


def train_with_a_failure(config, out, rank, step):
    """As `train_run`, but one process fails in a step."""
    real = SASRec.loss
    calls = iter(range(1 << 30))

    def loss(self, batch, negatives):
        if int(os.environ["RANK"]) == rank and next(calls) == step:
            raise DataError("row 7 of histories.parquet is damaged")
        return real(self, batch, negatives)

    SASRec.loss = loss
    return train_run(config, out)


def save_after(data, folder, kind, steps):
    """Trains some steps and saves; returns the weights, and the losses of as many steps more."""
    with joined() as processes:
        loop = _start(data, folder, kind, processes)
        advance(loop, steps)
        loop._save()
        return state_of(loop.model), advance(loop, steps)


def load_and_go_on(data, folder, kind, steps):
    """Takes up what other processes have saved; returns as `save_after` does."""
    with joined() as processes:
        loop = _start(data, folder, kind, processes)
        assert loop.state.step == steps
        return state_of(loop.model), advance(loop, steps)


def sums_after_loading(folder, kind):
    """Row-wise sums of a table read from a checkpoint: `{(row, rows, column, width): [rows]}`."""
    with joined() as processes:
        table = ShardedTable(table_config(*kind, processes.world_size), 61, 32, init_std=1.0,
                             sizes=SIZES)  # fmt: skip
        table.load(folder)
        return {(s.row, s.rows, s.column, s.width): v.numpy() for s, v in table._sums.items()}


def _start(data, folder, kind, processes) -> _Loop:
    torch.manual_seed(0)
    table = table_config(*kind, processes.world_size)
    return loop_of(SASRec(model_config(table), num_items=61), data, folder, processes)


def read_rows(kinds, num_rows, sizes):
    """For each sharding: its shards, and for rows of this process's own at each size: what was
    read, what it cost, and what the engine gives."""
    found = []
    with joined() as processes:
        for kind in kinds:
            torch.manual_seed(0)
            config = table_config(kind, "sgd", processes.world_size)
            table = ShardedTable(config, num_rows, sizes[-1], init_std=1.0, sizes=sizes)
            generator = torch.Generator().manual_seed(processes.rank)
            rows = torch.randint(num_rows, (5, 3 + processes.rank), generator=generator)
            engine = table(rows).detach().numpy()
            for size in sizes:
                with torch.no_grad():
                    read = table(rows, size=size)
                found.append(
                    (table.shards, rows.numpy(), size, read.numpy(), table.exchange.last, engine)
                )
    return found


def rank_together(folder, part, lists, repeats=0.0):
    """Ranks and counts of every granularity, and the table of figures, by all processes."""
    dataset = load_dataset(folder)
    split = make_split(dataset)
    torch.manual_seed(0)
    config = model_config(DenseConfig()).model_copy(update={"repeat_bias": bool(repeats)})
    model = SASRec(config, num_items=dataset.num_items).eval()
    if repeats:
        torch.nn.init.constant_(model.repeats.weight, repeats)
    with joined() as processes:
        found = rank_held_out(
            model,
            dataset,
            split,
            part=part,
            filter_seen=not repeats,
            ks=(1, 5),
            lists=lists,
            options=RankingOptions(processes=processes),
        )
    return found.ranks, found.counts


def average(gradients_of_rank):
    """Mean gradients of three parameters, of which a process may have none."""
    with joined() as processes:
        model = torch.nn.ParameterList([torch.zeros(2, 3), torch.zeros(4), torch.zeros(5, 2)])
        for parameter, gradient in zip(model, gradients_of_rank[processes.rank], strict=True):
            if isinstance(gradient, tuple):
                rows, values = torch.tensor([gradient[0]]), torch.tensor(gradient[1])
                gradient = torch.sparse_coo_tensor(rows, values, parameter.shape)
            parameter.grad = gradient
        average_gradients(model, processes)
        return [None if p.grad is None else p.grad.to_dense().numpy() for p in model]
