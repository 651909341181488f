"""Prefixes of tensors: truncation, norms and scores at every granularity.

`truncate` is the only place that takes a prefix of a tensor and normalizes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys.errors import GranularityError
from recsys.granularity import Granularities

_NORM_ROWS = 4096
_LEAST_SQUARE = 1e-24


def truncate(vectors: Tensor, size: int, *, normalize: bool = False) -> Tensor:
    """The prefix of `size` coordinates, renormalized if the model says so.

    Args:
        vectors: `[..., D]`.
        size: prefix length, 1..D (also one that was not trained).
        normalize: divide each prefix by its own L2 norm.

    Returns:
        `[..., size]`.

    Raises:
        GranularityError: `size` is outside 1..D.
    """
    if not 1 <= size <= vectors.shape[-1]:
        raise GranularityError(f"prefix of {size} coordinates asked of {vectors.shape[-1]}")
    prefix = vectors[..., :size]
    return torch.nn.functional.normalize(prefix, dim=-1) if normalize else prefix


def prefix_norms(vectors: Tensor, granularities: Granularities) -> Tensor:
    """L2 norm of every nested prefix: `[..., D]` -> `[G, ...]`, never below 1e-12."""
    apply: Callable[..., Tensor] = _PrefixNorms.apply
    return apply(vectors, granularities.slices)


class _PrefixNorms(torch.autograd.Function):
    """Norms of prefixes; the gradient is the only array as large as the vectors."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, slices: list[tuple[int, int]]) -> Tensor:
        squares = [
            torch.stack([block[:, lo:hi].square().sum(1) for lo, hi in slices])
            for block in vectors.reshape(-1, vectors.shape[-1]).split(_NORM_ROWS)
        ]
        norms = torch.cat(squares, dim=1).cumsum(0).clamp_min(_LEAST_SQUARE).sqrt()
        norms = norms.view(len(slices), *vectors.shape[:-1])
        ctx.save_for_backward(vectors, norms)
        ctx.slices = slices
        return norms

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        vectors, norms = ctx.saved_tensors
        # d norm_g / dv_j = v_j / norm_g for every g that holds j; none where the norm is clamped.
        pulls = (grad / norms).masked_fill_(norms <= _LEAST_SQUARE**0.5, 0.0)
        pulls = pulls.flip(0).cumsum(0).flip(0)
        result = torch.zeros_like(vectors)
        for (lo, hi), pull in zip(ctx.slices, pulls, strict=True):
            torch.mul(vectors[..., lo:hi], pull[..., None], out=result[..., lo:hi])
        return result, None


def prefix_products(
    users: Tensor, items: Tensor, slices: Iterable[tuple[int, int]]
) -> Iterator[Tensor]:
    """Dot products of every prefix for the multiplications of one, differentiable.

    `S_g = S_{g-1} + u[:, lo:hi] v[:, lo:hi]^T`.

    Args:
        users: `[..., T, D]`.
        items: `[..., N, D]`.
        slices: `(lo, hi)` of the coordinates that each granularity adds.

    Yields:
        `[..., T, N]`, a new tensor for each granularity, from the smallest to the largest.
    """
    products: Tensor | None = None
    for lo, hi in slices:
        added = users[..., lo:hi] @ items[..., lo:hi].mT
        products = added if products is None else products + added
        yield products


def prefix_logits(
    users: Tensor, items: Tensor, scales: Tensor, granularities: Granularities
) -> Iterator[Tensor]:
    """Scaled scores of every prefix, differentiable; cosines where prefixes are normalized.

    Args:
        users: `[..., T, D]`.
        items: `[..., N, D]`.
        scales: `[G]`.
        granularities: the prefixes, ascending.

    Yields:
        `[..., T, N]`, a new tensor for each granularity, from the smallest to the largest.
    """
    norms = None
    if granularities.normalize:
        norms = prefix_norms(users, granularities), prefix_norms(items, granularities)
    for g, products in enumerate(prefix_products(users, items, granularities.slices)):
        logits = products * scales[g]
        if norms is not None:
            logits = logits / norms[0][g][..., :, None] / norms[1][g][..., None, :]
        yield logits


def add_prefix_products(
    scores: Tensor, users: Tensor, items: Tensor, slices: Iterable[tuple[int, int]]
) -> Iterator[Tensor]:
    """As `prefix_products`, without gradients and in place: adds to `scores [T, N]`, yields it.

    Take what you need before the next step.
    """
    for lo, hi in slices:
        yield scores.addmm_(users[:, lo:hi], items[:, lo:hi].T)


def prefix_scores(
    users: Tensor,
    items: Tensor,
    granularities: Granularities,
    *,
    item_norms: Tensor | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Scores of every granularity for the multiplications of one.

    `S_g = S_{g-1} + u[:, lo:hi] v[:, lo:hi]^T`. The yielded tensor is used again: take what you
    need before the next step, and do not write to it.

    Normalized scores are divided by the norms of the items' prefixes, not by those of the users':
    each row is the cosine times a number of its own, which ranks the same and saves a pass.

    Args:
        users: `[B, D]`.
        items: `[N, D]`.
        granularities: the prefixes, ascending.
        item_norms: `[G, N]` as `prefix_norms` gives them, when they are known already.

    Yields:
        `(size, scores [B, N])` from the smallest granularity to the largest.
    """
    sums = torch.zeros(users.shape[0], items.shape[0], dtype=users.dtype, device=users.device)
    if granularities.normalize and item_norms is None:
        item_norms = prefix_norms(items, granularities)
    scaled = torch.empty_like(sums) if granularities.normalize else sums
    sizes = granularities.sizes
    for g, _ in enumerate(add_prefix_products(sums, users, items, granularities.slices)):
        if item_norms is not None and granularities.normalize:
            torch.div(sums, item_norms[g], out=scaled)
        yield sizes[g], scaled
