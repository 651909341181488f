"""Users made of their items are not asked in training for what they are made of."""

import numpy as np
import pytest
import torch

from recsys.data.batching import Batch
from recsys.data.histories import Histories
from recsys.losses.softmax import Negatives, NestedLossOutput
from recsys.models.pairs.feature_towers import FeatureTowers, FeatureTowersConfig
from recsys.models.pairs.item_means import Asked, hidden_items, mean_of_shown
from recsys.models.pairs.mf import MF, MFConfig

SIZES = {"sizes": [2, 4]}
CASES = {
    "towers": (FeatureTowers, FeatureTowersConfig, {}),
    "mf of histories": (MF, MFConfig, {"users": "history"}),
    "simplex": (MF, MFConfig, {"users": "both"}),
}
ITEMS = np.array([3, 5, 3, 8, 0, 7, 7, 1, 5], np.int32)
"""Of three users; the first has had 3 twice, the second has 7 alone, and twice."""
OFFSETS = np.array([0, 5, 7, 9])


class Spy:
    """An objective that keeps what it was given."""

    def __call__(self, users, items, targets, scales, granularities, *, negatives, lengths):
        self.users, self.items, self.targets = users, items, targets
        self.negatives, self.owners = negatives, torch.arange(3).repeat_interleave(lengths)
        return NestedLossOutput(users.sum() + items.sum(), torch.zeros(2))


def told(case, share, negatives, seed=0):
    kind, config, more = CASES[case]
    torch.manual_seed(seed)
    found = config.model_validate({"granularities": SIZES, "history_dropout": share, **more})
    spy = Spy()
    model = kind(found, 10, num_users=3, objective=spy)
    batch = Batch(Histories(np.arange(3), ITEMS, OFFSETS), ITEMS.astype(np.int64))
    model.loss(batch, negatives)
    return model, spy


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("drawn", [None, [0, 2, 3, 7]])
def test_no_target_moves_the_vector_of_its_user(case, share, drawn):
    negatives = None if drawn is None else Negatives(torch.tensor(drawn), None)
    for seed in range(5):
        model, spy = told(case, share, negatives, seed)
        assert len(spy.targets)
        assert sorted(set(spy.owners.tolist())) == [0, 1, 2]  # everybody is asked for something
        for owner, target in zip(spy.owners.tolist(), spy.targets.tolist(), strict=True):
            (moved,) = torch.autograd.grad(
                spy.users[owner].sum(), model.table.weight, retain_graph=True, allow_unused=True
            )
            assert moved is None or (moved[target] == 0).all()
        for owner in range(3):  # but what he is not asked for does
            had = set(ITEMS[OFFSETS[owner] : OFFSETS[owner + 1]].tolist())
            shown = had - set(spy.targets[spy.owners == owner].tolist())
            (moved,) = torch.autograd.grad(
                spy.users[owner].sum(), model.table.weight, retain_graph=True, allow_unused=True
            )
            found = set() if moved is None else set(moved.abs().sum(1).nonzero()[:, 0].tolist())
            assert found == shown


def test_what_is_asked_for_is_a_pair_of_the_batch_and_the_rest_is_withheld():
    _, spy = told("towers", 0.4, Negatives(torch.tensor([0, 2, 3, 7]), None))
    rows, items = spy.negatives.withheld
    every = [*zip(spy.owners.tolist(), spy.targets.tolist(), strict=True)]
    every += [*zip(rows.tolist(), items.tolist(), strict=True)]
    owners = np.repeat(np.arange(3), np.diff(OFFSETS))
    assert sorted(every) == sorted(zip(owners.tolist(), ITEMS.tolist(), strict=True))
    assert len(spy.items) == 4 + len(spy.targets)


def test_the_share_that_is_hidden_is_the_one_asked_for_and_repeats_go_together():
    torch.manual_seed(0)
    lengths = torch.full((200,), 50)
    targets = torch.randint(30, (200 * 50,))
    hidden = hidden_items(targets, lengths, 0.3)
    assert 0.27 < hidden.float().mean() < 0.33
    pairs = torch.arange(200).repeat_interleave(50) * 30 + targets
    for pair in pairs.unique()[:500]:
        assert len(hidden[pairs == pair].unique()) == 1
    one = hidden_items(targets, lengths, 0.0).view(200, 50)
    assert one.any(1).all()
    assert all(
        len(row[own].unique()) == 1 for row, own in zip(targets.view(200, 50), one, strict=True)
    )


@pytest.mark.parametrize("unit", [False, True])
def test_means_are_those_of_a_loop(unit):
    torch.manual_seed(0)
    had, lengths = torch.randn(9, 4), torch.tensor([5, 0, 4])
    shown = torch.tensor([1, 0, 1, 1, 0, 0, 0, 0, 0], dtype=torch.bool)
    means, counts = mean_of_shown(had, lengths, shown, unit=unit)
    vectors = had / had.norm(dim=1, keepdim=True) if unit else had
    torch.testing.assert_close(means[0], vectors[[0, 2, 3]].mean(0))
    assert (means[1:] == 0).all() and counts[:, 0].tolist() == [3, 0, 0]


def test_some_pairs_of_a_full_softmax_keep_the_catalogue():
    chosen = torch.tensor([True, False, False, True])
    whole = Asked(torch.randn(6, 2), torch.tensor([4, 1, 0, 4]), torch.tensor([2, 1, 1]), None)
    found = whole.only(chosen)
    assert found.items is whole.items and found.negatives is None
    assert found.targets.tolist() == [4, 4] and found.lengths.tolist() == [1, 0, 1]
