"""BPR against the paper's formula, pair by pair."""

import pytest
import torch
from torch.nn.functional import cosine_similarity, logsigmoid

from recsys.granularity import Granularities
from recsys.losses.bpr import nested_bpr
from recsys.losses.softmax import Negatives

SIZES = (2, 3, 6)


@pytest.mark.parametrize("logq", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_it_is_the_papers_loss_pair_by_pair(normalize, logq):
    torch.manual_seed(0)
    granularities = Granularities(sizes=SIZES, normalize=normalize, weights=(1.0, 2.0, 3.0))
    users = torch.randn(4, 6, requires_grad=True)
    items = torch.randn(3 + 4, 6, requires_grad=True)
    targets, drawn = torch.tensor([7, 2, 9, 5]), torch.tensor([1, 5, 8])
    log_q = torch.tensor([0.1, 0.5, 0.9]).log() if logq else None
    scales = torch.tensor([1.0, 2.0, 0.5], requires_grad=True)
    found = nested_bpr(
        users, items, targets, scales, granularities, negatives=Negatives(drawn, log_q)
    )
    weight = torch.tensor([10.0, 2.0, 10 / 9]) if logq else torch.ones(3)
    plain = []
    for g, size in enumerate(SIZES):

        def score(t, row, size=size, scale=scales[g]):
            u, v = users[t, :size], items[row, :size]
            return scale * (cosine_similarity(u, v, dim=0) if normalize else u @ v)

        losses = []
        for t in range(4):
            others = [n for n in range(3) if drawn[n] != targets[t]]
            terms = [-logsigmoid(score(t, 3 + t) - score(t, n)) * weight[n] for n in others]
            losses.append(sum(terms) / sum(weight[n] for n in others))
        plain.append(torch.stack(losses).mean())
    expected = torch.stack(plain)
    torch.testing.assert_close(found.per_granularity, expected.detach())
    mean = expected @ torch.tensor([1.0, 2.0, 3.0]) / 6
    torch.testing.assert_close(found.total, mean)
    inputs = users, items, scales
    slopes, wanted = (torch.autograd.grad(total, inputs) for total in (found.total, mean))
    torch.testing.assert_close(slopes, wanted)


def test_a_target_whose_only_negative_is_itself_loses_nothing():
    granularities = Granularities(sizes=(2,))
    users, items = torch.randn(1, 2, requires_grad=True), torch.randn(2, 2)
    negatives = Negatives(torch.tensor([4]), None)
    found = nested_bpr(
        users, items, torch.tensor([4]), torch.ones(1), granularities, negatives=negatives
    )
    found.total.backward()
    assert found.total == 0 and not users.grad.any()
