"""ComiRec: what its interests see, which of them is trained, and what two are worth."""

import numpy as np
import polars as pl
import pytest
import torch

import recsys
from recsys.config import parse
from recsys.data.batching import Batch
from recsys.data.dataset import write_dataset
from recsys.data.histories import Histories
from recsys.errors import ConfigError
from recsys.losses.softmax import Negatives
from recsys.models.comirec import ComiRec, ComiRecConfig
from recsys.prefixes import truncate
from recsys.recipes.training.cut import cut_weights
from recsys.recipes.training.train import train
from recsys.runs.config import RunConfig
from recsys.runs.loading import load_run
from tests.contract import check_model, checkerboard
from tests.models.test_models import histories, settings

KINDS = ("self_attention", "dynamic_routing")
SIZES = (4, 8, 12)


def made(kind, *, sizes=SIZES, interests=3, normalize=False, **encoder):
    """A model of random weights, all different."""
    torch.manual_seed(0)
    tree = {
        "name": "comirec",
        "granularities": {"sizes": sizes, "normalize": normalize},
        "history_length": 5,
        "history_dropout": 0.0,
        "num_interests": interests,
        "encoder": {"kind": kind, **encoder},
    }
    model = ComiRec(ComiRecConfig.model_validate(tree), num_items=30).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.normal_()
    return model


@pytest.mark.parametrize(("kind", "nested"), [*zip(KINDS, (True, False), strict=True)])
def test_both_kinds_pass_the_checkerboard(kind, nested, tmp_path):
    board, counter = checkerboard(tmp_path / "board"), iter(range(9))

    def fit(_board, _rows):
        encoder = {"kind": kind, "nested": nested}
        config = settings("comirec", board.folder, encoder=encoder, num_interests=2)
        return load_run(train(config, out=tmp_path / f"run{next(counter)}")).model

    check_model(fit, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_sees_what_stands_before_it_and_nothing_else(kind):
    model = made(kind)
    some = histories([1, 2, 3], [4], [5, 6, 7, 8, 9], [2, 2])
    everywhere = model.encode(some)
    assert everywhere.shape == (11, 3, 12)
    users = model.user_vectors(some)
    torch.testing.assert_close(users, everywhere[[2, 3, 8, 10]], rtol=1e-4, atol=1e-5)
    changed = model.encode(histories([1, 2, 9], [4], [5, 6, 7, 8, 9], [2, 2]))
    torch.testing.assert_close(changed[:2], everywhere[:2])
    assert not torch.allclose(changed[2], everywhere[2])
    older = model.user_vectors(histories([7, 7, 5, 6, 7, 8, 9]))
    torch.testing.assert_close(older, users[2:3], rtol=1e-4, atol=1e-5)
    assert made(kind, interests=1).user_vectors(some).shape == (4, 12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_smaller_model_is_the_leading_corner(kind):
    whole, small = made(kind), made(kind, sizes=SIZES[:2])
    cut_weights(whole, small)
    some = histories([1, 2, 3], [4], [5, 6, 7, 8, 9])
    wanted = whole.user_vectors(some)[:, :, :8]
    torch.testing.assert_close(small.user_vectors(some), wanted, rtol=1e-4, atol=1e-5)
    shared = made(kind, nested=False)
    assert not shared.config.nested and shared.user_vectors(some).shape == (3, 3, 12)


def test_attention_and_routing_are_those_of_the_paper():
    """One block, one history, written as the paper has it."""
    history = torch.randn(1, 4, 12, generator=torch.Generator().manual_seed(1))
    back = torch.arange(3, -1, -1)[None, None]
    attention = made("self_attention", nested=False, distances=False).encoder
    hidden, level = attention.hidden.blocks[0], attention.level.blocks[0]
    weights = (torch.tanh(history[0] @ hidden.weight.T + hidden.bias) @ level.weight.T).softmax(0)
    torch.testing.assert_close(attention(history, back)[0, 0], weights.T @ history[0])
    routing = made("dynamic_routing", nested=False, iterations=2).encoder
    told = torch.stack([each(history[0]) for each in routing.maps])  # [K, L, D]

    def capsules(shares):
        sums = torch.einsum("kl,kld->kd", shares, told)
        square = sums.square().sum(1, keepdim=True)
        return square / (1 + square) * sums / square.sqrt()

    first = capsules(torch.full((3, 4), 1 / 3))
    second = capsules(torch.einsum("kd,kld->kl", first, told).softmax(0))
    torch.testing.assert_close(routing(history, back)[0, 0], second, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
def test_the_interest_that_scores_the_target_best_is_trained_at_every_prefix(normalize):
    model = made("self_attention", normalize=normalize)
    batch = Batch(histories([1, 2, 3], [4, 5]), np.array([2, 3, 4, 5, 6]))
    targets = torch.from_numpy(batch.targets)
    users, items = model.encode(batch.histories), model.item_vectors()
    whole = truncate(users, 12, normalize=normalize)
    scores = torch.einsum("tkd,td->tk", whole, truncate(items[targets], 12, normalize=normalize))
    best = scores.argmax(1)
    assert len(set(best.tolist())) > 1
    own = users[torch.arange(5), best]
    for negatives in (None, Negatives(torch.arange(30), None)):
        losses = model.loss(batch, negatives).per_granularity
        for g, size in enumerate(SIZES):
            left, right = (truncate(each, size, normalize=normalize) for each in (own, items))
            logits = model.scales()[g] * left @ right.T
            expected = torch.nn.functional.cross_entropy(logits, targets)
            torch.testing.assert_close(losses[g], expected)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"time": "history"}, "comirec reads no time"),
        ({"repeat_bias": True}, "models with one vector a user"),
        ({"encoder": {"nested": False, "nested_from": 8}}, "nested_from has no effect"),
        ({"encoder": {"iterations": 5}}, "iterations: of dynamic_routing alone"),
        (
            {"encoder": {"kind": "dynamic_routing", "distances": False, "hidden_ratio": 4}},
            "hidden_ratio and distances: of self_attention alone",
        ),
        ({"encoder": {"nested": False, "hidden_ratio": 0.0001}}, "no hidden unit"),
    ],
)
def test_what_it_cannot_do_is_refused(changed, told):
    with pytest.raises(ConfigError, match=told):
        parse(ComiRecConfig, {"name": "comirec", **changed}, "a test")


