"""Cost of six granularities in a training step: naive and ours.

Random histories of Beauty's shape: 12,101 items, batches of 768 targets, history about 6.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from benchmarks.measure import Row, as_rows, in_turns
from recsys.data.batching import Batch
from recsys.data.histories import Histories
from recsys.granularity import Granularities
from recsys.layers.transformer import TransformerConfig
from recsys.losses.softmax import Negatives, nested_softmax
from recsys.models import SASRec, SASRecConfig
from recsys.training.optimizers import OptimizerConfig, build_optimizer, clip_gradients

NUM_ITEMS = 12_101
SIX = (8, 16, 32, 64, 128, 256)


def granularities(sizes: tuple[int, ...]) -> Granularities:
    """As the Beauty config has them."""
    return Granularities(sizes=sizes, normalize=True, learned_scale=True, initial_scale=15.0)


def random_batch(
    num_items: int, seed: int = 0, num_users: int = 128, length: int = 6, *, skewed: bool = False
) -> Batch:
    """`num_users` histories of `length` items, and a target behind each.

    Items are uniformly random, or, `skewed`, as popular as their rank is low (log-uniform, about
    Zipf's law with exponent 1) with ranks strewn over the table.
    """
    rng = np.random.default_rng(seed)
    offsets = np.arange(num_users + 1, dtype=np.int64) * length
    shape = (2, num_users * length)
    items = rng.integers(0, num_items, shape)
    if skewed:
        ranks = np.exp(rng.random(shape) * np.log(num_items)).astype(np.int64)
        items = ranks * 2_654_435_761 % num_items  # one to one: a prime, and no divisor of it
    histories = Histories(np.arange(num_users), items[0].astype(np.int32), offsets)
    return Batch(histories, items[1].astype(np.int64))


def stepper(
    sizes: tuple[int, ...], negatives: int | None, num_items: int, *, sparse: bool = False
) -> Callable[[], None]:
    """One training step: forward, backward, clipping, AdamW (of touched rows, where `sparse`)."""
    torch.manual_seed(0)
    config = SASRecConfig(
        granularities=granularities(sizes),
        encoder=TransformerConfig(layer="sasrec", dropout=0.4),
        sparse_gradients=sparse,
    )
    model = SASRec(config, num_items)
    optimizer = build_optimizer(model, OptimizerConfig())
    batch = random_batch(num_items)
    sample = None
    if negatives is not None:
        chosen = np.unique(np.random.default_rng(1).integers(0, num_items, negatives))
        sample = Negatives(torch.from_numpy(chosen), torch.zeros(len(chosen)))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model.loss(batch, sample).total.backward()
        clip_gradients(model.parameters(), 1.0)
        optimizer.step()

    return step


def naive_loss(users: Tensor, items: Tensor, targets: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """What one writes first: a cross-entropy over the catalogue for each prefix."""
    losses = [
        cross_entropy(15.0 * normalize(users[:, :d]) @ normalize(items[:, :d]).T, targets)
        for d in sizes
    ]
    return torch.stack(losses).mean()


def loss_runner(sizes: tuple[int, ...], *, naive: bool) -> Callable[[], None]:
    """Forward and backward of the full softmax alone."""
    torch.manual_seed(0)
    users = torch.randn(768, sizes[-1], requires_grad=True)
    items = torch.randn(NUM_ITEMS, sizes[-1], requires_grad=True)
    targets = torch.randint(NUM_ITEMS, (768,))
    own = granularities(sizes)
    scales = torch.full((len(sizes),), 15.0, requires_grad=True)

    def run() -> None:
        if naive:
            naive_loss(users, items, targets, sizes).backward()
        else:
            nested_softmax(users, items, targets, scales, own).total.backward()
        users.grad = items.grad = scales.grad = None

    return run


def measure(rounds: int) -> dict[str, list[Row]]:
    """Three tables; the reference of each is one granularity of 256."""
    one = (256,)
    losses = {
        "naive, 1": loss_runner(one, naive=True),
        "naive, 6": loss_runner(SIX, naive=True),
        "ours, 1": loss_runner(one, naive=False),
        "ours, 6": loss_runner(SIX, naive=False),
    }
    full = {f"{len(s)} granularities": stepper(s, None, NUM_ITEMS) for s in (one, SIX)}
    sampled = {f"{len(s)} granularities": stepper(s, 512, NUM_ITEMS) for s in (one, SIX)}
    touched = {
        f"{len(s)} granularities": stepper(s, 512, NUM_ITEMS, sparse=True) for s in (one, SIX)
    }
    return {
        "full softmax alone, 12,101 items": as_rows(in_turns(losses, rounds), "ours, 1"),
        "training step, full softmax": as_rows(in_turns(full, rounds), "1 granularities"),
        "training step, 512 negatives": as_rows(in_turns(sampled, rounds), "1 granularities"),
        "training step, 512 negatives, touched rows alone": as_rows(
            in_turns(touched, rounds), "1 granularities"
        ),
    }
