"""Sums over the neighbours of a bipartite graph of users and items.

An interaction is an edge; its weight is `1 / sqrt(degree of the user * degree of the item)`, as in
a graph convolution (Kipf and Welling, ICLR 2017). The sums are torch's own `embedding_bag`, which
reads the rows of the other side and adds them up without a copy; the gradient is the same sum along
the edges in the other direction.

Shape legend: U users, N items, E edges, D coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from recsys.data.histories import Histories
from recsys.errors import ConfigError
from recsys.layers.spectrum import ROUNDING, told_fewer


class BipartiteGraph(nn.Module):
    """The distinct interactions of users and items, in both directions.

    The arrays are no part of a model's weights: they are made again from the data set.
    """

    user_offsets: Tensor
    user_items: Tensor
    user_weights: Tensor
    item_offsets: Tensor
    item_users: Tensor
    item_weights: Tensor
    user_degrees: Tensor
    """`[U]` float32."""
    item_degrees: Tensor
    """`[N]` float32."""

    def __init__(self, rows: Histories, num_users: int, num_items: int) -> None:
        """Args:
        rows: the interactions; what a user has several times is one edge.
        num_users: U.
        num_items: N.
        """
        super().__init__()
        owners = np.repeat(rows.users, rows.lengths)
        edges = np.unique(owners.astype(np.int64) * num_items + rows.items)
        users, items = edges // num_items, edges % num_items
        degrees = np.bincount(users, minlength=num_users), np.bincount(items, minlength=num_items)
        weights = (1.0 / np.sqrt(degrees[0][users] * degrees[1][items])).astype(np.float32)
        by_item = np.argsort(items, kind="stable")
        arrays = {
            "user_offsets": np.concatenate([[0], np.cumsum(degrees[0])]),
            "user_items": items,
            "user_weights": weights,
            "item_offsets": np.concatenate([[0], np.cumsum(degrees[1])]),
            "item_users": users[by_item],
            "item_weights": weights[by_item],
            "user_degrees": degrees[0].astype(np.float32),
            "item_degrees": degrees[1].astype(np.float32),
        }
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    @property
    def num_edges(self) -> int:
        """E."""
        return len(self.user_items)

    def of_users(self, items_ND: Tensor) -> Tensor:
        """`[N, D] -> [U, D]`: for each user the weighted sum of the items; differentiable."""
        return _sums(items_ND, self._to_users, self._to_items)

    def of_items(self, users_UD: Tensor) -> Tensor:
        """`[U, D] -> [N, D]`: for each item the weighted sum of the users; differentiable."""
        return _sums(users_UD, self._to_items, self._to_users)

    def propagate(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """One layer: both sides become the sums over the other."""
        return self.of_users(items), self.of_items(users)

    @property
    def _to_users(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.user_items, self.user_offsets, self.user_weights

    @property
    def _to_items(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.item_users, self.item_offsets, self.item_weights


Edges = tuple[Tensor, Tensor, Tensor]
"""Sources `[E]`, offsets `[rows + 1]` and weights `[E]`."""


def _sums(x: Tensor, forth: Edges, back: Edges) -> Tensor:
    apply: Callable[..., Tensor] = _NeighbourSums.apply
    return apply(x, forth, back)


class _NeighbourSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, forth: Edges, back: Edges) -> Tensor:
        ctx.back = back
        return _gather(x, forth)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _gather(grad, ctx.back), None, None


def _gather(x: Tensor, edges: Edges) -> Tensor:
    sources, offsets, weights = edges
    sums: Tensor = embedding_bag(
        sources,
        x.contiguous(),
        offsets,
        mode="sum",
        per_sample_weights=weights,
        include_last_offset=True,
    )
    return sums


def leading_directions(
    graph: BipartiteGraph, count: int, *, rounds: int = 6, extra: int = 16
) -> tuple[Tensor, Tensor, Tensor]:
    """The largest singular values of the graph's matrix, and their directions.

    Randomized subspace iteration (Halko, Martinsson and Tropp, SIAM Review 2011). Random numbers
    are torch's own.

    Args:
        graph: whose weighted adjacency `[U, N]` is meant.
        count: most that are wanted.
        rounds: products with the matrix and its transpose.
        extra: directions that are carried along and left out at the end.

    Returns:
        `values [K]` descending, `users [U, K]` and `items [N, K]`, each with orthonormal columns;
        K is `count`, or the rank of the matrix where that is less.
    """
    num_users, num_items = len(graph.user_degrees), len(graph.item_degrees)
    wide = min(count + extra, num_users, num_items)
    items = torch.randn(num_items, wide, device=graph.user_weights.device)
    items = torch.linalg.qr(items).Q
    for _ in range(rounds):
        items = torch.linalg.qr(graph.of_items(graph.of_users(items))).Q
    users = graph.of_users(items)
    squares, turn = torch.linalg.eigh((users.T @ users).double())
    found = min(count, int((squares > ROUNDING * squares[-1].clamp_min(0)).sum()))
    turn = turn.flip(1).float()[:, :found]
    values = squares.flip(0)[:found].sqrt().float()
    return values, (users @ turn) / values, items @ turn


@torch.no_grad()
def begin_spectral(
    graph: BipartiteGraph, users: Tensor | None, items: Tensor, std: float
) -> str | None:
    """Sets rows to the leading singular directions, the first of standard deviation `std`.

    A direction is weighed by the root of its singular value, so that scores of the rows are those
    of the truncated matrix. Coordinates beyond the rank of the graph keep their random values, made
    as small as the last direction: zeros would learn nothing, and larger ones would outweigh it.
    Rows without an edge, which no direction reaches, keep theirs as small as each direction: as
    zeros they had cosines whose first gradients left nothing of all others under a clipped norm.

    Args:
        graph: of the training rows.
        users: `[U, D]` random values of standard deviation `std`, written to; None: users have no
            rows.
        items: `[N, D]`, likewise.
        std: of the first coordinate.

    Returns:
        A sentence for the user, if there are fewer directions than coordinates.
    """
    values, left, right = leading_directions(graph, items.shape[1])
    count = len(values)
    if count:
        shares = (values / values[0]).sqrt()
        sides = (users, left, graph.user_degrees), (items, right, graph.item_degrees)
        for rows, directions, degrees in sides:
            if rows is None:
                continue
            found = directions * shares * std * len(rows) ** 0.5
            drawn = rows[:, :count] * shares
            rows[:, :count] = torch.where(degrees[:, None] > 0, found, drawn)
            rows[:, count:] *= shares[-1]
    return told_fewer(count, items.shape[1])


def checked_graph(graph: BipartiteGraph | None) -> BipartiteGraph:
    """The graph of a model.

    Raises:
        ConfigError: the model has not been told its rows.
    """
    if graph is None:
        raise ConfigError("a graph model was not told what it is fitted on; call note_rows first")
    return graph
