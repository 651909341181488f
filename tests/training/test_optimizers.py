"""AdamW on the rows a step has touched, against torch's own on a table of those rows alone."""

import pytest
import torch
from torch.nn.functional import embedding

from recsys.training.optimizers import RowAdamW, clip_gradients

OPTIONS = {"lr": 0.1, "betas": (0.9, 0.98), "weight_decay": 0.05, "fused": True}


def train(table, other, batches, *, sparse):
    weight = torch.nn.Parameter(table.clone())
    network = torch.nn.Parameter(other.clone())
    optimizer = RowAdamW([weight, network], **OPTIONS)
    for rows in batches:
        loss = (embedding(torch.tensor(rows), weight, sparse=sparse) @ network).square().sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return weight.detach(), network.detach(), optimizer.state[weight]


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 4, generator=generator), torch.randn(4, 3, generator=generator)


def test_rows_that_are_in_every_batch_move_as_with_a_dense_gradient(tensors):
    batches = [[1, 4, 4], [4, 1], [1, 1, 4]]
    dense, network, _ = train(*tensors, batches, sparse=False)
    found, found_network, _ = train(*tensors, batches, sparse=True)
    torch.testing.assert_close(found[[1, 4]], dense[[1, 4]])
    torch.testing.assert_close(found_network, network)


def test_rows_that_are_in_no_batch_keep_their_weights_and_moments(tensors):
    found, _, state = train(*tensors, [[1, 4], [2]], sparse=True)
    untouched = [0, 3, 5]
    assert torch.equal(found[untouched], tensors[0][untouched])
    assert not state["exp_avg"][untouched].any() and not state["exp_avg_sq"][untouched].any()
    assert not torch.equal(found[2], tensors[0][2])


def test_moments_of_a_row_stand_still_while_it_is_away(tensors):
    _, _, before = train(*tensors, [[1]], sparse=True)
    _, _, after = train(*tensors, [[1], [2], [2]], sparse=True)
    assert torch.equal(after["exp_avg"][1], before["exp_avg"][1])


def test_clipping_counts_sparse_and_dense_gradients_together():
    table = torch.nn.Parameter(torch.zeros(5, 2))
    network = torch.nn.Parameter(torch.zeros(2))
    unused = torch.nn.Parameter(torch.zeros(3))
    loss = (embedding(torch.tensor([1, 1, 3]), table, sparse=True) * 2).sum() + 4 * network.sum()
    loss.backward()
    # Row 1: (4, 4), row 3: (2, 2), network: (4, 4); the squares are 32 + 8 + 32.
    assert clip_gradients([table, network, unused], 1.0) == pytest.approx(72**0.5)
    assert table.grad.to_dense()[1, 0] == pytest.approx(4 / 72**0.5)
    assert network.grad[0] == pytest.approx(4 / 72**0.5)
    small = network.grad.clone()
    assert clip_gradients([table, network], 5.0) == pytest.approx(1.0)
    assert torch.equal(network.grad, small)
