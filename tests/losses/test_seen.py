"""Seen items as negatives, against loops over tokens, and in the loss they are for."""

import numpy as np
import pytest
import torch

from recsys.data.batching import Batch
from recsys.data.histories import Histories
from recsys.granularity import Granularities
from recsys.losses.seen import comes_again, seen_logsumexp
from recsys.losses.softmax import Negatives, nested_softmax
from recsys.models.sasrec import SASRec, SASRecConfig
from recsys.recipes.run import RunConfig
from recsys.towers.jagged import layout_of
from recsys.towers.transformer import TransformerConfig

LISTS = ([1, 2, 3, 1], [4], [5, 6, 5])
TARGETS = torch.tensor([2, 3, 1, 9, 8, 6, 5, 7])


def histories():
    lengths = [len(items) for items in LISTS]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Histories(np.arange(3), np.concatenate(LISTS).astype(np.int32), offsets)


def naive(users, table, scales, granularities):
    """`[G, T]`, score by score."""
    found, token = torch.zeros(len(granularities), len(users), dtype=users.dtype), 0
    for items in LISTS:
        for end in range(1, len(items) + 1):
            had = sorted({item for item in items[:end] if item != TARGETS[token]})
            for g, size in enumerate(granularities.sizes):
                user, seen = users[token, :size], table[had, :size]
                if granularities.normalize:
                    user = user / user.norm()
                    seen = seen / seen.norm(dim=1, keepdim=True)
                found[g, token] = (scales[g] * seen @ user).logsumexp(0)
            token += 1
    return found


@pytest.mark.parametrize("normalize", [True, False])
def test_it_is_the_sum_over_what_each_user_has_had_so_far(normalize):
    torch.manual_seed(0)
    sizes = Granularities(sizes=(2, 5), normalize=normalize)
    users, table = torch.randn(8, 5).double(), torch.randn(10, 5).double()
    scales, some = torch.tensor([2.0, 3.0]).double(), histories()
    items = torch.from_numpy(some.items).long()
    found = seen_logsumexp(users, table[items], items, TARGETS, scales, sizes, layout_of(some))
    torch.testing.assert_close(found, naive(users, table, scales, sizes))


def test_where_the_target_is_all_that_was_had_nothing_is_added_and_gradients_are_numbers():
    once = Histories(np.array([0]), np.array([3], np.int32), np.array([0, 1]))
    users = torch.randn(1, 4, requires_grad=True)
    item = torch.tensor([3])
    sizes = Granularities(sizes=(2, 4), normalize=True)
    found = seen_logsumexp(
        users, torch.randn(1, 4), item, item, torch.ones(2), sizes, layout_of(once)
    )
    assert (found < -9e3).all()
    torch.logaddexp(found, users.sum()).sum().backward()
    torch.testing.assert_close(users.grad, torch.full((1, 4), 2.0))


def test_as_extra_they_are_candidates_like_all_others():
    """One token, one seen item: the same as a full softmax over negatives, seen and target."""
    torch.manual_seed(1)
    sizes = Granularities(sizes=(2, 4))
    user, table, scales = torch.randn(1, 4), torch.randn(6, 4), torch.ones(2)
    once = Histories(np.array([0]), np.array([5], np.int32), np.array([0, 1]))
    item, target, negatives = torch.tensor([5]), torch.tensor([2]), torch.tensor([0, 3])
    extra = seen_logsumexp(user, table[item], item, target, scales, sizes, layout_of(once))
    given = nested_softmax(
        user, table[[0, 3, 2]], target, scales, sizes, negatives=Negatives(negatives, None),
        extra=extra,
    )  # fmt: skip
    expected = [
        torch.nn.functional.cross_entropy(
            user[:, :size] @ table[[2, 0, 3, 5], :size].T, torch.tensor([0])
        )
        for size in (2, 4)
    ]
    torch.testing.assert_close(given.per_granularity, torch.stack(expected))


def test_a_model_told_so_scores_what_was_had_below_what_was_not():
    """Users walk a circle and never come back; no sampled negative is ever on their way."""

    def seen_above(seen_negatives):
        torch.manual_seed(0)
        config = SASRecConfig(
            granularities=Granularities(sizes=(8, 16)), history_length=5,
            encoder=TransformerConfig(dropout=0.0), seen_negatives=seen_negatives,
        )  # fmt: skip
        model = SASRec(config, num_items=30).train()
        walks = [list(range(start, start + 6)) for start in range(10)]
        items = np.concatenate([walk[:-1] for walk in walks]).astype(np.int32)
        some = Histories(np.arange(10), items, np.arange(11) * 5)
        batch = Batch(some, np.concatenate([walk[1:] for walk in walks]))
        negatives = Negatives(torch.arange(20, 30), None)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            model.loss(batch, negatives).total.backward()
            optimizer.step()
        model.eval()
        scores = model.user_vectors(some) @ model.item_vectors().T
        had = torch.from_numpy(items).long().view(10, 5)
        best = scores.gather(1, had).amax(1)
        return int((best > scores.gather(1, torch.arange(5, 15)[:, None]).squeeze(1)).sum())

    assert seen_above(True) == 0 < seen_above(False)


