"""Neighbour sums and singular directions against a dense matrix."""

import numpy as np
import pytest
import torch

from recsys.data.histories import Histories
from recsys.layers.graph import BipartiteGraph, begin_spectral, leading_directions

USERS, ITEMS = 5, 4
OWNED = [[0, 1], [1, 1, 2], [], [3], [0, 1, 2, 3]]


def graph_and_matrix(owned=OWNED):
    lengths = [len(items) for items in owned]
    rows = Histories(
        np.arange(USERS), np.concatenate(owned).astype(np.int32), np.cumsum([0, *lengths])
    )
    dense = np.zeros((USERS, ITEMS))
    for user, items in enumerate(owned):
        dense[user, items] = 1
    degrees = dense.sum(1)[:, None] * dense.sum(0)
    matrix = torch.from_numpy(dense / np.sqrt(np.maximum(degrees, 1))).float()
    return BipartiteGraph(rows, USERS, ITEMS), matrix


def test_sums_and_their_gradients_are_those_of_the_matrix():
    graph, matrix = graph_and_matrix()
    assert graph.num_edges == 9 and not graph.state_dict()
    users, items = torch.randn(USERS, 3), torch.randn(ITEMS, 3)
    for x, found, expected in (
        (items, graph.of_users, lambda x: matrix @ x),
        (users, graph.of_items, lambda x: matrix.T @ x),
    ):
        x.requires_grad_()
        torch.testing.assert_close(found(x), expected(x))
        pull = torch.randn_like(expected(x))
        ours, theirs = (torch.autograd.grad(f(x), x, pull) for f in (found, expected))
        torch.testing.assert_close(ours, theirs)


def test_leading_directions_are_those_of_the_matrix():
    graph, matrix = graph_and_matrix()
    torch.manual_seed(0)
    values, users, items = leading_directions(graph, 3)
    expected = torch.linalg.svd(matrix)
    torch.testing.assert_close(values, expected.S[:3])
    best = (expected.U[:, :3] * expected.S[:3]) @ expected.Vh[:3]
    torch.testing.assert_close((users * values) @ items.T, best, atol=1e-5, rtol=1e-4)


ALIKE = [[0, 1], [0, 1], [], [2, 3], [0, 1, 2, 3]]
"""Items 0 and 1 are had by the same users, as are 2 and 3: the rank is 2."""


@pytest.mark.parametrize(("owned", "rank"), [(OWNED, 4), (ALIKE, 2)])
def test_spectral_rows_score_as_the_truncated_matrix_and_other_coordinates_can_learn(owned, rank):
    graph, matrix = graph_and_matrix(owned)
    torch.manual_seed(0)
    users, items = 0.5 * torch.randn(USERS, 6), 0.5 * torch.randn(ITEMS, 6)
    drawn = users.clone(), items.clone()
    told = begin_spectral(graph, users, items, 0.5)
    assert told is not None and f"{rank} of 6 coordinates begin as directions" in told
    connected = matrix.any(1)
    found = users[connected, :rank] @ items[:, :rank].T
    expected = matrix[connected]
    torch.testing.assert_close(found / found.abs().max(), expected / expected.abs().max())
    values = torch.linalg.svdvals(matrix)
    shares = (values[:rank] / values[0]).sqrt()
    for rows, before in zip((users, items), drawn, strict=True):  # as small as the last direction
        torch.testing.assert_close(rows[:, rank:], before[:, rank:] * shares[-1])
    assert (owned[2] == []) and not connected[2]
    torch.testing.assert_close(users[2, :rank], drawn[0][2, :rank] * shares)
    assert begin_spectral(graph, users[:, :rank], items[:, :rank], 0.5) is None


def test_a_graph_has_no_more_directions_than_its_rank():
    graph, matrix = graph_and_matrix(ALIKE)
    values, users, items = leading_directions(graph, 4)
    torch.testing.assert_close(values, torch.linalg.svdvals(matrix)[:2])
    for side in (users, items):
        torch.testing.assert_close(side.T @ side, torch.eye(2))


def test_a_graph_without_edges_leaves_rows_as_they_are():
    graph, _ = graph_and_matrix([[], [], [], [], []])
    users, items = torch.ones(USERS, 6), torch.ones(ITEMS, 6)
    assert "0 of 6" in str(begin_spectral(graph, users, items, 0.5))
    assert (users == 1).all() and (items == 1).all()
