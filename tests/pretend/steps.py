"""A few steps of training and an evaluation on any device, with the figures that they give."""

from dataclasses import dataclass

import numpy as np
import torch

from recsys.data.batching import TrainBatches
from recsys.data.dataset import load_dataset
from recsys.data.negatives import NegativeSampler
from recsys.data.splitting import make_split
from recsys.devices import to_indices
from recsys.evaluation.evaluate import rank_held_out
from recsys.losses.softmax import Negatives
from recsys.recipes.training.clusters import assign_clusters
from recsys.runs.loading import build_model, place, tell_rows
from recsys.tables import note_events, note_progress, penalty_of
from recsys.training.feed import Feed
from recsys.training.optimizers import build_optimizer, clip_gradients
from recsys.training.trainer import _events_of


@dataclass(frozen=True)
class Found:
    """The figures of some steps."""

    losses: np.ndarray
    """`[steps, G]`."""
    gradients: dict[str, torch.Tensor]
    """Of the last step, before the optimizer has taken them away."""
    weights: dict[str, torch.Tensor]
    ranks: np.ndarray


def ready(config, device):
    """`(dataset, split, model, feed)` of a run that is about to start."""
    dataset = load_dataset(config.data)
    split = make_split(dataset, config.split_rule(dataset))
    model = build_model(config, dataset)
    if config.model.pairs:
        model.note_users(split.fit_end("train") > split.start)
    tell_rows(model, dataset, split, "train")
    assign_clusters(model, dataset, split, "train")
    torch.manual_seed(0)
    model.begin()
    place(model, device)
    batches = TrainBatches(
        config.batching, dataset, split, fit_on="train",
        history_length=config.model.history_length, seed=0,
        older=config.model.counts_seen, pairs=config.model.pairs,
    )  # fmt: skip
    draws = config.loss.draws
    sampler = None if draws is None else NegativeSampler(draws, batches.target_counts())
    return dataset, split, model, Feed(batches, sampler, 0, ahead=0)


def step(model, fed, optimizer, number, look=None):
    """One update; the losses `[G]`, which stay on the device. `look` is called before it."""
    torch.manual_seed(number)
    note_events(model, *_events_of(fed.batch))
    note_progress(model, 0.2 + number / 10)
    negatives = None
    if fed.drawn is not None:
        items, log_q = (None if part is None else torch.from_numpy(part) for part in fed.drawn)
        log_q = None if log_q is None else log_q.float().to(model.device)
        negatives = Negatives(to_indices(items.numpy(), model.device), log_q)
    output = model.loss(fed.batch, negatives)
    optimizer.zero_grad(set_to_none=True)
    penalty = penalty_of(model)
    (output.total if penalty is None else output.total + penalty).backward()
    clip_gradients(model.parameters(), 0.1)
    if look is not None:
        look()
    optimizer.step()
    return output.per_granularity


def figures(config, device, steps=2):
    """What some steps and an evaluation give."""
    dataset, split, model, feed = ready(config, device)
    optimizer = build_optimizer(model, config.trainer.optimizer)
    model.train()
    feeds = feed.epoch(0, 0, 0)
    gradients = {}

    def look():
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                gradients[name] = parameter.grad.cpu().to_dense().clone()

    losses = [step(model, next(feeds), optimizer, number, look).cpu() for number in range(steps)]
    model.eval()
    ranking = rank_held_out(model, dataset, split, part="valid", filter_seen=False, lists=True)
    weights = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    return Found(torch.stack(losses).numpy(), gradients, weights, ranking.ranks)


def check_alike(one, other):
    """Losses and gradients to 1e-5, and the same ranks but where two scores are as good as equal.

    Weights less strictly: Adam makes whole steps of gradients that are nothing but rounding.
    """
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5, atol=1e-6)
    for mine, others, within in (
        (one.gradients, other.gradients, 1e-5),
        (one.weights, other.weights, 1e-3),
    ):
        assert mine.keys() == others.keys()
        for name, tensor in mine.items():
            torch.testing.assert_close(
                tensor, others[name], rtol=1e-4, atol=within, msg=lambda m, n=name: f"{n}: {m}"
            )
    assert (one.ranks == other.ranks).mean() > 0.98