def test_gbce_does_not_take_them():
    with pytest.raises(ValueError, match="seen_negatives needs"):
        RunConfig.model_validate(
            {"data": "x", "model": {"seen_negatives": True}, "loss": {"name": "gbce"}}
        )


def test_what_was_had_several_times_is_one_candidate():
    items, targets = torch.tensor([3, 5, 3, 3]), torch.tensor([5, 3, 5, 9])
    some = Histories(np.array([0]), items.numpy().astype(np.int32), np.array([0, 4]))
    layout, sizes = layout_of(some), Granularities(sizes=(4,))
    users, read = torch.randn(4, 4), torch.randn(10, 4)[items]
    found = seen_logsumexp(users, read, items, targets, torch.ones(1), sizes, layout)
    had = [[0], [1], [2], [1, 2]]  # tokens; what is the target itself is no negative
    for token, places in enumerate(had):
        expected = (read[places] @ users[token]).logsumexp(0)
        torch.testing.assert_close(found[0, token], expected)
    assert comes_again(items, targets, layout).tolist() == [False, True, True, False]


def test_a_bias_is_added_to_what_was_had_and_to_a_target_that_was():
    torch.manual_seed(0)
    sizes = Granularities(sizes=(2, 4))
    bias, table = torch.tensor([-1.0, 2.0]), torch.randn(6, 4)
    some = Histories(np.array([0]), np.array([1, 4], np.int32), np.array([0, 2]))
    items, targets = torch.tensor([1, 4]), torch.tensor([2, 1])
    layout, users = layout_of(some), torch.randn(2, 4)
    extra = seen_logsumexp(users, table[items], items, targets, torch.ones(2), sizes, layout, bias)
    own = bias[:, None] * comes_again(items, targets, layout)
    given = nested_softmax(
        users, table[[0, 2, 1]], targets, torch.ones(2), sizes, own_bias=own,
        negatives=Negatives(torch.tensor([0]), None), extra=extra,
    )  # fmt: skip
    for g, size in enumerate(sizes.sizes):
        logits = users[:, :size] @ table[:, :size].T
        first = logits[0, [2, 0, 1]] + torch.tensor([0.0, 0.0, bias[g]])
        second = logits[1, [1, 0, 4]] + torch.tensor([bias[g], 0.0, bias[g]])
        expected = -torch.stack([first.log_softmax(0)[0], second.log_softmax(0)[0]]).mean()
        torch.testing.assert_close(given.per_granularity[g], expected)


@pytest.mark.parametrize("back", [True, False], ids=["they come back", "they never do"])
def test_the_bias_learns_whether_users_come_back_to_what_they_had(back):
    torch.manual_seed(0)
    model = SASRec(
        SASRecConfig(
            granularities=Granularities(sizes=(8, 16)), history_length=5,
            encoder=TransformerConfig(dropout=0.0), repeat_bias=True,
        ),
        num_items=40,
    ).train()  # fmt: skip
    walks = torch.stack([torch.randperm(40)[:6] for _ in range(60)])
    if back:
        walks[:, 3:] = walks[:, :3]
    items = walks[:, :-1].reshape(-1).numpy().astype(np.int32)
    some = Histories(np.arange(60), items, np.arange(61) * 5)
    batch = Batch(some, walks[:, 1:].reshape(-1).numpy())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(batch, Negatives(torch.arange(40), None)).total.backward()
        optimizer.step()
    found = model.score_of_repeats((8, 12, 16))
    assert (found > 0).all() if back else (found < 0).all()
    assert min(found[0], found[2]) <= found[1] <= max(found[0], found[2])


def test_a_bias_is_not_learned_from_losses_that_do_not_see_it():
    for name in ("softmax", "gbce", "bpr"):
        with pytest.raises(ValueError, match=r"repeat_bias needs loss\.name sampled_softmax"):
            RunConfig.model_validate(
                {"data": "x", "model": {"repeat_bias": True}, "loss": {"name": name}}
            )