def two_tastes(folder):
    """120 users of two tastes each, out of eight: a walk along the one, a walk along the other, and
    next comes an item of either. No single direction is near both tastes and far from the rest.
    """
    rng = np.random.default_rng(0)
    rows = []
    for user in range(120):
        tastes = rng.choice(8, 2, replace=False)
        order = rng.permutation(np.tile(tastes, 6))
        own = {taste: rng.permutation(10) for taste in tastes}
        for step, taste in enumerate(order):
            place = int((order[:step] == taste).sum())
            rows.append((user, taste * 10 + own[taste][place], step))
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return write_dataset(folder, frame, name="two tastes")


def test_two_interests_are_worth_more_than_one_where_users_have_two(tmp_path):
    data, found = two_tastes(tmp_path / "data"), {}
    for interests in (1, 2):
        config = RunConfig.model_validate(
            {
                "data": str(data.folder),
                "threads": 1,
                "logs": [],
                "model": {
                    "name": "comirec",
                    "num_interests": interests,
                    "granularities": {"sizes": [2, 4], "weights": None},
                    "history_dropout": 0.0,
                },
                "loss": {"name": "softmax", "distillation": 0.0},
                "batching": {"batch_tokens": 256},
                "trainer": {"epochs": 40, "optimizer": {"learning_rate": 0.03}},
            }
        )
        run = train(config, out=tmp_path / f"{interests}")
        table = recsys.evaluate(run, with_baselines=False, ks=[10])
        found[interests] = [table.value("ndcg", 10, size) for size in (2, 4)]
    assert found[2][0] > 1.1 * found[1][0]


def test_histories_are_what_users_are_made_of():
    model = made("self_attention")
    rows = histories([1, 2, 3], [4, 5])
    renamed = Histories(rows.users + 1000, rows.items, rows.offsets)
    assert torch.equal(model.user_vectors(rows), model.user_vectors(renamed))
