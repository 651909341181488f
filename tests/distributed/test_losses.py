"""1, 2 and 4 processes, however the table is cut: the losses of one process with a dense table."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch

from recsys.losses.softmax import Negatives, Teaching, nested_softmax
from recsys.models import SASRec
from recsys.tables import DenseConfig
from recsys.training.optimizers import build_optimizer, clip_gradients, set_rate
from tests.distributed import training
from tests.distributed.workers import run

KINDS = tuple(
    (sharding, optimizer)
    for sharding, optimizer in itertools.product(training.SHARDINGS, training.OPTIMIZERS)
    if optimizer == "adagrad" or sharding in ("row_wise", "uneven")
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return training.write_data(tmp_path_factory.mktemp("data") / "data").folder


class TableStep:
    """SGD and Adagrad as their papers have them, on all rows of a plain tensor."""

    def __init__(self, table, optimizer, shards):
        self.table, self.optimizer, self.shards = table, optimizer, shards
        self.sums = torch.zeros_like(table.weight)

    def step(self, rate):
        gradient, self.table.weight.grad = self.table.weight.grad, None
        if self.optimizer == "adagrad":
            self.sums += gradient**2
        if self.optimizer == "rowwise_adagrad":
            for shard in self.shards:  # every shard has a sum of its own
                part = (slice(shard.row, shard.row_end), slice(shard.column, shard.end))
                self.sums[part] += (gradient[part] ** 2).mean(1, keepdim=True)
        if self.optimizer != "sgd":
            gradient = gradient / (self.sums.sqrt() + 1e-6)
        with torch.no_grad():
            self.table.weight -= rate * gradient


def reference(data, first, optimizer, shards, objective=nested_softmax):
    """Losses and last rows of one process with a plain table, without torchrec."""
    model = SASRec(training.model_config(DenseConfig()), num_items=61, objective=objective)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in first.items()})
    batches, sampler = training.batches_of(data)
    settings = training.SETTINGS.optimizer
    own, others = TableStep(model.table, optimizer, shards), build_optimizer(model, settings)
    losses = []
    for step in range(training.STEPS):
        number = batches.num_batches(0)
        batch = batches.batch(step // number, step % number)
        items, log_q = sampler.draw(batch.targets, np.random.default_rng([0, step]))
        negatives = Negatives(torch.from_numpy(items), torch.from_numpy(log_q).float())
        output = model.loss(batch, negatives)
        output.total.backward()
        rate = settings.rate(step, step / 100)
        own.step(rate * training.RATE / settings.learning_rate)
        clip_gradients(model.parameters(), settings.clip_norm)
        set_rate(others, rate)
        others.step()
        others.zero_grad(set_to_none=True)
        losses.append(output.per_granularity.tolist())
    return losses, model.table.weight.detach().numpy()


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_losses_equal_the_single_process_reference(world_size, data, tmp_path):
    found = run(world_size, training.losses_of_shardings, data, tmp_path, KINDS)
    for kind in KINDS:
        shards, first, losses, last = found[0][kind]
        for other in found[1:]:
            assert other[kind][2] == losses  # every process knows the loss of the whole batch
        expected, table = reference(data, first, kind[1], shards)
        np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-5, err_msg=str(kind))
        np.testing.assert_allclose(last["table.weight"], table, atol=1e-4, err_msg=str(kind))
        moved = np.abs(last["table.weight"] - first["table.weight"])
        for shard in shards:
            rows, columns = slice(shard.row, shard.row_end), slice(shard.column, shard.end)
            assert (moved[rows, columns].max(1) > 1e-4).mean() > 0.8, (kind, shard)


def test_rows_that_count_by_focus_have_the_mean_of_the_whole_batch(data, tmp_path):
    """A mean over a process's own share would move these losses by one, not by rounding."""
    focused = partial(nested_softmax, teaching=Teaching(focus=0.1))
    kind = ("row_wise", "sgd")
    found = run(2, training.losses_of_shardings, data, tmp_path, (kind,), focused)
    shards, first, losses, _ = found[0][kind]
    assert found[1][kind][2] == losses
    expected, _ = reference(data, first, kind[1], shards, focused)
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-4)
