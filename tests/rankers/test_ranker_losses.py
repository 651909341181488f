"""Losses of rankers against plain loops."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from recsys.rankers.layers.prefix import Hidden, PrefixLinear, flat
from recsys.rankers.neural.batches import whole_requests
from recsys.rankers.neural.losses import LOSSES, Labelled, distilled, pairs

STARTS = np.array([0, 3, 4, 8])
LABELS = torch.tensor([1.0, 0, 0, 1, 0, 1, 1, 0])
WEIGHTS = torch.tensor([2.0, 1, 1, 3, 1, 1, 0.5, 1])
SCORES = torch.tensor([0.3, -1.0, 2.0, 0.1, 0.4, 1.5, -0.2, 0.9])
GIVEN = Labelled(LABELS, WEIGHTS, torch.from_numpy(STARTS))


def requests():
    return [list(range(lo, hi)) for lo, hi in pairwise(STARTS)]


def by_loops(kind):
    """Sum and weight of each loss."""
    scores, labels, weights = SCORES.tolist(), LABELS.tolist(), WEIGHTS.tolist()
    total = count = 0.0
    for rows in requests():
        order = sorted(rows, key=lambda row: -scores[row])
        gain = {row: 1 / math.log2(place + 2) for place, row in enumerate(order)}
        targets = [row for row in rows if labels[row]]
        others = [row for row in rows if not labels[row]]
        ideal = sum(1 / math.log2(place + 2) for place in range(len(targets)))
        if kind == "listwise":
            mass = sum(math.exp(scores[row]) for row in rows)
            total += sum(weights[t] * (math.log(mass) - scores[t]) for t in targets)
            count += sum(weights[t] for t in targets)
            continue
        for t in targets:
            for other in others:
                loss = weights[t] * math.log1p(math.exp(scores[other] - scores[t]))
                change = abs(gain[t] - gain[other]) / ideal if kind == "lambdarank" else 1
                total += loss * change
                count += weights[t] if kind == "pairwise" else 0
            count += weights[t] if kind == "lambdarank" else 0
    return total, count


@pytest.mark.parametrize("kind", ["pairwise", "listwise", "lambdarank"])
def test_losses_within_requests_are_those_of_loops(kind):
    found = LOSSES[kind](SCORES, GIVEN)
    np.testing.assert_allclose([float(each) for each in found], by_loops(kind), rtol=1e-5)


def test_pairs_are_all_pairs_within_requests():
    found = {(int(a), int(b)) for a, b in zip(*pairs(GIVEN), strict=True)}
    wanted = {
        (t, other)
        for rows in requests()
        for t in rows
        for other in rows
        if LABELS[t] and not LABELS[other]
    }
    assert found == wanted and len(pairs(GIVEN)[0]) == len(wanted)


@pytest.mark.parametrize("kind", list(LOSSES))
def test_a_width_learns_the_order_of_the_wider_one(kind):
    own = torch.zeros(8, requires_grad=True)
    wider = SCORES.clone().requires_grad_()
    optimizer = torch.optim.Adam([own], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        total, weight = distilled(kind, own, wider, GIVEN)
        (total / weight).backward()
        optimizer.step()
    assert wider.grad is None
    for t, other in zip(*pairs(GIVEN), strict=True):
        wanted = float(SCORES[t] - SCORES[other])
        np.testing.assert_allclose(float((own[t] - own[other]).detach()), wanted, atol=0.05)


def test_batches_hold_whole_requests_each_once():
    offsets = np.array([0, 3, 4, 8, 8, 10])
    seen = []
    for picked in whole_requests(offsets, 4, np.random.default_rng(0)):
        assert picked.starts[-1] == len(picked.rows)
        for lo, hi in pairwise(picked.starts):
            rows = picked.rows[lo:hi].tolist()
            if rows:
                at = offsets.tolist().index(rows[0])
                assert rows == list(range(offsets[at], offsets[at] + len(rows)))
                seen += rows
    assert sorted(seen) == list(range(10))


def test_a_prefix_of_layers_is_the_corner_of_the_whole():
    torch.manual_seed(0)
    hidden = Hidden(6, (8, 4), dropout=0.0, norm=True).eval()
    x = torch.randn(5, 6)
    corner = Hidden(3, (4, 2), dropout=0.0, norm=True).eval()
    with torch.no_grad():
        for small, large in zip(corner.parameters(), hidden.parameters(), strict=True):
            small.copy_(large[tuple(slice(n) for n in small.shape)])
    torch.testing.assert_close(hidden(x[:, :3], 0.5), corner(x[:, :3], 1.0))
    linear = PrefixLinear(6, 8)
    torch.testing.assert_close(linear(x), torch.nn.functional.linear(x, linear.weight, linear.bias))
    numbers, vectors = torch.randn(5, 2), torch.randn(5, 3, 4)
    short = flat(numbers, vectors[:, :, :2])
    torch.testing.assert_close(short, flat(numbers, vectors)[:, : short.shape[1]])
