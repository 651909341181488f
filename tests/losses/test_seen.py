"""Seen items as negatives, against loops over tokens, and in the loss they are for."""

import numpy as np
import pytest
import torch

from recsys.data.batching import Batch
from recsys.data.histories import Histories
from recsys.granularity import Granularities
from recsys.layers.jagged import layout_of, to_indices
from recsys.layers.transformer import TransformerConfig
from recsys.losses.history_candidates import Had, seen_candidates
from recsys.losses.softmax import Negatives, Teaching, nested_softmax
from recsys.models.sasrec import SASRec, SASRecConfig
from recsys.runs.config import RunConfig

LISTS = ([1, 2, 3, 1], [4], [5, 6, 5])
TARGETS = torch.tensor([2, 3, 1, 9, 8, 6, 5, 7])
BEFORE = ([3, 7], [], [9, 5])
"""What the three users had before these histories."""
NEGATIVES = torch.tensor([0, 1, 3, 5, 7, 9])


def jagged(lists):
    offsets = np.concatenate([[0], np.cumsum([len(items) for items in lists])]).astype(np.int64)
    items = np.concatenate([np.array(items, np.int32) for items in lists])
    return Histories(np.arange(len(lists)), items, offsets)


def had(lists, table):
    histories = jagged(lists)
    items = to_indices(histories.items)
    return Had(items, table[items], layout_of(histories))


def naive_total(users, table, scales, granularities, *, log_q, bias, older, distillation):
    """The loss, candidate by candidate; the distilled part with the full width's shares held."""
    weights, total, token = granularities.normalized_weights, 0.0, 0
    for row, items in enumerate(LISTS):
        for end in range(1, len(items) + 1):
            target = int(TARGETS[token])
            seen = set(items[:end]) | (set(BEFORE[row]) if older else set())
            logits = {}
            for item in {target, *seen, *NEGATIVES.tolist()}:
                shift = torch.zeros(len(granularities), dtype=users.dtype)
                if item in seen:
                    shift = shift if bias is None else shift + bias
                elif item != target:
                    shift = shift - log_q[NEGATIVES.tolist().index(item)]
                scored = []
                for g, size in enumerate(granularities.sizes):
                    u, v = users[token, :size], table[item, :size]
                    if granularities.normalize:
                        u, v = u / u.norm(), v / v.norm()
                    scored.append(scales[g] * (u @ v) + shift[g])
                logits[item] = torch.stack(scored)
            order = sorted(logits)
            columns = torch.stack([logits[item] for item in order], dim=1)  # [G, candidates]
            hard = (torch.tensor(order) == target).to(users.dtype)
            soft = columns[-1].detach().softmax(0)
            for g, weight in enumerate(weights):
                share = distillation if g < len(weights) - 1 else 0.0
                wanted = (1 - share) * hard + share * soft
                total = total - weight * (wanted * columns[g].log_softmax(0)).sum()
            token += 1
    return total / len(TARGETS)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize("distillation", [0.0, 0.6])
@pytest.mark.parametrize("logq", [True, False])
def test_the_total_counts_every_candidate_once_with_any_options(
    normalize, with_bias, older, distillation, logq
):
    torch.manual_seed(0)
    sizes = Granularities(sizes=(2, 3, 5), weights=(3.0, 1.0, 2.0), normalize=normalize)
    users, table = (torch.randn(rows, 5).double().requires_grad_() for rows in (8, 10))
    scales = torch.tensor([2.0, 3.0, 1.5]).double().requires_grad_()
    bias = torch.tensor([-1.0, 0.5, 2.0]).double().requires_grad_() if with_bias else None
    log_q = torch.linspace(-2.0, -0.1, len(NEGATIVES)).double()
    own = seen_candidates(
        users, had(LISTS, table), TARGETS, scales, sizes, negatives=NEGATIVES, bias=bias,
        older=had(BEFORE, table) if older else None,
    )  # fmt: skip
    found = nested_softmax(
        users, table[torch.cat([NEGATIVES, TARGETS])], TARGETS, scales, sizes, own=own,
        negatives=Negatives(NEGATIVES, log_q if logq else None), teaching=Teaching(distillation),
    ).total  # fmt: skip
    expected = naive_total(
        users, table, scales, sizes, log_q=log_q if logq else torch.zeros(len(NEGATIVES)).double(),
        bias=bias, older=older, distillation=distillation,
    )  # fmt: skip
    torch.testing.assert_close(found, expected)
    leaves = [users, table, scales] + ([] if bias is None else [bias])
    wanted = torch.autograd.grad(expected, leaves)
    for given, want in zip(torch.autograd.grad(found, leaves), wanted, strict=True):
        torch.testing.assert_close(given, want)


def test_where_the_target_is_all_that_was_had_nothing_is_added_and_gradients_are_numbers():
    users, table = torch.randn(1, 4, requires_grad=True), torch.randn(5, 4)
    sizes = Granularities(sizes=(2, 4), normalize=True)
    found = seen_candidates(
        users, had([[3]], table), torch.tensor([3]), torch.ones(2), sizes,
        negatives=torch.tensor([1, 3]),
    )  # fmt: skip
    assert (found.logsumexp < -9e3).all()
    assert not found.places.numel()  # the target's own copy is skipped as ever
    torch.logaddexp(found.logsumexp, users.sum()).sum().backward()
    torch.testing.assert_close(users.grad, torch.full((1, 4), 2.0))


def small_model(**settings):
    config = SASRecConfig(
        granularities=Granularities(sizes=(4, 8)), history_length=5, history_dropout=0.0,
        encoder=TransformerConfig(dropout=0.0), **settings,
    )  # fmt: skip
    torch.manual_seed(0)
    return SASRec(config, num_items=10)


@pytest.mark.parametrize("setting", ["repeat_bias", "seen_negatives"])
def test_with_all_items_as_negatives_and_no_bias_it_is_the_full_softmax(setting):
    batch = Batch(jagged([[1, 2, 3, 1], [4, 5]]), np.array([2, 3, 1, 6, 5, 7]))
    found = small_model(**{setting: True}).loss(batch, Negatives(torch.arange(10), None))
    full = small_model().loss(batch, None)
    torch.testing.assert_close(found.per_granularity, full.per_granularity)
    torch.testing.assert_close(found.total, full.total)


def test_what_was_had_up_to_each_token_is_taken_out_of_the_sampled_negatives():
    own = seen_candidates(
        torch.randn(5, 8), had([[1, 2, 3], [4, 5]], torch.randn(10, 8)),
        torch.tensor([2, 3, 6, 5, 7]), torch.ones(2), Granularities(sizes=(4, 8)),
        negatives=torch.arange(10), older=had([[8], []], torch.randn(10, 8)),
    )  # fmt: skip
    held = [sorted({*row} - {-1}) for row in own.places.tolist()]
    assert held == [[1, 8], [1, 2, 8], [1, 2, 3, 8], [4], [4, 5]]


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
