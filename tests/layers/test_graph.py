"""Neighbour sums and singular directions against a dense matrix."""

import numpy as np
import torch

from recsys.data.histories import Histories
from recsys.layers.graph import BipartiteGraph, begin_spectral, leading_directions

USERS, ITEMS = 5, 4
OWNED = [[0, 1], [1, 1, 2], [], [3], [0, 1, 2, 3]]


def graph_and_matrix():
    lengths = [len(items) for items in OWNED]
    rows = Histories(
        np.arange(USERS), np.concatenate(OWNED).astype(np.int32), np.cumsum([0, *lengths])
    )
    dense = np.zeros((USERS, ITEMS))
    for user, items in enumerate(OWNED):
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


def test_spectral_rows_score_as_the_truncated_matrix_and_leave_other_coordinates():
    graph, matrix = graph_and_matrix()
    users, items = torch.full((USERS, 6), 7.0), torch.full((ITEMS, 6), 7.0)
    torch.manual_seed(0)
    begin_spectral(graph, users, items, 0.5)
    assert (users[:, 4:] == 7).all() and (items[:, 4:] == 7).all()
    found = users[:, :4] @ items[:, :4].T
    torch.testing.assert_close(found / found.abs().max(), matrix / matrix.abs().max())
