"""What the processes of these tests run; it must be importable by name."""

import numpy as np
import polars as pl
import torch

from recsys.data.batching import BatchingConfig, TrainBatches
from recsys.data.dataset import load_dataset, write_dataset
from recsys.data.negatives import NegativeSampler, NegativesConfig
from recsys.data.splitting import make_split
from recsys.granularity import Granularities
from recsys.losses.softmax import Negatives, nested_softmax
from recsys.models import SASRec, SASRecConfig
from recsys.processes import joined
from recsys.tables.sharding import ShardedConfig
from recsys.towers.transformer import TransformerConfig
from recsys.training.optimizers import OptimizerConfig
from recsys.training.trainer import TrainerConfig, _Loop

SIZES = (4, 8, 32)
STEPS = 20
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
        batch = loop.batches.batch(step // number, step % number)
        found.append(loop._step(batch, step / 100).tolist())
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


def losses_of_shardings(data, folder, kinds):
    """For each (sharding, optimizer): shards, first weights, losses, last weights."""
    found = {}
    with joined() as processes:
        for kind in kinds:
            torch.manual_seed(0)
            table = table_config(*kind, processes.world_size)
            model = SASRec(model_config(table), num_items=61)
            first = state_of(model)
            losses = advance(loop_of(model, data, folder, processes), STEPS)
            found[kind] = (model.table.shards, first, losses, state_of(model))
    return found
