"""The pretend device itself: it computes as the CPU does, and refuses what a real one would."""

import pytest
import torch
from torch import nn

from tests.pretend.device import install, waits

PRETEND = install()


def test_a_network_has_the_loss_and_gradients_of_the_cpu():
    torch.manual_seed(0)
    x, network = torch.randn(5, 4), nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.GELU())
    losses, gradients = [], []
    for device in (torch.device("cpu"), PRETEND):
        moved = network.to(device)
        moved.zero_grad()
        loss = moved(x.to(device)).square().sum()
        loss.backward()
        losses.append(loss.item())
        gradients.append([p.grad.cpu().clone() for p in moved.parameters()])
    assert losses[0] == losses[1]
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_a_forgotten_cpu_tensor_is_refused_by_name():
    table = torch.randn(5, 4).to(PRETEND)
    with pytest.raises(RuntimeError, match=r"embedding.*expected all tensors to be on pretend:0"):
        nn.functional.embedding(torch.tensor([1, 2]), table)
    with pytest.raises(RuntimeError, match="numpy"):
        table.numpy()


def test_writing_to_a_view_writes_to_the_whole():
    whole = torch.zeros(3, 2, device=PRETEND)
    whole[1] += torch.tensor([1.0, 2.0], device=PRETEND)
    whole[:, 0].fill_(5.0)
    assert whole.cpu().tolist() == [[5, 0], [5, 2], [5, 0]]


def test_what_makes_the_host_wait_is_counted():
    x = torch.arange(4, device=PRETEND)
    with waits() as nothing:
        (x + 1).cumsum(0)[x]
    with waits() as found:
        x.sum().item()
        x.nonzero()
        x[x > 1]
        x.cpu()
    assert nothing == []
    assert found == ["_local_scalar_dense", "nonzero", "index", "_to_copy"]


def test_sparse_gradients_stay_on_the_device():
    weight = torch.randn(6, 2).to(PRETEND).requires_grad_()
    rows = torch.tensor([1, 4, 4], device=PRETEND)
    nn.functional.embedding(rows, weight, sparse=True).sum().backward()
    gradient = weight.grad.coalesce()
    assert gradient.device == PRETEND and gradient.is_sparse
    assert gradient.indices().cpu().tolist() == [[1, 4]]
    assert gradient.values().cpu().tolist() == [[1, 1], [2, 2]]
