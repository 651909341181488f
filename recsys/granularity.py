"""Granularities: the nested prefix lengths of a vector, and the only way to take a prefix.

Reference: Kusupati et al., Matryoshka Representation Learning, NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys.config import StrictModel
from recsys.errors import GranularityError

_NORM_ROWS = 4096
_LEAST_SQUARE = 1e-24


class Granularities(StrictModel):
    """Nested prefix lengths with what the loss needs to know of each.

    Shape legend: G granularities, D = `embedding_dim` = the last size.
    """

    sizes: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    """Prefix lengths, strictly ascending; the last one is the embedding_dim."""
    weights: tuple[float, ...] | None = None
    """Loss weight per granularity; None weighs all alike. Normalized to sum to 1 in the loss."""
    normalize: bool = False
    """Each prefix is divided by its own L2 norm before scores are taken (cosine scores)."""
    learned_scale: bool = False
    """Scores of each granularity are multiplied by a learned scale (an inverse temperature)."""
    initial_scale: float = Field(default=1.0, gt=0)
    """Value the scale of every granularity starts at (and keeps, when it is not learned)."""

    @field_validator("sizes")
    @classmethod
    def _ascending(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if not sizes or sizes[0] < 1 or any(b <= a for a, b in pairwise(sizes)):
            raise ValueError(
                f"granularities must be positive and strictly ascending, found {sizes}"
            )
        return sizes

    @model_validator(mode="after")
    def _one_weight_each(self) -> Granularities:
        if self.weights is not None and len(self.weights) != len(self.sizes):
            raise ValueError(f"{len(self.weights)} weights for {len(self.sizes)} granularities")
        if self.weights is not None and (min(self.weights) < 0 or sum(self.weights) <= 0):
            raise ValueError(f"weights must be >= 0 with a positive sum, found {self.weights}")
        return self

    @property
    def embedding_dim(self) -> int:
        """D, the full length."""
        return self.sizes[-1]

    @property
    def slices(self) -> list[tuple[int, int]]:
        """The disjoint coordinate slices `[lo, hi)` between consecutive granularities."""
        return list(zip((0, *self.sizes[:-1]), self.sizes, strict=True))

    @property
    def normalized_weights(self) -> tuple[float, ...]:
        """Loss weights that sum to 1."""
        raw = self.weights or (1.0,) * len(self.sizes)
        return tuple(weight / sum(raw) for weight in raw)

    @property
    def given(self) -> dict[str, Any]:
        """The fields that were named when this was made; the others are defaults."""
        return {name: getattr(self, name) for name in sorted(self.model_fields_set)}

    def inherit(self, other: Granularities) -> Granularities:
        """The same sizes, with every field that was not named taken from `other`.

        Weights belong to sizes: they are taken over where the sizes are the same.
        """
        taken = {name: getattr(other, name) for name in type(self).model_fields}
        if "sizes" in self.model_fields_set and self.sizes != other.sizes:
            taken["weights"] = None
        return Granularities.model_validate(taken | self.given)

    def __len__(self) -> int:
        return len(self.sizes)

    def index(self, size: int, where: str = "this model") -> int:
        """Position of `size` among the granularities.

        Raises:
            GranularityError: `size` is not one of them.
        """
        if size not in self.sizes:
            raise GranularityError(
                f"granularity {size} is not among {self.sizes} in {where}; "
                "choose one of these or retrain"
            )
        return self.sizes.index(size)


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
    """Takes no memory as large as the vectors but for their gradient, once."""

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
    for g, (lo, hi) in enumerate(granularities.slices):
        sums.addmm_(users[:, lo:hi], items[:, lo:hi].T)
        if item_norms is not None and granularities.normalize:
            torch.div(sums, item_norms[g], out=scaled)
        yield hi, scaled
