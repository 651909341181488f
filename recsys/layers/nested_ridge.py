"""Users by implicit least squares on their items' vectors, at every prefix at once.

For a user with the items I, all items A and the prefixes g with weights w_g, the vector u minimizes

    sum_g w_g [ sum_{i in I} (1 - u_g v_ig)^2 + alpha sum_{i in A} (u_g v_ig)^2 + ridge |u_g|^2 ]

One prefix is the objective of Hu et al., ICDM 2008, in the form of Rendle et al., RecSys 2022. With
several it is still one linear system: coordinates a and b meet in all prefixes that hold both, so
entry (a, b) of the Gram matrices is multiplied by the weight of these prefixes. It is solved by
conjugate gradients, preconditioned by the part of the system that all users share, which is
inverted exactly through its eigenvectors. What is left is of the rank of a history, so few steps
do. Everything is a product of matrices, which ONNX holds too.

Shape legend: B users, L longest history, N items, D coordinates, G granularities.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys.granularity import Granularities

_LEAST = 1e-20


@dataclass(frozen=True)
class RidgeOptions:
    """The constants of the least squares of one side."""

    alpha: float
    """Weight of what a user has not had, where what was had weighs 1 more."""
    ridge: float
    """Strength of the regularization."""
    exponent: float
    """A vector's regularization grows with (its interactions + alpha N) to this power."""
    steps: int
    """Of conjugate gradients."""


class NestedRidge(nn.Module):
    """`vectors [B, L, D]` (zeros behind `lengths [B]`) -> users `[B, D]`."""

    whole: Tensor
    basis: Tensor
    values: Tensor
    weights: Tensor

    def __init__(
        self,
        items: Tensor,
        granularities: Granularities,
        options: RidgeOptions,
        missing: Tensor | None = None,
    ) -> None:
        """Args:
        items: `[N, D]` the vectors of all items.
        granularities: the prefixes and their weights.
        options: the constants.
        missing: `[N]` by which alpha is multiplied for each item; None: 1.
        """
        super().__init__()
        self.slices, self.options, self.num_items = granularities.slices, options, len(items)
        self.shares = granularities.normalized_weights
        with torch.no_grad():
            held = torch.tensor(self.shares, device=items.device).flip(0).cumsum(0).flip(0)
            widths = torch.tensor([hi - lo for lo, hi in self.slices], device=items.device)
            block = torch.arange(len(held), device=items.device).repeat_interleave(widths)
            weights = held[block]
            together = held[torch.maximum(block[:, None], block)]
            scaled = items if missing is None else items * missing[:, None]
            whole = options.alpha * together * (scaled.T @ items)
            root = weights.sqrt()
            # float64: eigenvalues span many powers of ten.
            values, vectors = torch.linalg.eigh((whole / root[:, None] / root).double().cpu())
            basis = vectors.to(items.dtype).to(items.device) / root[:, None]
        self.register_buffer("whole", whole)
        self.register_buffer("basis", basis)
        self.register_buffer("values", values.clamp_min(0).to(items.dtype).to(items.device))
        self.register_buffer("weights", weights)

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Users from nothing but what they have had."""
        return self.solve(vectors, lengths, vectors.sum(1), None)

    def solve(
        self,
        vectors: Tensor,
        lengths: Tensor,
        sums: Tensor,
        start: Tensor | None,
        missing: Tensor | None = None,
    ) -> Tensor:
        """Users, from a first guess `start [B, D]` where there is one.

        Padding is zeros, which add nothing to any sum. Where the squares of item i weigh c_i, give
        vectors times the root of c_i, here and to `__init__`.

        Args:
            vectors: `[B, L, D]`.
            lengths: `[B]`.
            sums: `[B, D]` of the vectors, each times the root of its weight.
            start: `[B, D]`.
            missing: `[B, 1]` by which alpha is multiplied for each of those that are solved for;
                None: 1.
        """
        shared = 1.0 if missing is None else missing
        counts = lengths.to(vectors.dtype) + self.options.alpha * self.num_items
        ridge = (self.options.ridge * counts**self.options.exponent)[:, None]
        residual = sums * self.weights
        if start is None:
            users = torch.zeros_like(residual)
        else:
            users, residual = start, residual - self._times(vectors, start, ridge, shared)
        ready = self._invert(residual, ridge, shared)
        direction, level = ready, (residual * ready).sum(1, keepdim=True)
        for step in range(self.options.steps):
            image = self._times(vectors, direction, ridge, shared)
            length = level / (direction * image).sum(1, keepdim=True).clamp_min(_LEAST)
            users = users + length * direction
            if step + 1 == self.options.steps:
                break
            residual = residual - length * image
            ready = self._invert(residual, ridge, shared)
            before, level = level, (residual * ready).sum(1, keepdim=True)
            direction = ready + level / before.clamp_min(_LEAST) * direction
        return users

    def _times(
        self, vectors: Tensor, users: Tensor, ridge: Tensor, shared: Tensor | float
    ) -> Tensor:
        """The matrix of each user's system times `users [B, D]`."""
        common = shared * (users @ self.whole) + ridge * self.weights * users
        scores = [
            torch.bmm(vectors[:, :, lo:hi], users[:, lo:hi, None]).squeeze(2)
            for lo, hi in self.slices
        ]
        for g in range(1, len(scores)):
            scores[g] = scores[g] + scores[g - 1]
        # What a slice is multiplied by: the scores of all prefixes that hold it, by their weights.
        factors = [share * score for share, score in zip(self.shares, scores, strict=True)]
        for g in range(len(factors) - 2, -1, -1):
            factors[g] = factors[g] + factors[g + 1]
        own = [
            torch.bmm(factor[:, None], vectors[:, :, lo:hi]).squeeze(1)
            for factor, (lo, hi) in zip(factors, self.slices, strict=True)
        ]
        return common + torch.cat(own, dim=1)

    def _invert(self, residual: Tensor, ridge: Tensor, shared: Tensor | float) -> Tensor:
        """The inverse of the part that all users share, times `residual [B, D]`."""
        inner: Tensor = (residual @ self.basis) / (shared * self.values + ridge)
        return inner @ self.basis.T
