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
from recsys.evaluation.held_out import fit_histories
from recsys.losses.softmax import Negatives
from recsys.prefixes import truncate
from recsys.recipes.training.clusters import assign_clusters
from recsys.runs.loading import build_model, place, tell_rows
from recsys.serving.export import source_of
from recsys.tables import note_events, note_progress, penalty_of
from recsys.training.checkpoint import TrainState, load_checkpoint, save_checkpoint
from recsys.training.feed import Feed
from recsys.training.optimizers import build_optimizer, clip_gradients
from recsys.training.trainer import _events_of
from tests.pretend.device import NAME


@dataclass(frozen=True)
class Found:
    """The figures of some steps."""

    losses: np.ndarray
    """`[steps, G]`."""
    gradients: dict[str, torch.Tensor]
    """Of the last step, before the optimizer has taken them away."""
    weights: dict[str, torch.Tensor]
    vectors: dict[str, np.ndarray] | None = None
    """Of items and of users, as an export writes them; None: steps are all that was asked for."""
    ranks: np.ndarray | None = None
    """`[G, M]`."""
    gaps: np.ndarray | None = None
    """`[G, M]` how far the score of a target is from the nearest other, of the largest."""


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
    model.begin(lambda most: fit_histories(dataset, split, "train", most=most))
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


def steady(model, config):
    """The optimizer of a run, with steps that are small where gradients are.

    Adam makes whole steps of gradients that are nothing but rounding; a larger epsilon does not.
    """
    return with_epsilon(build_optimizer(model, config.trainer.optimizer))


def with_epsilon(optimizer):
    """See `steady`."""
    for group in optimizer.param_groups:
        group["eps"] = 1e-3
    return optimizer


def weights_of(model):
    """All that a file of weights holds."""
    return {name: tensor.cpu().clone() for name, tensor in model.state_dict().items()}


def figures(config, device, steps=2, whole=True):
    """What some steps give; `whole`: and an evaluation and an export after them."""
    dataset, split, model, feed = ready(config, device)
    optimizer = steady(model, config)
    model.train()
    feeds = feed.epoch(0, 0, 0)
    gradients = {}

    def look():
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                gradients[name] = parameter.grad.cpu().to_dense().clone()

    losses = [step(model, next(feeds), optimizer, number, look).cpu() for number in range(steps)]
    told = torch.stack(losses).numpy(), gradients, weights_of(model)
    if not whole:
        return Found(*told)
    model.eval()
    ranking = rank_held_out(model, dataset, split, part="valid", filter_seen=False, lists=True)
    source = source_of(model, dataset, with_users=True, model_card={}, protocol={})
    vectors = {"items": source.items, "users": source.users.vectors}
    gaps = gaps_of(model, dataset, ranking.held_out)
    return Found(*told, vectors, ranking.ranks, gaps)


def gaps_of(model, dataset, held):
    """See `Found.gaps`."""
    histories = held.histories(dataset, np.arange(len(held.users)))
    with torch.no_grad():
        users, items = model.user_vectors(histories), model.item_vectors()
    owners, targets = np.repeat(np.arange(len(held.users)), np.diff(held.offsets)), held.targets
    found = []
    for size in model.granularities.sizes:
        cosine = model.granularities.normalize
        sides = [
            truncate(side.detach().cpu().float(), size, normalize=cosine) for side in (users, items)
        ]
        scores = (sides[0] @ sides[1].T)[owners].numpy()
        rows = np.arange(len(targets))
        apart = np.abs(scores - scores[rows, targets][:, None])
        apart[rows, targets] = np.inf
        found.append(apart.min(axis=1) / np.abs(scores).max())
    return np.stack(found)


def check_weights(one, other):
    """To 1e-5."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(
            tensor, other[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def check_alike(one, other):
    """Losses, gradients, weights and vectors to 1e-5; the same ranks, but where two scores are so
    near that they change places.
    """
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5, atol=1e-6)
    check_weights(one.gradients, other.gradients)
    check_weights(one.weights, other.weights)
    if one.vectors is None:
        return
    for side, vectors in one.vectors.items():
        np.testing.assert_allclose(vectors, other.vectors[side], rtol=1e-4, atol=1e-5)
    moved = one.ranks != other.ranks
    assert (one.gaps[moved] < 1e-4).all(), one.gaps[moved]


def check_checkpoints_cross(config, folder):
    """A step on one device, a checkpoint, and the next step on either: the same figures."""
    for number, (here, there) in enumerate([("cpu", NAME), (NAME, "cpu")]):
        found = []
        for device in (here, there):
            _, _, model, feed = ready(config, device)
            optimizer = steady(model.train(), config)
            first, second, *_ = feed.epoch(0, 0, 0)
            if device == here:
                step(model, first, optimizer, 0)
                save_checkpoint(folder / str(number), model, optimizer, TrainState(step=1))
            else:
                assert load_checkpoint(folder / str(number), model, optimizer).step == 1
            losses = step(model, second, optimizer, 1).cpu()
            found.append((losses, weights_of(model)))
        torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-6)
        check_weights(found[0][1], found[1][1])
